"""Sends requests as a caller: by its own Envoy, with a certificate of its own, or with none."""

import http.client
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.demo.certificates import Credential
from deploy.demo.expectations import Request

__all__ = ["Answer", "Caller"]

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller saw.

    Attributes:
        status: HTTP status.
        request_id: The sidecar's id of the request.
        duration_ms: From the first byte sent to the last one received, in milliseconds.
    """

    status: int
    request_id: str
    duration_ms: float


class Caller:
    """One connection, opened before the first request and kept for the rest."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        """Connect.

        Args:
            connection: Where to.
        """
        self._connection = connection
        self._connection.connect()

    @classmethod
    def by_envoy(cls, port: int) -> Self:
        """Speak plain HTTP to an Envoy beside us, which knows how to go on."""
        return cls(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S))

    @classmethod
    def over_tls(cls, port: int, bundle: Path, credential: Credential | None) -> Self:
        """Speak TLS to the sidecar itself.

        Args:
            port: The sidecar's, on the loopback address.
            bundle: PEM file of the authorities that the sidecar's certificate chains to.
            credential: Shown to the sidecar; None for a caller without a certificate.
        """
        context = ssl.create_default_context(cafile=bundle)
        if credential is not None:
            context.load_cert_chain(credential.certificate, credential.key)
        # By the name that the certificate has.
        return cls(
            http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_S, context=context)
        )

    def send(self, request: Request) -> Answer:
        """Send one request, its path byte for byte as written."""
        start = time.perf_counter()
        self._connection.request(request.method, request.path, headers=request.headers)
        response = self._connection.getresponse()
        response.read()
        duration_ms = (time.perf_counter() - start) * 1000
        return Answer(response.status, response.getheader("x-request-id", ""), duration_ms)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
