"""The way to the server: TLS that knows the server by its SPIFFE ID, under gRPC that need not.

grpcio knows servers by host name alone, and its certificates are those of when a channel was made.
So a channel goes to a Unix socket of ours, and each of its connections is carried on over TLS by
Python's ssl. A server that doesn't prove who it is gets not one byte of a request.

A server is known by a certificate under the bundle that either
- has the SPIFFE ID of a Meshwarden server, whatever its name or address, and of the agent's own
  trust domain, where it has one: a root may stand above the authorities of several; or
- has no URI at all, and the name that was dialled: a certificate of the operator's own making.
A certificate with another SPIFFE ID is a workload's, and no server whatever names it has besides.
"""

import asyncio
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from ca.spiffe_id import InvalidSpiffeIdError, parse
from meshwarden.agent.pipe import End

__all__ = ["SERVER_PATH", "ServerAddress", "Uplink", "tls_context"]

_LOG = logging.getLogger(__name__)
SERVER_PATH = "/meshwarden/server"
"""Path of a server's own SPIFFE ID."""

_TIMEOUT_S = 10.0
_LAST_WORDS_S = 5.0
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where the server is: a host name or an IP address, and a port."""

    host: str
    port: int

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "ServerAddress":
        """Read "mesh.example:9191", "10.0.0.1:9191" or "[::1]:9191".

        Raises:
            ValueError: It is none.
        """
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        is_port = port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535  # noqa: PLR2004
        if not colon or not bare or not is_port or (":" in bare and bare == host):
            raise ValueError(f"{text!r} is no address; write HOST:PORT, such as mesh.example:9191")
        return cls(bare, int(port))


def tls_context(authorities: Sequence[str] | None, identity: Path | None = None) -> ssl.SSLContext:
    """Make a client's side of TLS.

    Args:
        authorities: PEM of each root that a server may chain to; None to verify nothing, for
            what is public and proven in another way.
        identity: PEM file of the own chain and key.

    Raises:
        ValueError: There are no authorities, which is not to say that nothing is to be verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    # Names are judged in `_check`, by SPIFFE's rules.
    context.check_hostname = False
    if authorities is None:
        context.verify_mode = ssl.CERT_NONE
    elif any(authorities):
        context.load_verify_locations(cadata="".join(authorities))
    else:
        raise ValueError("nothing is known to prove the server by")
    if identity is not None:
        context.load_cert_chain(identity)
    return context


