"""A port for who collects metrics: HTTP, as little of it as that takes.

Whoever reaches the port may open connections to it, and nothing says who he is. So few are open at
once, each for a short time and one request: what workloads need descriptors for is never short of
them here. Beyond that the oldest makes room, which by then has had its time: who holds connections
keeps no collector out. Web servers of the common kind, the collecting library's own among them,
bound neither.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from meshwarden.settings import Address
from meshwarden.supervisor.lifecycle import RuntimeDirError

__all__ = ["MetricsPort", "open_port"]

_MOST = 16
_TIMEOUT_S = 5.0
_MOST_HEAD_BYTES = 8192
_BACKLOG = 16
_PLAIN = "text/plain; charset=utf-8"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


def open_port(address: Address) -> socket.socket:
    """Bind the port at the start, or the start fails and says why.

    Raises:
        RuntimeDirError: It can't be bound.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise RuntimeDirError(f"agent.metrics: {address} can't be bound: {reason}") from error
    return listener


class MetricsPort:
    """Answers GET and HEAD of /metrics and /healthz."""

    def __init__(self, exposition: Callable[[], bytes], content_type: str) -> None:
        """Serve what `exposition` gives, anew each time.

        Args:
            exposition: Gives a body.
            content_type: What kind it is.
        """
        self._exposition = exposition
        self._content_type = content_type
        # The oldest first.
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def serve(self, listener: socket.socket) -> None:
        """Take connections until cancelled."""
        server = await asyncio.start_server(
            self._answer, sock=listener, limit=_MOST_HEAD_BYTES, backlog=_BACKLOG
        )
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for writer in tuple(self._open):
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            # Who asks slowly, reads slowly or goes away gets nothing, and nobody waits for him.
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_TIMEOUT_S):
                    writer.write(await self._reply(reader))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _reply(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _message(400, b"too long\n")
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        target, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return _message(400, b"no HTTP/1.1\n")
        if method not in {b"GET", b"HEAD"}:
            return _message(405, b"GET or HEAD\n", extra="allow: GET, HEAD\r\n")
        is_head = method == b"HEAD"
        match target.partition(b"?")[0]:
            case b"/metrics":
                return _message(200, self._exposition(), self._content_type, is_head=is_head)
            case b"/healthz":
                return _message(200, b"ok\n", is_head=is_head)
            case _:
                return _message(404, b"there are /metrics and /healthz\n", is_head=is_head)


def _message(
    status: int, body: bytes, kind: str = _PLAIN, *, is_head: bool = False, extra: str = ""
) -> bytes:
    """Write a whole response; the connection ends with it (RFC 9112, section 9.6)."""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n{extra}\r\n"
    )
    return head.encode() + (b"" if is_head else body)
