"""Patterns of segments as one tree, walked once for a value whatever the number of patterns."""

from collections.abc import Sequence
from typing import Any

from authz.policy.segments import MANY, ONE, REST, Segments, fit
from authz.policy.shapes import Shapes

__all__ = ["SegmentTree"]

# A value of more segments than a path has is taken to repeat itself.
_LONG = 64
# How many places are remembered while one value is looked at.
_MOST_KEPT = 100_000


class _Alone:
    """What is left of a pattern that shares its place with no other: no nodes until one comes."""

    __slots__ = ("left", "text")

    def __init__(self, left: Segments, text: str) -> None:
        self.left = left
        self.text = text


class _Node:
    """One place in the tree: what may follow, and which patterns end here.

    Attributes:
        literal: By the segment spelt out; None while there is none.
        ends: Patterns that end here.
        wild: Everything less common; None for most nodes.
    """

    __slots__ = ("ends", "literal", "wild")

    def __init__(self, wild: "_Wild | None" = None) -> None:
        self.literal: dict[str, _Node | _Alone] | None = None
        self.ends: list[str] | None = None
        self.wild = wild


class _Wild:
    """What may follow a node without being spelt out.

    Attributes:
        one: Behind any segment that is not empty.
        parts: Behind segments of a shape.
        many: Behind any number of segments.
        loops: Whether the node itself stands behind `**`, and so stays for any segment.
        tail: Patterns that match whatever follows, nothing too.
        rest: Patterns that match whatever follows, one segment at least.
    """

    __slots__ = ("loops", "many", "one", "parts", "rest", "tail")

    def __init__(self, *, loops: bool = False) -> None:
        self.one: _Node | None = None
        self.parts: Shapes[_Node] | None = None
        self.many: _Node | None = None
        self.loops = loops
        self.tail: list[str] | None = None
        self.rest: list[str] | None = None


# The places that a prefix of a value can be at, in the order in which they were reached.
Places = dict[_Node, None]


