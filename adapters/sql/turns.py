"""Whose turn it is to write to an SQLite file, among all the parts of this process that do.

SQLite lets one write at a time and keeps no line of the others: each looks again after a pause that
grows, so whoever comes last may be first, and one of a hundred can be unlucky until its time is up
("database is locked"). Here they wait in a line, and the file's own wait is left for other
processes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

__all__ = ["Turns", "turns_of"]


class Turns:
    """The line of those who write to one file, on one event loop."""

    def __init__(self) -> None:
        self._line: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    @asynccontextmanager
    async def taken(
        self, limit_s: float, unavailable: Callable[[str], Exception], *, is_urgent: bool = False
    ) -> AsyncGenerator[None]:
        """Wait for a turn, and have it until the `with` ends.

        Args:
            limit_s: The longest wait.
            unavailable: Makes the error of who has waited so long, given the reason.
            is_urgent: Others wait for what this one writes: it comes before all who wait.

        Raises:
            Exception: What `unavailable` makes.
        """
        await self._wait(limit_s, unavailable, is_urgent=is_urgent)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(
        self, limit_s: float, unavailable: Callable[[str], Exception], *, is_urgent: bool
    ) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        mine = asyncio.get_running_loop().create_future()
        if is_urgent:
            self._line.appendleft(mine)
        else:
            self._line.append(mine)
        try:
            async with asyncio.timeout(limit_s):
                await mine
        except BaseException as error:
            if not mine.cancelled():  # It came in the moment in which its owner gave up.
                self._pass_on()
            if isinstance(error, TimeoutError):
                others = sum(not each.done() for each in self._line)
                raise unavailable(
                    f"the store is busy: no turn to write in {limit_s:g} s, and {others} others "
                    "wait; try again"
                ) from error
            raise

    def _pass_on(self) -> None:
        while self._line:
            following = self._line.popleft()
            if not following.done():  # Else it gave up.
                following.set_result(None)
                return
        self._is_taken = False


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, Turns]] = WeakKeyDictionary()


def turns_of(file: Path) -> Turns:
    """Give the line of a file, the same for all who write to it on the running loop.

    Args:
        file: As `Path.resolve` gives it.
    """
    return _TURNS.setdefault(asyncio.get_running_loop(), {}).setdefault(file, Turns())
