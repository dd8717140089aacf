"""Which patterns of segments cover which, and what two of them share.

`covers(a, b)` is a proof: every text that fits `b` fits `a`. Where it says no, there may be a
covering that takes several alternatives together to see; nobody is told anything wrong then, only
less.
"""

from collections.abc import Iterator

from authz.policy.segments import MANY, ONE, Part, Segments, Wild

__all__ = ["covers", "meet", "part_covers", "parts_meet"]

Step = str | Part | Wild


def covers(wide: Segments, narrow: Segments) -> bool:
    """Whether every value that fits the second pattern fits the first.

    Follows the narrow pattern with all the places that the wide one could then be at: a step of the
    narrow one moves a place only if *every* segment it stands for does.

    Cost: O(narrow x sets of places met), a handful for patterns that people write.
    """
    start = _standing({0}, wide)
    seen = {(0, start)}
    waiting = [(0, start)]
    while waiting:
        at, places = waiting.pop()
        if at == len(narrow):
            if len(wide) not in places:
                return False
            continue
        step = narrow[at]
        following = [(at + 1, _moved(places, wide, step))]
        if step is MANY:
            following = [(at + 1, places), (at, following[0][1])]
        for each in following:
            if each not in seen:
                if not each[1]:
                    # No place is left for something that the narrow pattern goes on to match.
                    return False
                seen.add(each)
                waiting.append(each)
    return True


def _standing(places: set[int], pattern: Segments) -> frozenset[int]:
    """The places, and those behind a `**` that may stand for nothing."""
    found = set(places)
    for place in sorted(places):
        at = place
        while at < len(pattern) and pattern[at] is MANY:
            at += 1
            found.add(at)
    return frozenset(found)


def _moved(places: frozenset[int], wide: Segments, step: Step) -> frozenset[int]:
    """Where the wide pattern is after any one segment that the step stands for."""
    moved: set[int] = set()
    for place in places:
        if place == len(wide):
            continue
        mine = wide[place]
        if mine is MANY:
            moved.add(place)
        elif _step_covers(mine, step):
            moved.add(place + 1)
    return _standing(moved, wide)


def _step_covers(wide: Step, narrow: Step) -> bool:
    """Whether one segment's pattern takes every segment that the other does."""
    if narrow is MANY:
        return False
    if wide is ONE:
        # A Part has at least one character that is no star.
        return narrow is ONE or isinstance(narrow, Part) or narrow != ""
    if isinstance(wide, Part):
        if isinstance(narrow, str):
            return wide.matches(narrow)
        return isinstance(narrow, Part) and part_covers(wide, narrow)
    return wide == narrow


def part_covers(wide: Part, narrow: Part) -> bool:
    """Whether every text of the second shape has the first.

    A character that the wide shape doesn't have can only fall to one of its stars; so can then any
    other text in that place.
    """
    fresh = "\0"
    while any(fresh in piece for piece in wide.pieces):
        fresh = chr(ord(fresh) + 1)
    return wide.matches(fresh.join(narrow.pieces))


def parts_meet(one: Part, other: Part) -> str | None:
    """A text that has both shapes, or None if there is none."""
    first, *inner, last = one.pieces
    other_first, *other_inner, other_last = other.pieces
    begins = max(first, other_first, key=len)
    ends = max(last, other_last, key=len)
    if not begins.startswith(min(first, other_first, key=len)):
        return None
    if not ends.endswith(min(last, other_last, key=len)):
        return None
    return "".join((begins, *inner, *other_inner, ends))


def meet(one: Segments, other: Segments, word: str = "x") -> str | None:
    """A value that fits both patterns, or None if there is none.

    Args:
        one: A pattern.
        other: Another.
        word: What stands where both leave a segment open.

    Cost: O(one x other).
    """
    # Breadth first, so that the shortest comes: each place of both with how it was come by.
    start = (0, 0)
    came: dict[tuple[int, int], tuple[tuple[int, int], str | None]] = {}
    waiting = [start]
    seen = {start}
    for place in waiting:
        if place == (len(one), len(other)):
            return "/".join(_way_back(place, came))
        for following, segment in _steps(place, one, other, word):
            if following not in seen:
                seen.add(following)
                came[following] = (place, segment)
                waiting.append(following)
    return None


def _way_back(
    place: tuple[int, int], came: dict[tuple[int, int], tuple[tuple[int, int], str | None]]
) -> list[str]:
    segments: list[str] = []
    while place in came:
        place, segment = came[place]
        if segment is not None:
            segments.append(segment)
    return segments[::-1]


def _steps(
    place: tuple[int, int], one: Segments, other: Segments, word: str
) -> Iterator[tuple[tuple[int, int], str | None]]:
    """The places that follow, each with the segment that leads there; None for no segment."""
    at, other_at = place
    mine = one[at] if at < len(one) else None
    others = other[other_at] if other_at < len(other) else None
    if mine is MANY:
        yield (at + 1, other_at), None
    if others is MANY:
        yield (at, other_at + 1), None
    if mine is None or others is None:
        return
    segment = _segment(mine, others, word)
    if segment is not None:
        yield (at + (mine is not MANY), other_at + (others is not MANY)), segment


def _segment(one: Step, other: Step, word: str) -> str | None:
    """A segment that fits both steps."""
    if isinstance(one, str):
        return one if _takes(other, one) else None
    if isinstance(other, str):
        return other if _takes(one, other) else None
    if isinstance(one, Part):
        return parts_meet(one, other) if isinstance(other, Part) else word.join(one.pieces)
    return word.join(other.pieces) if isinstance(other, Part) else word


def _takes(step: Step, segment: str) -> bool:
    """Whether a step matches one segment spelt out."""
    return step is MANY or _step_covers(step, segment)
