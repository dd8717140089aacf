"""Two policies compared by rule: what was added, removed, changed; lines that moved are neither."""

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from authz.policy.rules import Row

__all__ = ["Change", "Kind", "changes", "count_lines", "words"]

# A rule that differs from another in more values than this is another rule.
_MOST_CHANGED = 2

Key = tuple[str, tuple[str, ...]]


class Kind(enum.StrEnum):
    """What happened to a line."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One line that isn't the same in both policies.

    Attributes:
        old: As it was; None for an added one.
        new: As it is; None for a removed one.
    """

    old: Row | None
    new: Row | None

    @property
    def kind(self) -> Kind:
        """What happened."""
        if self.old is None:
            return Kind.ADDED
        return Kind.REMOVED if self.new is None else Kind.CHANGED

    @property
    def row(self) -> Row:
        """The line as it is, or was."""
        row = self.old if self.new is None else self.new
        if row is None:
            raise ValueError("a change is of one line at least")
        return row


def words(row: Row) -> tuple[str, ...]:
    """Type and values of a line, without what it left off."""
    values = row.values[:-1] if row.values and row.values[-1] == "" else row.values
    return (row.ptype, *values)


def changes(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """Compare two policies line by line, whatever the order.

    Returns:
        Changes in the order of the new policy, then what was removed in the order of the old one.

    Cost: O(rows).
    """
    removed = _without(old, new)
    added = _without(new, old)
    paired: dict[int, Row] = {}
    for differing in range(1, _MOST_CHANGED + 1):
        _pair(removed, added, paired, differing)
    gone = {id(row) for row in paired.values()}
    found = [Change(paired.get(id(row)), row) for row in added]
    return found + [Change(row, None) for row in removed if id(row) not in gone]


def count_lines(old: Sequence[Row], new: Sequence[Row]) -> tuple[int, int]:
    """How many lines only the new policy has, and how many only the old one.

    Cost: O(rows).
    """
    was, now = (Counter(words(row) for row in rows) for rows in (old, new))
    return (now - was).total(), (was - now).total()


def _without(rows: Sequence[Row], others: Iterable[Row]) -> list[Row]:
    """The rows that the others don't have as often; the last ones of several."""
    counts = Counter(words(row) for row in others)
    left: list[Row] = []
    for row in rows:
        key = words(row)
        if counts[key]:
            counts[key] -= 1
        else:
            left.append(row)
    return left


def _pair(
    removed: Sequence[Row], added: Sequence[Row], paired: dict[int, Row], differing: int
) -> None:
    """Pair lines that differ in so many values, each once."""
    taken = {id(row) for row in paired.values()}
    waiting: dict[tuple[object, ...], list[Row]] = {}
    for row in reversed(removed):
        if id(row) not in taken:
            for key in _keys(row, differing):
                waiting.setdefault(key, []).append(row)
    for row in added:
        if id(row) in paired:
            continue
        for key in _keys(row, differing):
            candidates = waiting.get(key, [])
            while candidates and id(candidates[-1]) in taken:
                candidates.pop()
            if candidates:
                paired[id(row)] = candidates[-1]
                taken.add(id(candidates[-1]))
                break


def _keys(row: Row, differing: int) -> Iterator[tuple[object, ...]]:
    """A line without each choice of so many of its values."""
    values = (row.ptype, *row.values)
    if row.ptype[0] == "g" and differing > 1:
        return
    # From the right: a rule with another condition or effect is the same rule sooner than one for
    # another caller.
    for left_out in combinations(range(len(values) - 1, 0, -1), differing):
        if differing < len(values) - 1:
            kept = [value for at, value in enumerate(values) if at not in left_out]
            yield (left_out, *kept)
