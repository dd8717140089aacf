"""Who a WHO column stands for: names and patterns of names, roles followed to their members."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from authz.authoring.shapes import covers, meet
from authz.policy.rules import Row
from authz.policy.segments import ONE, Segments, matches, parse_segments

__all__ = ["Callers", "Who", "generic", "is_wild"]

# As far as the engine follows roles; what is farther away has no role.
_MAX_LINKS = 9


def is_wild(text: str) -> bool:
    """Whether a pattern of segments stands for more than itself."""
    return "*" in text or "{" in text


def generic(pattern: Segments, word: str = "x") -> str:
    """A value that fits a pattern, and hardly any other that isn't wider."""
    return "/".join(
        each if isinstance(each, str) else word.join(getattr(each, "pieces", ("", "")))
        for each in pattern
    )


@dataclass(frozen=True, slots=True)
class Who:
    """Callers, as a set of names.

    Attributes:
        anybody: Everybody, also who shows no credential.
        names: Single names.
        patterns: Patterns of names, by their text.
    """

    anybody: bool = False
    names: frozenset[str] = frozenset()
    patterns: tuple[tuple[str, Segments], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it is nobody."""
        return not (self.anybody or self.names or self.patterns)

    def has(self, name: str) -> bool:
        """Whether a name, which is never empty, is in it."""
        return (
            self.anybody
            or name in self.names
            or any(matches(form, name) for _, form in self.patterns)
        )

    def covers(self, other: "Who") -> bool:
        """Whether it has everybody that the other has: a proof, see `shapes`."""
        if self.anybody:
            return True
        if other.anybody:
            return False
        if not all(name in self.names or self.has(name) for name in other.names):
            return False
        return all(
            any(text == mine or covers(form, pattern) for mine, form in self.patterns)
            for text, pattern in other.patterns
        )

    def shared(self, other: "Who") -> str | None:
        """A name that both have, or None if none is found."""
        if other.anybody:
            return self.some()
        if self.anybody:
            return other.some()
        found = next((name for name in self.names if other.has(name)), None)
        found = found or next((name for name in other.names if self.has(name)), None)
        if found is not None:
            return found
        for _, mine in self.patterns:
            for _, form in other.patterns:
                met = meet(mine, form)
                if met:
                    return met
        return None

    def may_meet(self, other: "Who") -> bool:
        """Whether one caller may be in both, by one name or as a workload that calls for a user."""
        if self.anybody or other.anybody or self.shared(other) is not None:
            return True
        return len(self.kinds | other.kinds) > 1

    @property
    def kinds(self) -> set[str]:
        """Whether it has users, or workloads, or both."""
        texts = (*self.names, *(text for text, _ in self.patterns))
        return {"user" if text.startswith("user:") else "workload" for text in texts}

    def some(self) -> str | None:
        """A name in it; None if it has none that could be named."""
        if self.names:
            return min(self.names)
        return generic(_with_one(self.patterns[0][1])) if self.patterns else None


def _with_one(pattern: Segments) -> Segments:
    return tuple(
        [each if isinstance(each, str) or hasattr(each, "pieces") else ONE for each in pattern]
    )


class Callers:
    """Works out who the WHO columns of one policy stand for, and remembers it.

    Args:
        links: Rows that give roles, whole.
    """

    def __init__(self, links: Iterable[Row]) -> None:
        self.members: dict[str, list[str]] = {}
        self._given: dict[str, list[str]] = {}
        for row in links:
            member, role = row.values[:2]
            self.members.setdefault(role, []).append(member)
            self._given.setdefault(member, []).append(role)
        # The few members that are patterns which a role's name could fit.
        self._loose = {
            member: form
            for member in self._given
            if (form := _form(member)) is not None and _may_fit_a_role(form)
        }
        self._known: dict[str, Who] = {}
        self._covering: dict[tuple[str, str], bool] = {}

    def of(self, who: str) -> Who:
        """The callers that a WHO column, or the member of a role, stands for."""
        found = self._known.get(who)
        if found is None:
            found = self._known[who] = self._made(who)
        return found

    def covers(self, wide: str, narrow: str) -> bool:
        """Whether everybody in the second column is in the first."""
        if wide in {narrow, "*"}:
            return True
        key = (wide, narrow)
        found = self._covering.get(key)
        if found is None:
            found = self._covering[key] = self.of(wide).covers(self.of(narrow))
        return found

    def roles_of(self, role: str) -> set[str]:
        """Every role that somebody has who has this one, itself included."""
        found = {role}
        waiting = [role]
        while waiting:
            name = waiting.pop()
            like = [member for member, form in self._loose.items() if matches(form, name)]
            for member in (name, *like):
                for other in self._given.get(member, ()):
                    if other not in found:
                        found.add(other)
                        waiting.append(other)
        return found

    def _made(self, who: str) -> Who:
        if who == "*":
            return Who(anybody=True)
        if not who.startswith("role:"):
            if is_wild(who):
                return Who(patterns=((who, parse_segments(who)),))
            return Who(names=frozenset((who,)))
        names: set[str] = set()
        patterns: dict[str, Segments] = {}
        for member in self._members_of(who):
            if is_wild(member):
                patterns[member] = parse_segments(member)
            else:
                names.add(member)
        return Who(names=frozenset(names), patterns=tuple(sorted(patterns.items())))

    def _members_of(self, role: str) -> Iterator[str]:
        """Everybody who has a role, level by level, roles themselves left out."""
        seen = {role}
        level = [role]
        for _ in range(_MAX_LINKS):
            members = [member for each in level for member in self.members.get(each, ())]
            following = [member for member in members if member.startswith("role:")]
            for member in members:
                if not member.startswith("role:"):
                    yield member
                if member in self._loose:
                    # A pattern may fit the name of a role, and then all who have that.
                    following += filter(partial(matches, self._loose[member]), self.members)
            level = [each for each in dict.fromkeys(following) if each not in seen]
            seen.update(level)


def _form(text: str) -> Segments | None:
    """The pattern that a member is; None for a role or a plain name."""
    return None if text.startswith("role:") or not is_wild(text) else parse_segments(text)


def _may_fit_a_role(form: Segments) -> bool:
    return not isinstance(form[0], str) or form[0].startswith("role:")
