"""Which of many patterns may match a value: an index that also knows segments with stars in them.

The engine's index tries such shapes one by one, which is right for the few that a service has; lint
asks about all the patterns of a policy at once.
"""

from collections.abc import Iterable

from authz.policy.segment_tree import SegmentTree
from authz.policy.segments import MANY, Part, Segments

__all__ = ["Near"]


class Near:
    """Finds patterns by a value.

    Args:
        patterns: The text of each with its form; None matches every value.
        whole: Whether a value is one segment as it is, slashes and all.

    Cost: of a search, one lookup for each length that the ends of shapes have.
    """

    def __init__(
        self, patterns: Iterable[tuple[str, Segments | None]], *, whole: bool = False
    ) -> None:
        self._whole = whole
        self._always: list[str] = []
        self._plain: dict[Segments, list[str]] = {}
        self._tree = SegmentTree()
        # By place and by the lengths of what a shape begins and ends with.
        self._shaped: dict[tuple[int, int, int], dict[tuple[str, str], list[str]]] = {}
        self._others: list[str] = []
        for text, form in patterns:
            self._add(text, form)

    def _add(self, text: str, form: Segments | None) -> None:
        if form is None:
            self._always.append(text)
            return
        place = next((at for at, each in enumerate(form) if isinstance(each, Part)), -1)
        if place < 0:
            if all(isinstance(each, str) for each in form):
                self._plain.setdefault(form, []).append(text)
            else:
                self._tree.add(form, text)
        elif MANY in form[:place]:
            self._others.append(text)
        else:
            pieces: tuple[str, ...] = getattr(form[place], "pieces", ("", ""))
            ends = pieces[0], pieces[-1]
            table = self._shaped.setdefault((place, len(ends[0]), len(ends[1])), {})
            table.setdefault(ends, []).append(text)

    def find(self, value: str) -> list[str]:
        """Every pattern that matches a value, and some that don't."""
        parts = [value] if self._whole else value.split("/")
        found = [*self._always, *self._plain.get(tuple(parts), ()), *self._others]
        if not self._whole:
            self._tree.find(value, found)
        for (place, before, behind), table in self._shaped.items():
            if place < len(parts):
                part = parts[place]
                found += table.get((part[:before], part[len(part) - behind :]), ())
        return found
