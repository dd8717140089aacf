"""Patterns of segments as one tree, walked once for a value whatever the number of patterns."""

from typing import Any

from authz.policy.segments import MANY, ONE, REST, Part, Segments, fit

__all__ = ["SegmentTree"]


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
        self.parts: dict[Part, _Node] | None = None
        self.many: _Node | None = None
        self.loops = loops
        self.tail: list[str] | None = None
        self.rest: list[str] | None = None


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
        places: list[_Node] = []
        _enter(node, places)
        for each in range(at, len(parts)):
            places = _stepped(places, parts, each, found)
            if not places:
                return
        for node in places:
            found += node.ends or ()
            if node.wild is not None and node.wild.tail is not None:
                found += node.wild.tail


def _stepped(places: list[_Node], parts: list[str], at: int, found: list[str]) -> list[_Node]:
    """Where one more segment of the value leads to from a number of places."""
    part = parts[at]
    following: list[_Node] = []
    for node in places:
        child = None if node.literal is None else node.literal.get(part)
        if type(child) is _Alone:
            if fit(child.left, parts, at + 1):
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


def _enter(node: _Node, following: list[_Node]) -> None:
    """Stand at a node, and behind its `**`, which may stand for nothing."""
    following.append(node)
    if node.wild is not None:
        many = node.wild.many
        if many is not None and many not in following:
            following.append(many)


def _step_wide(
    node: _Node,
    wild: _Wild,
    part: str,
    following: list[_Node],
    found: list[str],
) -> None:
    """Take one segment of the value past what is rarer than `*` and a final `**`."""
    if wild.rest is not None:
        found += wild.rest
    if wild.parts is not None:
        for shape, child in wild.parts.items():
            if shape.matches(part):
                _enter(child, following)
    if wild.loops and node not in following:
        following.append(node)


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
        wild.parts = {}
    return wild.parts.setdefault(step, _Node())


def _without(texts: list[str] | None, text: str) -> list[str] | None:
    left = [each for each in texts or () if each != text]
    return left or None
