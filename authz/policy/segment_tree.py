"""Patterns of segments as one tree, walked once for a value whatever the number of patterns."""

from authz.policy.segments import MANY, ONE, REST, Part, Segments

__all__ = ["SegmentTree"]


class _Node:
    """One place in the tree: what may follow, and which patterns end here."""

    __slots__ = ("ends", "literal", "loops", "many", "one", "parts", "rest", "tail")

    def __init__(self, *, loops: bool = False) -> None:
        self.literal: dict[str, _Node] = {}
        self.one: _Node | None = None
        self.parts: dict[Part, _Node] | None = None
        self.many: _Node | None = None
        # A node behind `**` stays where it is for any segment.
        self.loops = loops
        self.ends: list[str] | None = None
        # Patterns that match whatever follows, nothing too (tail) or not (rest).
        self.tail: list[str] | None = None
        self.rest: list[str] | None = None


class SegmentTree:
    """A set of patterns by their segments, each with a text that stands for it."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, pattern: Segments, text: str) -> None:
        """Add one pattern. Cost: O(segments)."""
        node, last = self._place(pattern)
        texts: list[str] | None = getattr(node, last)
        if texts is None:
            setattr(node, last, [text])
        else:
            texts.append(text)

    def discard(self, pattern: Segments, text: str) -> None:
        """Remove one pattern; the place it took stays, empty, for the next."""
        node, last = self._place(pattern)
        texts: list[str] = getattr(node, last)
        texts.remove(text)
        if not texts:
            setattr(node, last, None)

    def _place(self, pattern: Segments) -> tuple[_Node, str]:
        node = self._root
        # Two `**` in a row say no more than one.
        steps = [
            each
            for at, each in enumerate(pattern)
            if each is not MANY or at == 0 or pattern[at - 1] is not MANY
        ]
        for step in steps[:-1]:
            node = _follow(node, step)
        if steps[-1] is MANY:
            return node, "tail"
        if steps[-1] is REST:
            return node, "rest"
        return _follow(node, steps[-1]), "ends"

    def find(self, value: str, found: list[str]) -> None:
        """Append the text of every pattern that matches.

        Cost: O(segments of the value x places that a prefix of it can be at).
        """
        places = [self._root]
        if self._root.many is not None:
            places.append(self._root.many)
        for part in value.split("/"):
            following: list[_Node] = []
            for node in places:
                if node.tail is not None:
                    found += node.tail
                if node.rest is not None:
                    found += node.rest
                child = node.literal.get(part)
                if child is not None:
                    following.append(child)
                    if child.many is not None and child.many not in following:
                        following.append(child.many)
                if node.one is not None and part:
                    child = node.one
                    following.append(child)
                    if child.many is not None and child.many not in following:
                        following.append(child.many)
                if node.parts is not None:
                    for shape, child in node.parts.items():
                        if shape.matches(part):
                            following.append(child)
                            if child.many is not None and child.many not in following:
                                following.append(child.many)
                if node.loops and node not in following:
                    following.append(node)
            if not following:
                return
            places = following
        for node in places:
            if node.ends is not None:
                found += node.ends
            if node.tail is not None:
                found += node.tail


def _follow(node: _Node, step: object) -> _Node:
    """The node behind one segment of a pattern, made if it is new."""
    if step is ONE:
        if node.one is None:
            node.one = _Node()
        return node.one
    if step is MANY:
        if node.many is None:
            node.many = _Node(loops=True)
        return node.many
    if isinstance(step, Part):
        if node.parts is None:
            node.parts = {}
        return node.parts.setdefault(step, _Node())
    return node.literal.setdefault(str(step), _Node())
