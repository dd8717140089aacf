"""The service's own certificate: issued like any other, renewed, and sent to the fronts by SDS.

A front's Envoy has a stream for each secret over the internal socket, and takes up each new one
without a restart. The last of each is kept in a file too, in the form that Envoy reads: a front
that starts while control is away serves by it at once, and watches it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc.aio
from cryptography import x509
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from ca.bundle import Bundle
from ca.errors import IdentityError
from ca.expiry import Expiring
from ca.issue import X509Order, X509Svid
from ca.local_keys import new_request
from ca.renewal import renewal_ns, retry_pause_s
from ca.spiffe_id import SpiffeId
from meshwarden.control.identity.issuer import Issuer
from meshwarden.files import CLIENTS_SDS, SERVER_SDS, RuntimeDir, replace_file
from meshwarden.sds.secrets import FixedSecrets, certificate_secret, roots_secret
from meshwarden.sds.service import SecretService
from meshwarden.settings import Settings
from protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from protos.envoy.service.secret.v3.sds_pb2_grpc import (
    add_SecretDiscoveryServiceServicer_to_server,
)

__all__ = ["SERVING_PATH", "Serving", "names_of"]

_LOG = logging.getLogger(__name__)

SERVING_PATH = "/meshwarden/server"
"""Path of the service's own SPIFFE ID; no entry may have one below /meshwarden/."""

_SECOND_NS = 1_000_000_000
# Until its own life is known, failures are paced by this one.
_USUAL_LIFE_S = 3600.0
# A machine that slept, or a clock that was set, must not make a renewal late.
_LOOK_S = 5.0
# How long fronts wait for the first one before they get what was kept: a database that neither
# answers nor refuses takes ten seconds, and their port is shut meanwhile.
_PATIENCE_S = 2.0


def names_of(settings: Settings) -> tuple[str, ...]:
    """DNS names and IP addresses that clients verify the service by.

    Those of the settings; where one address is listened on, that, and on loopback its usual name.
    """
    address = settings.listen.address
    found = list(settings.server.names)
    if not address.is_wildcard:
        found.append(address.host)
    if address.is_loopback:
        found.append("localhost")
    return tuple(dict.fromkeys(found))