class SegmentTree:
    """A set of patterns by their segments, each with a text that stands for it."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, pattern: Segments, text: str) -> None:
        """Add one pattern. Cost: O(segments)."""
        _add(self._root, pattern, text, looped=False)

    def discard(self, pattern: Segments, text: str) -> None:
        """Remove one pattern; the nodes on its way stay for the next."""
        node = self._root
        for at, step in enumerate(pattern):
            if step is MANY and at + 1 == len(pattern):
                _wild(node).tail = _without(_wild(node).tail, text)
                return
            if step is REST:
                _wild(node).rest = _without(_wild(node).rest, text)
                return
            if isinstance(step, str):
                literal = node.literal or {}
                child = literal[step]
                if isinstance(child, _Alone):
                    del literal[step]
                    return
                node = child
            else:
                node = _follow(node, step)
        node.ends = _without(node.ends, text)

    def find(self, value: str, found: list[str]) -> None:
        """Append the text of every pattern that matches.

        Cost: O(segments of the value x places that a prefix of it can be at).
        """
        parts = value.split("/")
        node = self._root
        at = 0
        # Most of the way there is one place to be, and all that follows it is spelt out.
        while node.wild is None:
            if at == len(parts):
                found += node.ends or ()
                return
            child = None if node.literal is None else node.literal.get(parts[at])
            at += 1
            if child is None:
                return
            if type(child) is _Alone:
                if fit(child.left, parts, at):
                    found.append(child.text)
                return
            node = child  # type: ignore[assignment]  # what is not alone is a node
        places: Places = {}
        _enter(node, places)
        if len(parts) - at > _LONG:
            places = _walked(places, parts, at, found)
        else:
            for each in range(at, len(parts)):
                places = _stepped(places, parts, each, found)
                if not places:
                    return
        _end(places, found)


def _end(places: Places, found: list[str]) -> None:
    """Stand where the value ends."""
    for node in places:
        found += node.ends or ()
        if node.wild is not None and node.wild.tail is not None:
            found += node.wild.tail


class _Step:
    """Where a segment leads to from some places, which it does again.

    Attributes:
        ahead: The places, and the steps that are known from there.
        alone: What is left of patterns, by how many segments it takes.
    """

    __slots__ = ("ahead", "alone")

    def __init__(self, ahead: "_Standing", alone: Sequence[_Alone]) -> None:
        self.ahead = ahead
        self.alone: dict[int, list[_Alone]] = {}
        for each in alone:
            self.alone.setdefault(len(each.left), []).append(each)


class _Standing:
    """Places, and the steps that are known from there."""

    __slots__ = ("places", "steps")

    def __init__(self, places: Places) -> None:
        self.places = places
        self.steps: dict[str, _Step] = {}


def _walked(places: Places, parts: list[str], at: int, found: list[str]) -> Places:
    """Go through a value of very many segments, one that repeats itself.

    A segment that was met at the same places before leads to where it did: else a caller could have
    every pattern behind a `**` looked at for each of thirty thousand segments.
    """
    size = len(parts)
    standing = _Standing(places)
    known = {tuple(places): standing}
    room = _MOST_KEPT
    for each in range(at, size):
        part = parts[each]
        step = standing.steps.get(part)
        if step is None:
            alone: list[_Alone] = []
            ahead = _stepped(standing.places, parts, each, found, alone)
            if any(_is_open(child.left) for child in alone):
                # Above every `**` no place is met again.
                found += [child.text for child in alone if fit(child.left, parts, each + 1)]
                alone = []
            key = tuple(ahead)
            following = known.get(key) or _Standing(ahead)
            step = _Step(following, alone)
            if room > 0:
                room -= len(ahead) + 1
                known[key] = following
                standing.steps[part] = step
        for child in step.alone.get(size - each - 1, ()):
            if fit(child.left, parts, each + 1):
                found.append(child.text)
        standing = step.ahead
        if not standing.places:
            break
    return standing.places


def _is_open(left: Segments) -> bool:
    """Whether what is left of a pattern takes any number of segments."""
    return any(each is MANY or each is REST for each in left)


def _stepped(
    places: Places,
    parts: list[str],
    at: int,
    found: list[str],
    alone: list[_Alone] | None = None,
) -> Places:
    """Where one more segment of the value leads to from a number of places.

    Args:
        places: The places.
        parts: The segments of the value.
        at: Which of them is the one.
        found: Takes patterns that match now, whatever follows.
        alone: Takes what is left of patterns, to be matched by the caller; None to have it matched.
    """
    part = parts[at]
    following: Places = {}
    for node in places:
        child = None if node.literal is None else node.literal.get(part)
        if type(child) is _Alone:
            if alone is not None:
                alone.append(child)
            elif fit(child.left, parts, at + 1):
                found.append(child.text)
        elif child is not None:
            _enter(child, following)  # type: ignore[arg-type]  # what is not alone is a node
        wild = node.wild
        if wild is not None:
            if wild.one is not None and part:
                _enter(wild.one, following)
            if wild.tail is not None:
                found += wild.tail
            if wild.parts is not None or wild.loops or wild.rest is not None:
                _step_wide(node, wild, part, following, found)
    return following


def _enter(node: _Node, following: Places) -> None:
    """Stand at a node, and behind its `**`, which may stand for nothing."""
    following[node] = None
    if node.wild is not None and node.wild.many is not None:
        following[node.wild.many] = None


def _step_wide(
    node: _Node,
    wild: _Wild,
    part: str,
    following: Places,
    found: list[str],
) -> None:
    """Take one segment of the value past what is rarer than `*` and a final `**`."""
    if wild.rest is not None:
        found += wild.rest
    if wild.parts is not None:
        for child in wild.parts.find(part):
            _enter(child, following)
    if wild.loops:
        following[node] = None


def _add(node: _Node, pattern: Segments, text: str, *, looped: bool) -> None:
    """Add what is left of a pattern below a node.

    Below a `**`, what is left with another `**` in it gets its nodes at once: matched by itself it
    would be matched anew, to the value's end, at each segment of the value.
    """
    last = len(pattern) - 1
    for at, step in enumerate(pattern):
        if step is MANY and at < last and pattern[at + 1] is MANY:
            continue  # Two `**` in a row say no more than one.
        if step is MANY and at == last:
            wild = _wild(node)
            wild.tail = [*(wild.tail or ()), text]
            return
        if step is REST:
            wild = _wild(node)
            wild.rest = [*(wild.rest or ()), text]
            return
        if isinstance(step, str):
            if node.literal is None:
                node.literal = {}
            child = node.literal.get(step)
            left = pattern[at + 1 :]
            if child is None and not (looped and MANY in left):
                node.literal[step] = _Alone(left, text)
                return
            if child is None or isinstance(child, _Alone):
                alone = child
                child = node.literal[step] = _Node()
                if alone is not None:
                    _add(child, alone.left, alone.text, looped=looped)
            node = child
        else:
            node = _follow(node, step)
            looped = looped or step is MANY
    node.ends = [*(node.ends or ()), text]


def _wild(node: _Node) -> _Wild:
    if node.wild is None:
        node.wild = _Wild()
    return node.wild


def _follow(node: _Node, step: Any) -> _Node:
    """The node behind one segment that is not spelt out, made if it is new."""
    wild = _wild(node)
    if step is ONE:
        if wild.one is None:
            wild.one = _Node()
        return wild.one
    if step is MANY:
        if wild.many is None:
            wild.many = _Node(_Wild(loops=True))
        return wild.many
    if wild.parts is None:
        wild.parts = Shapes()
    child = wild.parts.get(step)
    if child is None:
        child = _Node()
        wild.parts.add(step, child)
    return child


def _without(texts: list[str] | None, text: str) -> list[str] | None:
    left = [each for each in texts or () if each != text]
    return left or None
