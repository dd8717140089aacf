"""Many patterns of segments at once: what they say, and what it takes to find out."""

from itertools import product
from random import Random

import pytest
from typing_extensions import override

from authz.policy.segment_tree import SegmentTree
from authz.policy.segments import Part, matches, parse_segments
from authz.policy.shapes import Shapes

WORDS = ("a", "b", "*", "**", "a*", "*b", "a*b", "*a*", "x-*-1", "x-*-2", "")
VALUES = ("a", "b", "ab", "aab", "x-a-1", "x-b-2", "", "c")


def test_the_tree_finds_what_each_pattern_says_by_itself() -> None:
    """Also for values of so many segments that steps are remembered."""
    chance = Random(7)
    for _ in range(150):
        patterns = {
            "/" + "/".join(chance.choices(WORDS, k=chance.randrange(1, 6))) for _ in range(12)
        }
        tree = SegmentTree()
        for each in patterns:
            tree.add(parse_segments(each), each)
        for length in (1, 2, 3, 4, 5, 8, 80, 130):
            value = "/" + "/".join(chance.choices(VALUES[: chance.randrange(1, 9)], k=length))
            found: list[str] = []
            tree.find(value, found)
            wanted = {each for each in patterns if matches(parse_segments(each), value)}
            assert set(found) == wanted, value


def test_a_value_fits_stars_between_slashes_in_any_way_there_is() -> None:
    """Leftmost first, which is never wrong; held against trying every way."""

    def slowly(pattern: tuple[object, ...], parts: tuple[str, ...]) -> bool:
        if not pattern:
            return not parts
        first, rest = pattern[0], pattern[1:]
        if getattr(first, "name", "") == "many":
            return any(slowly(rest, parts[at:]) for at in range(len(parts) + 1))
        return bool(parts) and matches((first,), parts[0]) and slowly(rest, parts[1:])  # type: ignore[arg-type]

    forms = [each for size in (1, 2, 3, 4) for each in product(("**", "*", "a", "b"), repeat=size)]
    values = [each for size in (1, 2, 3, 4) for each in product(("a", "b", ""), repeat=size)]
    for form in forms:
        pattern = parse_segments("/".join(form))
        for value in values:
            assert matches(pattern, "/".join(value)) == slowly(pattern, value), (form, value)


class CountedPart(Part):
    """Counts how often any shape was tried."""

    tried = 0

    @override
    def matches(self, segment: str) -> bool:
        CountedPart.tried += 1
        return Part.matches(self, segment)


@pytest.mark.parametrize("shape", ["x-*-{}", "x{}-*", "x-*-{}-*", "*-{}", "*{}*", "x*y*{}*z"])
def test_of_ten_thousand_shapes_few_are_tried(shape: str) -> None:
    """It took 38 ms to be told that none is met."""
    shapes: Shapes[str] = Shapes()
    for number in range(10_000):
        text = shape.format(f"{number:05}")
        shapes.add(CountedPart(tuple(text.split("*"))), text)
    CountedPart.tried = 0
    value = shape.replace("*", "any").format("00007")
    assert list(shapes.find(value)) == [shape.format("00007")]
    assert list(shapes.find("x-any-none")) == []
    assert CountedPart.tried <= 2


def test_shapes_come_and_go() -> None:
    """Nothing is left of those that went."""
    shapes: Shapes[int] = Shapes()
    every = [Part(("a", str(number), "b")) for number in range(30)]
    for number, shape in enumerate(every):
        shapes.add(shape, number)
    assert set(shapes.find("a-17-b")) == {1, 7, 17}
    for shape in every[:29]:
        shapes.discard(shape)
    assert list(shapes.find("a-17-b")) == []
    assert list(shapes.find("a-29-b")) == [29]
    shapes.discard(every[29])
    assert not shapes
