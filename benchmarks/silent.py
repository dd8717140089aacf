"""A client that asks and never reads: one connection by mutual TLS, bytes written by hand.

Any library of HTTP/2 would read in the background, and take what ought to stay with the server.
"""

import socket
import ssl
import struct
from collections.abc import Iterable
from pathlib import Path

__all__ = ["SilentClient"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, section 6: types and flags of frames.
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
# As little as the kernel takes: what it holds for us is no memory of the server's.
_RECEIVE_BYTES = 2048


class SilentClient:
    """One connection; it holds what it got in the handshake, and reads nothing after it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Connect.

        Args:
            port: On the loopback address.
            context: The client's side of TLS, with its certificate.
        """
        plain = socket.socket()
        # Before connecting: the window is told in the handshake.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", port))
        self._connection = context.wrap_socket(plain, server_hostname="localhost")
        self._next_stream = 1

    def open(self) -> None:
        """Begin HTTP/2, with the windows that it has by default."""
        self._connection.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def call(self, path: str, message: bytes) -> None:
        """Make a gRPC call of one message."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = _literals(
            (
                (":method", "POST"),
                (":scheme", "https"),
                (":path", path),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            )
        )
        body = b"\0" + struct.pack(">I", len(message)) + message
        self._connection.sendall(
            _frame(_HEADERS, _END_HEADERS, stream, headers)
            + _frame(_DATA, _END_STREAM, stream, body)
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def client_context(bundle: bytes, identity: Path) -> ssl.SSLContext:
    """Make a client's side of TLS that offers HTTP/2.

    Args:
        bundle: PEM of the roots that the server chains to.
        identity: PEM file of the own key and chain.
    """
    context = ssl.create_default_context(cadata=bundle.decode())
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(identity)
    return context


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literals(headers: Iterable[tuple[str, str]]) -> bytes:
    """Write headers as they are. Source: RFC 7541, section 6.2.2; none is over 126 bytes long."""
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers
    )
