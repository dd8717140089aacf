"""A client of an ASGI app, in memory."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

__all__ = ["Exchange"]


class Exchange:
    """One request to an app and what came back.

    Attributes:
        sent: The messages that the app sent.
    """

    def __init__(
        self,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Prepare the request.

        Args:
            path: What is asked.
            body: Whole, or in the pieces in which it comes.
            headers: In lower case.
        """
        pieces = [body] if isinstance(body, bytes) else list(body)
        self.scope: MutableMapping[str, Any] = {
            "type": "http", "path": path, "headers": list(headers),
        }  # fmt: skip
        self.sent: list[Mapping[str, Any]] = []
        self._incoming: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
            for index, piece in enumerate(pieces)
        ]

    async def receive(self) -> MutableMapping[str, Any]:
        """Give the next piece; the caller hangs up after the last."""
        return self._incoming.pop(0) if self._incoming else {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take what the app says."""
        self.sent.append(message)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Headers, and trailers over them."""
        found: dict[bytes, bytes] = {}
        for message in self.sent:
            found.update(message.get("headers", ()))
        return found

    @property
    def grpc_status(self) -> int:
        """The gRPC status code, from headers or trailers."""
        return int(self.headers[b"grpc-status"])
