"""Patterns made of segments between slashes.

`*` alone is one non-empty segment, `**` alone any number of them (none too), `{name}` is one
segment, and `*` beside other characters stands for any run of characters within the segment.
Everything else is itself. A pattern speaks of the whole value: nothing may come before or after.
"""

from dataclasses import dataclass

from authz.policy.errors import ExpressionError

__all__ = ["MANY", "ONE", "REST", "Part", "Segments", "fit", "matches", "parse_segments"]


@dataclass(frozen=True, slots=True)
class Wild:
    """A segment, or a run of them, that is not spelt out."""

    name: str


ONE = Wild("one")
"""Exactly one segment that is not empty."""
MANY = Wild("many")
"""Any number of segments, also none."""
REST = Wild("rest")
"""Everything that is left: one segment or more, empty ones too. Stands last."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment with `*` in it.

    Attributes:
        pieces: The text between the stars, in order; the first and last may be empty.
    """

    pieces: tuple[str, ...]

    def matches(self, segment: str) -> bool:
        """Whether the segment has the pieces in order, anchored at both ends.

        Cost: O(pieces x length); taking the leftmost place for each piece never needs a second try.
        """
        first, *middle, last = self.pieces
        if len(segment) < len(first) + len(last):
            return False
        if not segment.startswith(first) or not segment.endswith(last):
            return False
        at, end = len(first), len(segment) - len(last)
        for piece in middle:
            found = segment.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return at <= end


Segments = tuple[str | Part | Wild, ...]


def parse_segments(text: str) -> Segments:
    """Read a pattern.

    Raises:
        ExpressionError: A `**` or a brace that is not a segment by itself.
    """
    parts = text.split("/")
    if "*" not in text and "{" not in text and "}" not in text:
        return tuple(parts)
    return tuple([_segment(part) for part in parts])


def _segment(text: str) -> str | Part | Wild:
    if "*" not in text and "{" not in text and "}" not in text:
        return text
    if text == "*":
        return ONE
    if text == "**":
        return MANY
    if "**" in text:
        raise ExpressionError(f"{text[:40]!r}: ** stands alone between slashes")
    if "{" in text or "}" in text:
        name = text[1:-1]
        if text[:1] != "{" or text[-1:] != "}" or not name.replace("-", "_").isidentifier():
            raise ExpressionError(f"{text[:40]!r}: {{name}} stands alone between slashes")
        return ONE
    return Part(tuple(text.split("*")))


def matches(pattern: Segments, value: str) -> bool:
    """Whether the whole value fits the pattern.

    Cost: O(pattern x segments of the value); no choice is tried twice.
    """
    return fit(pattern, value.split("/"), 0)


def fit(pattern: Segments, parts: list[str], at: int) -> bool:
    """Whether the segments of a value, from one of them on, fit a pattern to their end."""
    size = len(parts)
    for step, segment in enumerate(pattern):
        if type(segment) is str:
            if at >= size or parts[at] != segment:
                return False
        elif segment is ONE:
            if at >= size or not parts[at]:
                return False
        elif segment is REST:
            return at < size
        elif segment is MANY:
            return step == len(pattern) - 1 or _fit_many(pattern[step:], parts, at)
        elif at >= size or not segment.matches(parts[at]):  # type: ignore[union-attr]  # a Part
            return False
        at += 1
    return at == size


def _fit_many(pattern: Segments, parts: list[str], start: int) -> bool:
    """Match from a `**` on: the leftmost place for what stands between two never needs another try.

    Cost: O(segments of the value x segments between two `**`).
    """
    runs: list[Segments] = []
    begun = 1
    for at, segment in enumerate(pattern):
        if segment is MANY and at:
            runs.append(pattern[begun:at])
            begun = at + 1
    last = pattern[begun:]
    size = len(parts)
    for run in runs:
        found = _place_of(run, parts, start)
        if found < 0:
            return False
        start = found + len(run)
    if last and last[-1] is REST:
        # Any number of segments may come after it, one at least.
        last = last[:-1]
        return any(_fits_at(last, parts, at) for at in range(start, size - len(last)))
    return start <= size - len(last) and _fits_at(last, parts, size - len(last))


def _place_of(run: Segments, parts: list[str], start: int) -> int:
    """The first place, from one on, where a run of a pattern fits; -1 if there is none."""
    if not run:
        return start
    first = run[0]
    at, end = start, len(parts) - len(run) + 1
    while at < end:
        if isinstance(first, str):
            try:
                at = parts.index(first, at, end)
            except ValueError:
                return -1
        if _fits_at(run, parts, at):
            return at
        at += 1
    return -1


def _fits_at(run: Segments, parts: list[str], at: int) -> bool:
    """Whether the segments of a value from one on begin with a run of a pattern."""
    if at + len(run) > len(parts):
        return False
    return all(_fits(segment, parts[at + offset]) for offset, segment in enumerate(run))


def _fits(segment: str | Part | Wild, part: str) -> bool:
    if segment is ONE:
        return bool(part)
    if isinstance(segment, Part):
        return segment.matches(part)
    return segment == part
