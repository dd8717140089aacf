"""PostgreSQL connections that wait for a silent server only so long.

A network that drops what is sent is noticed by the kernel (tcp_user_timeout). One that takes it and
gives nothing back is not, nor is a server that stands still: who waits has to know when to stop.
"""

import math
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities
from typing_extensions import override

__all__ = ["AsyncConnection", "Connection"]

# What a server that is there takes to hear of a cancellation, and again to say that it did as told.
# The driver's own bounds are ten times this.
_CANCEL_S = 0.5
_Result = TypeVar("_Result")
_Steps = Generator[Any, Any, _Result]


class _SilentError(psycopg.OperationalError):
    """The server said nothing for too long; the connection is of no use any more."""


class _AsyncCursor(psycopg.AsyncCursor[Any]):
    """One after whose statements the server sees that a transaction stands still.

    After the pipeline that `executemany` is, PostgreSQL's clock of idle transactions isn't set
    (seen with 15): whoever went silent then would keep its locks for hours. The next statement sets
    it.
    """

    @override
    async def executemany(self, *args: Any, **named: Any) -> None:
        await super().executemany(*args, **named)
        await self.connection.execute("SELECT 1")


class _Cursor(psycopg.Cursor[Any]):
    """The same for threads."""

    @override
    def executemany(self, *args: Any, **named: Any) -> None:
        super().executemany(*args, **named)
        self.connection.execute("SELECT 1")


class AsyncConnection(psycopg.AsyncConnection[Any]):
    """One whose statements are ended by cancelling who waits, within a second."""

    _ends_s = math.inf

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.cursor_factory = _AsyncCursor

    @override
    async def wait(self, gen: _Steps[_Result], *args: Any, **kwargs: Any) -> _Result:
        return await super().wait(_until(gen, lambda: self._ends_s), *args, **kwargs)

    @override
    async def cancel_safe(self, *, timeout: float = _CANCEL_S) -> None:
        # The driver calls this when who waits is cancelled, and then waits for the statement's end.
        self._ends_s = time.monotonic() + 2 * _CANCEL_S
        # A server that is only slow shall stop too: whoever gives up and comes again would else
        # take all of its connections. The older libpq can't be kept from waiting.
        if capabilities.has_cancel_safe():
            try:
                await super().cancel_safe(timeout=min(timeout, _CANCEL_S))
            except psycopg.Error:
                self._ends_s = 0.0  # Nobody there who could say more.
                raise


class Connection(psycopg.Connection[Any]):
    """One for threads, which nobody can cancel: each statement ends by itself.

    Attributes:
        patience_s: The longest wait for a statement; above what the server itself allows one.
    """

    patience_s = 6.0

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.cursor_factory = _Cursor

    @override
    def wait(self, gen: _Steps[_Result], *args: Any, **kwargs: Any) -> _Result:
        ends_s = time.monotonic() + self.patience_s
        try:
            return super().wait(_until(gen, lambda: ends_s), *args, **kwargs)
        except _SilentError:
            self.close()
            raise


def _until(steps: _Steps[_Result], ends_s: Callable[[], float]) -> _Steps[_Result]:
    """Do the driver's steps; it takes one at least every 0.1 s, whatever comes."""
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > ends_s():
                raise _SilentError("the server has stopped to answer")
            wanted = steps.send(ready)
    except StopIteration as end:
        result: _Result = end.value
        return result
