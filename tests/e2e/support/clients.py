"""Callers: HTTP through a sidecar, byte for byte, and gRPC to whom it may concern."""

import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from deploy.demo.certificates import Credential

__all__ = ["CHECK", "Answer", "call", "channel_to", "send", "tls_channel"]

TIMEOUT_S = 20.0
CHECK = "/envoy.service.auth.v3.Authorization/Check"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP caller saw.

    Attributes:
        status: HTTP status.
        headers: Names in lower case; of several of one name, the last.
        body: Whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The sidecar's id of the request."""
        return self.headers["x-request-id"]

    @property
    def seen(self) -> Any:
        """What the upstream says that it got."""
        assert self.headers.get("x-upstream") == "yes", self
        return json.loads(self.body)


def send(  # noqa: PLR0913 - one for each part of a request
    port: int,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = (),
    body: bytes | None = None,
    authority: Path | None = None,
    credential: Credential | None = None,
) -> Answer:
    """Send one HTTP/1.1 request, its path and header values as they are.

    Args:
        port: On 127.0.0.1.
        method: Of the request.
        path: Any printable text.
        headers: A name may come several times; a value given as bytes may hold any but newlines.
        body: None for a request without one.
        authority: PEM file of who signed the server's certificate; None speaks plain text.
        credential: The caller's certificate, if it has one.
    """
    connection: http.client.HTTPConnection
    if authority is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    else:
        context = ssl.create_default_context(cafile=authority)
        if credential is not None:
            context.load_cert_chain(credential.certificate, credential.key)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=TIMEOUT_S, context=context
        )
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name.lower() for name, _ in pairs}
    try:
        connection.putrequest(method, path, skip_host="host" in given, skip_accept_encoding=True)
        for name, value in pairs:
            connection.putheader(name, value)
        if body is not None and "content-length" not in given:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
    finally:
        connection.close()


def channel_to(port: int) -> grpc.Channel:
    """Open a plain-text channel to 127.0.0.1."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=_CHANNEL)


def tls_channel(port: int, authority: Path, credential: Credential | None) -> grpc.Channel:
    """Open a TLS channel to 127.0.0.1, with or without a certificate of one's own."""
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(),
        credential.key.read_bytes() if credential else None,
        credential.certificate.read_bytes() if credential else None,
    )
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=_CHANNEL)


_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A channel of its own for each test: the library shares connections between like ones.
    ("grpc.use_local_subchannel_pool", 1),
)


def call(channel: grpc.Channel, method: str, message: bytes = b"", **kwargs: Any) -> bytes:
    """Call a unary method with bytes; give the answer's.

    Raises:
        grpc.RpcError: As the server says.
    """
    stub = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    reply: bytes = stub(message, timeout=kwargs.pop("timeout", TIMEOUT_S), **kwargs)
    return reply
