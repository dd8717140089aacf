"""Names that may stand for one another, found without trying each of them."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from authz.policy.functions.spec import Pattern
from authz.policy.patterns import PatternIndex

__all__ = ["Match", "Names", "fits"]

_SLICE = 100

Match = Callable[[Any, Any], bool]


def fits(matching: Match, name: Any, pattern: Any) -> bool:
    """A matching function that can't judge a pair of names has not matched them."""
    try:
        return bool(matching(name, pattern))
    except Exception:  # noqa: BLE001 - a user's function; pycasbin takes any fault for "no" here
        return False


class Names:
    """Names that a policy holds in one place, some of them patterns for others.

    A caller comes with a name of its own, and must not make every pattern be tried: where the
    function by which names match says what its patterns are made of, they are filed by that.
    """

    __slots__ = (
        "_every",
        "_fitting",
        "_index",
        "_is_pattern",
        "_matching",
        "_patterns",
        "_prepare",
    )

    def __init__(
        self,
        every: Collection[Any],
        matching: Match,
        prepare: Callable[[str], Pattern] | None,
        is_pattern: Callable[[Any], bool],
    ) -> None:
        """Note what there is; nothing is filed before it is asked for.

        Args:
            every: The names; add() and discard() tell of those that come and go.
            matching: Whether a name fits a pattern.
            prepare: Makes a pattern of a name, for filing; None if nothing is known of patterns.
            is_pattern: Whether a name can stand for others.
        """
        self._every = every
        self._matching = matching
        self._prepare = prepare
        self._is_pattern = is_pattern
        self._index: PatternIndex | None = None
        self._patterns: tuple[Any, ...] | None = None
        self._fitting: dict[Any, tuple[Any, ...]] = {}

    def add(self, name: Any) -> None:
        """Take in a name that was not there."""
        self._fitting.clear()
        self._patterns = None
        index = self._index
        if index is not None:
            try:
                if type(name) is str and self._is_pattern(name):
                    index.add(name)
            except Exception:  # noqa: BLE001 - raised again for whoever asks
                self._index = None

    def discard(self, name: Any) -> None:
        """Take out a name that was there."""
        self._fitting.clear()
        self._patterns = None
        if self._index is not None and type(name) is str and self._is_pattern(name):
            self._index.discard(name)

    def like(self, name: Any) -> list[Any]:
        """The patterns that a name fits, other than the name itself.

        Cost: as for a request's path, where patterns can be filed; else O(patterns).
        """
        if type(name) is str and self._prepare is not None:
            try:
                found = self._filed().fitting(name)
            except UnicodeError:
                pass  # Some patterns can judge such a text, and some can't.
            else:
                return [each for each in dict.fromkeys(found) if each != name]
        if self._patterns is None:
            self._patterns = tuple([each for each in self._every if self._is_pattern(each)])
        matching = self._matching
        return [each for each in self._patterns if each != name and fits(matching, name, each)]

    def fitting(self, pattern: Any) -> tuple[Any, ...]:
        """The names that fit a pattern, other than itself; patterns are the policy's own.

        Cost: O(names) when first asked, remembered for as long as names stay the same.
        """
        found = self._fitting.get(pattern)
        if found is None:
            matching = self._matching
            found = tuple(
                [each for each in self._every if each != pattern and fits(matching, each, pattern)]
            )
            self._fitting[pattern] = found
        return found

    def file(self) -> Iterator[None]:
        """File every pattern, so that no decision has to.

        Yields:
            Nothing, after every hundred names.
        """
        if self._prepare is None or self._index is not None:
            return
        index = PatternIndex(self._prepare)
        for number, each in enumerate(self._every):
            if type(each) is str and self._is_pattern(each):
                index.add(each)
            if number % _SLICE == 0:
                yield
        self._index = index

    def _filed(self) -> PatternIndex:
        """The index; Names without one, since a pattern could not be read, say so here."""
        if self._index is None:
            for _ in self.file():
                pass
        assert self._index is not None  # noqa: S101
        return self._index
