"""Calls that go on at once, counted by who makes them: nobody may take all places."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from ca.errors import OverloadedError

__all__ = ["Crowd"]

_Caller = TypeVar("_Caller", bound=Hashable)


class Crowd(Generic[_Caller]):
    """Places for calls.

    Args:
        of_one: How many one caller may have.
        in_all: And all of them together; 0 for any number.
    """

    def __init__(self, of_one: int, in_all: int = 0) -> None:
        self._of_one = of_one
        self._in_all = in_all
        self._there: Counter[_Caller] = Counter()

    @contextmanager
    def joined(self, caller: _Caller, told: str) -> Iterator[None]:
        """Count a call while it goes on.

        Args:
            caller: Whose.
            told: What the calls do, in words after their number.

        Raises:
            OverloadedError: There are too many.
        """
        mine, total = self._there[caller], self._there.total()
        if mine >= self._of_one or (self._in_all and total >= self._in_all):
            raise OverloadedError(f"{mine} {told}, {total} in all; try again")
        self._there[caller] += 1
        try:
            yield
        finally:
            self._there[caller] -= 1
            if not self._there[caller]:
                del self._there[caller]
