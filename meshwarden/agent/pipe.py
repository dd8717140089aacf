"""Two ends of one stream of bytes, joined: what comes in at one goes out at the other."""

import asyncio
from collections.abc import Callable
from typing import cast

from typing_extensions import override

__all__ = ["End"]

# What one direction may hold for a reader that doesn't read.
_HIGH_WATER_BYTES = 128 * 1024


class End(asyncio.Protocol):
    """One end of a relayed connection: what comes in here goes out at the other one.

    Nothing piles up: as long as the other end's reader doesn't keep up, this end isn't read.

    Attributes:
        other: The other end; set before either is connected.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        """Make an end that isn't connected yet.

        Args:
            lost: Called when this end's connection is gone.
        """
        self.other: End
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._early = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no asyncio.Transport, and do all that one does.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER_BYTES)
        if self._early:
            self._transport.write(bytes(self._early))
            self._early.clear()

    @override
    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send to this end; what comes before it is connected waits (the server speaks first)."""
        if self._transport is None:
            self._early += data
        elif not self._transport.is_closing():
            self._transport.write(data)

    @override
    def pause_writing(self) -> None:
        self.other.read(on=False)

    @override
    def resume_writing(self) -> None:
        self.other.read(on=True)

    def read(self, *, on: bool) -> None:
        """Read from this end, or leave what comes in the kernel's buffer."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def close_within(self, seconds: float) -> None:
        """Send what is still to be sent, then close; a reader that never reads doesn't hold it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()
