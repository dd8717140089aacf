"""Texts with stars in them, found by what is spelt out of them.

A shape such as `api-*-v2` is filed by how it begins and ends; those that begin and end alike by the
longest text between two stars. So a value is cut in a few ways and looked up, and the shapes that
could not be its own are not tried.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from authz.policy.segments import Part

__all__ = ["Shapes"]

Behind = TypeVar("Behind")

# As few as these are tried one by one.
_FEW = 8


class _Alike(Generic[Behind]):
    """Shapes that begin and end alike.

    Attributes:
        shapes: What stands behind each.
        pieces: The shapes by their longest text between two stars; None while they are few.
        lengths: How many such texts have so many characters.
    """

    __slots__ = ("lengths", "pieces", "shapes")

    def __init__(self) -> None:
        self.shapes: dict[Part, Behind] = {}
        self.pieces: dict[str, list[Part]] | None = None
        self.lengths: dict[int, int] = {}

    def add(self, shape: Part, behind: Behind) -> None:
        self.shapes[shape] = behind
        if self.pieces is not None:
            self._file(self.pieces, shape)
        elif len(self.shapes) > _FEW:
            self.pieces = {}
            for each in self.shapes:
                self._file(self.pieces, each)

    def _file(self, pieces: dict[str, list[Part]], shape: Part) -> None:
        piece = _longest(shape)
        pieces.setdefault(piece, []).append(shape)
        self.lengths[len(piece)] = self.lengths.get(len(piece), 0) + 1

    def discard(self, shape: Part) -> None:
        del self.shapes[shape]
        if self.pieces is not None:
            piece = _longest(shape)
            self.pieces[piece].remove(shape)
            if not self.pieces[piece]:
                del self.pieces[piece]
            self.lengths[len(piece)] -= 1
            if not self.lengths[len(piece)]:
                del self.lengths[len(piece)]

    def find(self, value: str) -> Iterator[Behind]:
        if self.pieces is None:
            for shape, behind in self.shapes.items():
                if shape.matches(value):
                    yield behind
            return
        for length in self.lengths:
            # Each text of that length once, however often the value repeats it.
            texts = {value[at : at + length] for at in range(len(value) - length + 1)}
            for text in texts & self.pieces.keys():
                for shape in self.pieces[text]:
                    if shape.matches(value):
                        yield self.shapes[shape]


class Shapes(Generic[Behind]):
    """A set of shapes, with something behind each."""

    __slots__ = ("_alike", "_lengths")

    def __init__(self) -> None:
        self._alike: dict[tuple[str, str], _Alike[Behind]] = {}
        # How long beginning and end are, and how many pairs of these there are.
        self._lengths: dict[tuple[int, int], int] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._alike)

    def get(self, shape: Part) -> Behind | None:
        """What stands behind a shape; None if it is not in."""
        alike = self._alike.get(_ends(shape))
        return None if alike is None else alike.shapes.get(shape)

    def add(self, shape: Part, behind: Behind) -> None:
        """Put something behind a shape that is not in yet."""
        ends = _ends(shape)
        alike = self._alike.get(ends)
        if alike is None:
            alike = self._alike[ends] = _Alike()
            lengths = len(ends[0]), len(ends[1])
            self._lengths[lengths] = self._lengths.get(lengths, 0) + 1
        alike.add(shape, behind)

    def discard(self, shape: Part) -> None:
        """Take out a shape that is in."""
        ends = _ends(shape)
        alike = self._alike[ends]
        alike.discard(shape)
        if not alike.shapes:
            del self._alike[ends]
            lengths = len(ends[0]), len(ends[1])
            self._lengths[lengths] -= 1
            if not self._lengths[lengths]:
                del self._lengths[lengths]

    def find(self, value: str) -> Iterator[Behind]:
        """What stands behind every shape that a value has.

        Cost: a lookup for each pair of lengths that beginnings and ends have, and O(characters) for
        each length of a text between two stars where many shapes begin and end alike.
        """
        size = len(value)
        for first, last in self._lengths:
            if first + last <= size:
                alike = self._alike.get((value[:first], value[size - last :]))
                if alike is not None:
                    yield from alike.find(value)


def _ends(shape: Part) -> tuple[str, str]:
    return shape.pieces[0], shape.pieces[-1]


def _longest(shape: Part) -> str:
    return max(shape.pieces[1:-1], key=len, default="")