class Uplink:
    """Carries a channel's connections to the server.

    Attributes:
        path: The socket that channels go to.
        fault: Why the newest connection was not made, or that the last one ended; "" while there
            is one, and before the first.
    """

    def __init__(
        self,
        path: Path,
        server: ServerAddress,
        context: Callable[[], ssl.SSLContext],
        trust_domain: str = "",
    ) -> None:
        """Make a way that isn't open yet.

        Args:
            path: In a folder that only we enter; it is made by `open`.
            server: Where to go.
            context: Gives the TLS to use, at each connection.
            trust_domain: The only one whose server may be there; "" for any.
        """
        self.path = path
        self.fault = ""
        self._server = server
        self._context = context
        self._trust_domain = trust_domain
        self._ends: set[End] = set()
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to take connections."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.fspath(self.path))
        self.path.chmod(0o600)
        listener.listen(16)
        listener.settimeout(0)
        self._listening = asyncio.create_task(self._listen(listener))

    async def close(self) -> None:
        """Take no more connections and end those there are."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        for end in tuple(self._ends):
            end.abort()
        self.path.unlink(missing_ok=True)

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        carried: set[asyncio.Task[None]] = set()
        try:
            with listener:
                while True:
                    try:
                        connection, _ = await loop.sock_accept(listener)
                    except OSError as error:  # Out of descriptors, mostly.
                        self.fault = _reason(error)
                        await asyncio.sleep(_PAUSE_S)
                        continue
                    task = asyncio.create_task(self._carry(connection))
                    carried.add(task)
                    task.add_done_callback(carried.discard)
        finally:
            for task in carried:
                task.cancel()

    async def _carry(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        outside = End(lambda: self._ended(outside, inside))
        inside = End(lambda: self._over(outside, inside))
        outside.other, inside.other = inside, outside
        self._ends.update((outside, inside))
        try:
            _check_own(connection)
            async with asyncio.timeout(_TIMEOUT_S):
                await self._connect(outside)
            await loop.connect_accepted_socket(lambda: inside, connection)
        except (OSError, TimeoutError, ValueError) as error:
            self.fault = f"{self._server}: {_reason(error)}"
            _LOG.debug("no connection to %s", self.fault)
            connection.close()
            self._over(outside, inside)
        except BaseException:
            connection.close()
            self._over(outside, inside)
            raise
        else:
            self.fault = ""

    async def _connect(self, outside: End) -> None:
        """Connect to the server and make sure that it is one.

        Raises:
            OSError: It can't be reached, or its certificate does not verify.
            ValueError: It is somebody else.
        """
        context = self._context()
        held, transport = await self._handshake(context)
        if context.verify_mode != ssl.CERT_NONE and self._check(transport):
            # OpenSSL compares names, in a handshake that is told to; what it shows is checked anew.
            # What was said in the first one may be anybody's, and goes with it.
            transport.abort()
            named = self._context()
            named.check_hostname = True
            held, transport = await self._handshake(named)
            self._check(transport)
        if transport.is_closing():
            raise ConnectionResetError("the server closed the connection")
        transport.set_protocol(outside)
        outside.connection_made(transport)
        outside.data_received(bytes(held.said))

    async def _handshake(self, context: ssl.SSLContext) -> "tuple[_Held, asyncio.Transport]":
        transport, held = await asyncio.get_running_loop().create_connection(
            _Held,
            self._server.host,
            self._server.port,
            ssl=context,
            server_hostname=self._server.host,
        )
        _notice_silence(transport.get_extra_info("socket"))
        return held, transport

    def _check(self, transport: asyncio.Transport) -> bool:
        """Judge a verified server certificate; give whether its host name must be compared, too.

        Raises:
            ValueError: It is no server's; the connection is closed.
        """
        try:
            return _judge(transport.get_extra_info("peercert"), self._trust_domain)
        except ValueError:
            transport.abort()
            raise

    def _ended(self, outside: End, inside: End) -> None:
        # gRPC may have made the next one already: it knows sooner that a server goes away.
        if self._ends == {outside, inside} and not self.fault:
            self.fault = f"{self._server}: the connection ended"
        inside.close_within(_LAST_WORDS_S)

    def _over(self, outside: End, inside: End) -> None:
        outside.abort()
        self._ends.difference_update((outside, inside))


class _Held(asyncio.Protocol):
    """Keeps what a server says before it has been checked; nothing is said to it.

    It may say something with the handshake's last bytes. Nobody hears it before the check, nor
    ever where that fails.
    """

    def __init__(self) -> None:
        self.said = bytearray()

    @override
    def data_received(self, data: bytes) -> None:
        self.said += data


def _check_own(connection: socket.socket) -> None:
    """Carry for this process alone: whoever speaks here speaks with the agent's identity."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if struct.unpack("3i", data)[0] != os.getpid():
        raise PermissionError("the way to the server is for the agent alone")


def _notice_silence(connection: Any) -> None:
    """Have the kernel look whether the other machine is still there: no stream hangs for ever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    # For what was sent and never acknowledged, in milliseconds.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


def _judge(certificate: Mapping[str, Any], trust_domain: str) -> bool:
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if not uris:
        return True
    try:
        (uri,) = uris
        spiffe_id = parse(uri)
    except (ValueError, InvalidSpiffeIdError) as error:
        raise ValueError("the server's certificate has no one SPIFFE ID") from error
    if spiffe_id.path != SERVER_PATH:
        raise ValueError(f"it is no server but {spiffe_id}")
    if trust_domain not in {"", spiffe_id.trust_domain}:
        raise ValueError(f"it is {spiffe_id}, and no server of the trust domain {trust_domain}")
    return False


def _reason(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {_TIMEOUT_S:.0f} s"
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not good: {error.verify_message}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            # OpenSSL's word for an answer that is no TLS at all.
            return "it speaks no TLS there; at the service set listen.tls.svid = true"
        case ssl.SSLError():
            return f"TLS: {error.reason or 'the handshake failed'}"
        case OSError():
            return error.strerror or str(error)
        case _:
            return str(error)
