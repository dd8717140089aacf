"""gRPC over HTTP/2 as an ASGI app sees it: frames, trailers, time-outs, status codes.

Source: "gRPC over HTTP2" (the protocol's own description), sections Requests and Responses.
"""

import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

__all__ = [
    "OK_TRAILERS",
    "START",
    "STATUS",
    "FrameError",
    "Receive",
    "Scope",
    "Send",
    "frame",
    "message_of",
    "send_error",
    "send_message",
    "timeout_ns",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

STATUS = {
    "OK": 0,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "RESOURCE_EXHAUSTED": 8,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
}
"""The codes that our edges answer with, by the name an error carries."""

_PREFIX_BYTES = 5  # One byte of flags, four of length.
_UNIT_NS = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}
"""The headers of every answer with a message."""

OK_TRAILERS = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}
"""The end of every answer that is no error."""

_END = {"type": "http.response.body", "body": b""}


class FrameError(Exception):
    """The body isn't one gRPC message; `code` names the status to answer with."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(message: bytes) -> bytes:
    """Prefix a message for the wire, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def message_of(body: bytes, max_bytes: int, encoding: bytes | None = None) -> bytes:
    """Take the one message out of a unary request's body.

    Args:
        body: The whole body: a five-byte prefix and the message.
        max_bytes: Largest message after decompression.
        encoding: The `grpc-encoding` header.

    Raises:
        FrameError: Not exactly one frame, larger than `max_bytes`, or compressed in a way that
            we don't read.
    """
    if len(body) < _PREFIX_BYTES or int.from_bytes(body[1:5], "big") != len(body) - _PREFIX_BYTES:
        raise FrameError("INVALID_ARGUMENT", "the body is not one gRPC message")
    message = body[_PREFIX_BYTES:]
    if body[0] == 0:
        return message
    if body[0] != 1 or encoding != b"gzip":
        raise FrameError("UNIMPLEMENTED", "only identity and gzip are read")
    # The bound is on what comes out: a kilobyte can hold a gigabyte of zeros.
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        inflated = inflater.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise FrameError("INVALID_ARGUMENT", f"the message is not gzip: {error}") from error
    if len(inflated) > max_bytes or inflater.unconsumed_tail:
        raise FrameError("RESOURCE_EXHAUSTED", f"the message inflates past {max_bytes} bytes")
    if not inflater.eof:
        raise FrameError("INVALID_ARGUMENT", "the message ends inside its gzip stream")
    return inflated


def timeout_ns(value: bytes) -> int | None:
    """Read a `grpc-timeout` header: up to eight digits and a unit; None for anything else."""
    digits, unit = value[:-1], _UNIT_NS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > 8:  # noqa: PLR2004 - of the protocol
        return None
    return int(digits) * unit


async def send_message(send: Send, message: bytes) -> None:
    """Answer a unary call with one message and status OK."""
    await send(START)
    await send({"type": "http.response.body", "body": frame(message)})
    await send(OK_TRAILERS)


async def send_error(
    send: Send, code: str, message: str, extra: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Answer a call with a status alone, in the headers ("Trailers-Only")."""
    headers = [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", str(STATUS[code]).encode()),
        (b"grpc-message", _percent_encoded(message)),
        *extra,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(_END)


def _percent_encoded(message: str) -> bytes:
    """Status messages travel in a header: printable ASCII as it is, the rest percent-encoded."""
    return b"".join(
        bytes((octet,)) if 0x20 <= octet <= 0x7E and octet != 0x25 else b"%%%02X" % octet  # noqa: PLR2004
        for octet in message.encode("utf-8", "replace")
    )
