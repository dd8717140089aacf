"""The few words we say to an Envoy's admin interface, over its Unix socket."""

import asyncio
import logging
from pathlib import Path

__all__ = ["EnvoyAdmin"]

_LOG = logging.getLogger(__name__)
_CALL_TIMEOUT_S = 2.0
_POLL_S = 0.1


class EnvoyAdmin:
    """One Envoy's admin interface."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def is_live(self) -> bool:
        """Whether Envoy has finished starting and serves."""
        try:
            return b"LIVE" in await self._call("GET", "/ready")
        except (OSError, TimeoutError):
            return False

    async def drain(self, drain_s: float) -> None:
        """Take no new connection and wait until the old ones are done, at most `drain_s`.

        A plain SIGTERM to Envoy does not drain.
        """
        try:
            # First each connection is told to go away with its next answer; then the listening
            # sockets are closed. The graceful drain alone would go on accepting until its time is
            # over, and whoever came last would be cut off in the middle of a request.
            await self._call("POST", "/drain_listeners?graceful&skip_exit")
            await self._call("POST", "/drain_listeners")
        except (OSError, TimeoutError):
            _LOG.warning("an Envoy could not be asked to drain")
            return
        loop = asyncio.get_running_loop()
        until_s = loop.time() + drain_s
        while loop.time() < until_s:
            await asyncio.sleep(_POLL_S)
            try:
                if await self._active_connections() == 0:
                    return
            except (OSError, TimeoutError, ValueError):
                return

    async def _active_connections(self) -> int:
        text = await self._call("GET", "/stats?filter=^http.public.downstream_cx_active$")
        return int(text.rpartition(b":")[2])

    async def _call(self, method: str, path: str) -> bytes:
        """One HTTP/1.1 call; the connection is closed by the answer."""
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                writer.write(
                    f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n"
                    "content-length: 0\r\n\r\n".encode()
                )
                await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head.lower():
            return body
        pieces = []
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size, 16)
            pieces.append(body[:length])
            body = body[length + 2 :]
        return b"".join(pieces)