class Serving:
    """Keeps the certificate of the public port fresh.

    Attributes:
        pem: The key and the chain in force, for a transport that reads no files; None before the
            first.
        roots_pem: What clients' certificates are verified with; likewise.
        ready: Set once both are there.
    """

    def __init__(
        self,
        issuer: Issuer,
        names: Iterable[str],
        runtime: RuntimeDir,
        *,
        now_ns: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        """Serve one instance; `run` does it.

        Args:
            issuer: Signs.
            names: DNS names and IP addresses that stand in the certificate.
            runtime: Where secrets are kept.
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
        """
        self._issuer = issuer
        self._names = tuple(names)
        self._runtime = runtime
        self._now_ns = now_ns
        self._draw = draw
        self.pem: tuple[bytes, bytes] | None = None
        self.roots_pem: bytes | None = None
        self.ready = asyncio.Event()
        self._secrets: dict[str, Secret] = {}
        self._times: Expiring | None = None
        self._unwritten: dict[str, bytes] = {}
        self._told: set[str] = set()
        self._changed = asyncio.Event()
        self._is_over = False

    async def run(self) -> None:
        """Renew at half-life and follow the bundle, until cancelled; then no stream goes on."""
        if not self._names:
            _LOG.warning(
                "the certificate of the public port has no name for clients to verify, only its "
                "SPIFFE ID: set server.names, since every address is listened on"
            )
        try:
            await asyncio.gather(self._renew(), self._follow(self._issuer.bundles()))
        finally:
            self._is_over = True
            self._changed.set()

    def serve_on(self, server: grpc.aio.Server) -> None:
        """Send the secrets to whoever calls on a server: only the owner may reach it."""
        add_SecretDiscoveryServiceServicer_to_server(
            SecretService(self._views, lambda secrets, _wish: secrets), server
        )

    def in_use(self) -> Sequence[Expiring]:
        """Give the certificate in force; nothing before the first."""
        return [self._times] if self._times else []

    async def _views(self, _context: Any) -> AsyncGenerator[FixedSecrets, None]:
        while not self._is_over:
            changed = self._changed
            if self._secrets.keys() >= {SERVER_SDS, CLIENTS_SDS}:
                yield FixedSecrets(self._secrets.values())
            await changed.wait()

    async def _renew(self) -> None:
        attempt, life_s = 0, _USUAL_LIFE_S
        loop = asyncio.get_running_loop()
        while True:
            impatience = loop.call_later(_PATIENCE_S, self._restore)
            try:
                svid = await self._issued()
            finally:
                impatience.cancel()
            now_ns = self._now_ns()
            if svid is None:
                self._restore()
                if self._times is not None:
                    life_s = (self._times.not_after_ns - self._times.not_before_ns) / _SECOND_NS
                pause_s = retry_pause_s(attempt, life_s, self._draw())
                attempt += 1
                at_ns = now_ns + int(pause_s * _SECOND_NS)
            else:
                attempt = 0
                at_ns = renewal_ns(now_ns, svid.not_after_ns, self._draw())
            while (left_ns := at_ns - self._now_ns()) > 0:
                await asyncio.sleep(min(left_ns / _SECOND_NS, _LOOK_S))
                self._write()

    async def _issued(self) -> X509Svid | None:
        """Have one certificate issued and put it in force; None where that failed."""
        trust_domain = self._issuer.trust_domain
        key, csr = await asyncio.to_thread(new_request)
        order = X509Order(
            csr, SpiffeId(trust_domain, SERVING_PATH), "service", dns_names=self._names
        )
        (svid,) = await self._issuer.issue_x509([order])
        if isinstance(svid, IdentityError):
            _LOG.warning("the certificate of the public port can't be renewed: %s", svid)
            return None
        self._put(certificate_secret(SERVER_SDS, svid.chain, key.decode()))
        return svid

    async def _follow(self, bundles: AsyncIterator[Bundle]) -> None:
        async for bundle in bundles:
            self._put(roots_secret(CLIENTS_SDS, bundle))

    def _put(self, secret: Secret) -> None:
        self._show(secret)
        # Each, whichever is new: what somebody has cleaned away is there again by the next renewal.
        for each in self._secrets.values():
            response = DiscoveryResponse()
            response.resources.add().Pack(each)
            self._unwritten[each.name] = json_format.MessageToJson(response).encode()
        self._write()

    def _write(self) -> None:
        """Keep what could not be kept so far; a front may be watching."""
        for name, text in tuple(self._unwritten.items()):
            file = self._runtime.secret(name)
            try:
                replace_file(file, text, durable=False)
            except OSError as error:  # A full disk: what is there still holds.
                if name not in self._told:
                    _LOG.warning("%s can't be written: %s", file, error)
                self._told.add(name)
            else:
                del self._unwritten[name]
                self._told.discard(name)

    def _restore(self) -> None:
        """Serve what an earlier control has kept, where there is nothing newer."""
        for name in {SERVER_SDS, CLIENTS_SDS} - self._secrets.keys():
            file, secret = self._runtime.secret(name), Secret()
            try:
                response = json_format.Parse(file.read_bytes(), DiscoveryResponse())
                if response.resources[0].Unpack(secret) and secret.name == name:
                    self._show(secret)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, IndexError, DecodeError, json_format.ParseError):
                _LOG.warning("%s is not what was kept there", file)

    def _show(self, secret: Secret) -> None:
        """Put a secret in force.

        Raises:
            ValueError: It holds no certificate.
        """
        if secret.name == SERVER_SDS:
            certificate = secret.tls_certificate
            chain = certificate.certificate_chain.inline_bytes
            self._times = _times_of(x509.load_pem_x509_certificate(chain))
            self.pem = certificate.private_key.inline_bytes, chain
        else:
            self.roots_pem = secret.validation_context.trusted_ca.inline_bytes
        self._secrets[secret.name] = secret
        self._changed.set()
        self._changed = asyncio.Event()
        if self.pem is not None and self.roots_pem is not None:
            self.ready.set()


def _times_of(leaf: x509.Certificate) -> Expiring:
    begin_s, end_s = (
        int(each.timestamp()) for each in (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    )
    name = "the certificate of the public port"
    return Expiring("serving", name, begin_s * _SECOND_NS, end_s * _SECOND_NS)
