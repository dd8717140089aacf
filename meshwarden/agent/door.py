"""How an agent gets to the server: known there by a certificate that it attested for.

A secret goes to a server only after that has proved who it is, by an authority that the agent was
given: in a file, as a hash inside its join token, or kept from an earlier run.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
from cryptography import x509
from typing_extensions import override

from ca.bundle import Bundle
from ca.keys import KeyType, PrivateKey, generate
from ca.profile import BACKDATE_S
from ca.renewal import renewal_ns, resumed_ns, retry_pause_s
from ca.spiffe_id import parse
from meshwarden.agent.evidence import Evidence, EvidenceError, ExpiredSvid, JoinToken
from meshwarden.agent.exchange import REFUSALS, NotBelievedError, as_bundle, attested, told
from meshwarden.agent.keep import Keep, OwnIdentity
from meshwarden.agent.renewer import LinkDownError, request_for_key
from meshwarden.agent.svids import UNFIT
from meshwarden.agent.uplink import ServerAddress, Uplink, tls_context
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc

__all__ = [
    "CHANNEL_OPTIONS",
    "Door",
    "TlsDoor",
    "TlsDoorSettings",
]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_TIMEOUT_S = 30.0
_AGENT_PATH = "/meshwarden/agent/"
CHANNEL_OPTIONS = (
    # A fault is told at once; whoever calls has a plan for it.
    ("grpc.enable_retries", 0),
    # Else a new channel to the same socket begins with the last one's failure and its pause, and
    # who has just been believed again would be told that nobody is there.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 200),
    # No pause, whatever its name says: how long an attempt to connect may take. A server to which
    # thousands come back at once makes the last ones wait; who gives up early makes it begin anew.
    ("grpc.min_reconnect_backoff_ms", 15_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Door(Protocol):
    """A way to the server's Agent service."""

    @property
    def agent_id(self) -> str:
        """Who the agent is to the server; "" before it was told."""
        ...

    async def enter(self) -> grpc.aio.Channel:
        """Give a channel to the server on which this agent is known.

        Raises:
            LinkDownError: The server can't be reached, or doesn't prove who it is.
            NotBelievedError: It doesn't believe this node.
        """
        ...

    async def hold(self, channel: grpc.aio.Channel) -> None:
        """Keep the agent known; return when it is known by something new, to enter again."""
        ...

    def rejected(self) -> None:
        """Note that the server did not know the agent by what it has."""
        ...

    @property
    def not_after_ns(self) -> int:
        """When the agent's own certificate expires; 0 without one."""
        ...

    @property
    def fault(self) -> str:
        """Why there is no connection, where gRPC can't know; "" where there is one."""
        ...

    async def close(self) -> None:
        """Leave nothing open."""
        ...


@dataclass(frozen=True, slots=True)
class TlsDoorSettings:
    """What a door is made of.

    Attributes:
        server: Where the server is.
        trust_bundle: PEM file of authorities that the server may chain to; None for none.
        insecure: Whether to believe the first server there is, where nothing else is known.
        evidence: What this node shows.
        sockets: A folder that only we enter.
    """

    server: ServerAddress
    trust_bundle: Path | None
    insecure: bool
    evidence: Evidence
    sockets: Path


class TlsDoor(Door):
    """TLS with a certificate that is attested for, renewed, and kept on disk."""

    def __init__(
        self,
        settings: TlsDoorSettings,
        keep: Keep,
        now_ns: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        """Take up what is kept on disk.

        Args:
            settings: What it is made of.
            keep: The agent's folder.
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
        """
        self._settings = settings
        self._keep = keep
        self._now_ns = now_ns
        self._draw = draw
        self._own = keep.load_identity()
        self._renewal_ns = self._planned_ns(self._own) if self._own is not None else 0
        self._is_rejected = False
        self._uplink: Uplink | None = None

    @property
    @override
    def agent_id(self) -> str:
        """Who the agent is to the server."""
        return self._own.spiffe_id if self._own is not None else ""

    @property
    @override
    def not_after_ns(self) -> int:
        """When the own certificate expires; 0 without one."""
        return self._own.not_after_ns if self._own is not None else 0

    @override
    async def enter(self) -> grpc.aio.Channel:
        """Attest if need be; then open a channel with the own certificate."""
        await self._close()
        own = self._own
        if own is None or self._is_rejected or own.not_after_ns <= self._now_ns():
            await self._attest()
        elif not any(self._authorities()):
            _LOG.warning("the authorities of the server are not known any more: attesting anew")
            await self._attest()
        uplink = self._made(
            "agent",
            lambda: tls_context(self._readable_authorities(), self._keep.identity),
            known=True,
        )
        await uplink.open()
        self._uplink = uplink
        return _channel(uplink)

    @override
    async def hold(self, channel: grpc.aio.Channel) -> None:
        """Renew the own certificate around its half-life, for a new key."""
        own = self._own
        assert own is not None  # noqa: S101 - `enter` came first
        # Planned once: a draw for each connection would have many renew as soon as they are back.
        now_ns, draw = self._now_ns(), self._draw()
        self._renewal_ns = resumed_ns(self._renewal_ns, own.not_after_ns, now_ns, draw)
        await self._sleep_until(self._renewal_ns)
        life_s = (own.not_after_ns - _begin_ns(own)) / _SECOND_NS
        stub = agent_pb2_grpc.AgentStub(channel)
        attempt = 0
        while True:
            key = generate(KeyType.EC_P256)
            try:
                reply = await stub.Renew(
                    pb.RenewRequest(csr=request_for_key(key, None)), timeout=_TIMEOUT_S
                )
                self._become(self._checked(reply.svid, key))
            except (grpc.aio.AioRpcError, LinkDownError, OSError) as error:
                if isinstance(error, grpc.aio.AioRpcError) and error.code() in REFUSALS:
                    raise
                _LOG.warning("the agent's own certificate was not renewed: %s", told(error))
                await asyncio.sleep(retry_pause_s(attempt, life_s, self._draw()))
                attempt += 1
            else:
                _LOG.info("the agent's own certificate was renewed")
                return

    @override
    def rejected(self) -> None:
        """Attest anew at the next entry."""
        self._is_rejected = True

    @override
    async def close(self) -> None:
        """Close the way."""
        await self._close()

    async def _close(self) -> None:
        uplink, self._uplink = self._uplink, None
        if uplink is not None:
            await uplink.close()

    @property
    @override
    def fault(self) -> str:
        """Why there is no connection; "" where there is, or nothing is known."""
        return self._uplink.fault if self._uplink is not None else ""

    def _planned_ns(self, own: OwnIdentity) -> int:
        return renewal_ns(_begin_ns(own), own.not_after_ns, self._draw())

    async def _sleep_until(self, at_ns: int) -> None:
        # In steps: a machine that slept, or a clock that was set, must not make it late.
        while (left_ns := at_ns - self._now_ns()) > 0:
            await asyncio.sleep(min(left_ns / _SECOND_NS, 5.0))

    def _made(
        self, name: str, context: Callable[[], ssl.SSLContext], *, known: bool = False
    ) -> Uplink:
        """Make a way to a server: with `known`, of the agent's own trust domain alone."""
        own = self._own if known else None
        trust_domain = "" if own is None else parse(own.spiffe_id).trust_domain
        path = self._settings.sockets / f"{name}.up"
        return Uplink(path, self._settings.server, context, trust_domain)

    def _readable_authorities(self) -> list[str]:
        try:
            return self._authorities()
        except LinkDownError as error:
            raise ValueError(str(error)) from error  # A fault of one connection.

    def _authorities(self) -> list[str]:
        """Give the roots that the server may chain to, in PEM; none where nothing is known."""
        found = [bundle.to_pem() for bundle in self._keep.load_bundles()[:1]]
        if self._settings.trust_bundle is not None:
            try:
                found.append(self._settings.trust_bundle.read_text("ascii"))
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it holds no PEM"
                raise LinkDownError(f"{self._settings.trust_bundle}: {reason}") from error
        return found

    async def _attest(self) -> None:
        """Be believed, by the first evidence that will do.

        Raises:
            LinkDownError: The server can't be asked.
            NotBelievedError: It believed none of it.
        """
        ways: list[Evidence] = [self._settings.evidence]
        if self._own is not None:
            ways.insert(0, ExpiredSvid(self._own))
        refusals = []
        for evidence in ways:
            try:
                await self._attest_by(evidence)
            except EvidenceError as error:
                refusals.append(f"{evidence.attestor}: {error}")
            except NotBelievedError as error:
                refusals.append(f"{evidence.attestor}: {error}")
            else:
                self._is_rejected = False
                return
        raise NotBelievedError("; ".join(refusals))

    async def _attest_by(self, evidence: Evidence) -> None:
        payload = evidence.payload()
        authorities = await self._known_authorities(evidence)
        key = self._keep.pending_key(lambda: generate(KeyType.EC_P256))
        # Who has been an agent already shows that to the server of its own trust domain alone.
        known = isinstance(evidence, ExpiredSvid)
        async with self._channel("attest", authorities, known=known) as (uplink, channel):
            try:
                reply = await attested(channel, evidence, payload, key)
            except LinkDownError as error:
                raise LinkDownError(uplink.fault or str(error)) from error
        # Step 1: all of the answer is looked at; of one that is no good, nothing is kept.
        own, bundle = self._checked(reply.svid, key), as_bundle(reply.bundle)
        if not bundle.x509_authorities or bundle.trust_domain != parse(own.spiffe_id).trust_domain:
            raise LinkDownError("the server's answer holds no bundle of the agent's trust domain")
        # Step 2: the bundle; with the certificate alone, a restart would not know the server.
        self._keep.save_bundles((bundle,))
        # Step 3: the certificate.
        self._become(own)
        _LOG.info("attested by %s: this agent is %s", evidence.attestor, self.agent_id)

    async def _known_authorities(self, evidence: Evidence) -> list[str]:
        """Give the roots to know the server by before it sees any evidence.

        Raises:
            LinkDownError: There are none.
            NotBelievedError: Likewise, and there never were.
        """
        expected = evidence.authorities() if isinstance(evidence, JoinToken) else ""
        # A file that the operator names comes before a hash; a kept bundle must agree with it.
        is_known = self._settings.trust_bundle is not None or any(
            expected in {"", bundle.sha256} for bundle in self._keep.load_bundles()[:1]
        )
        if is_known:
            return self._authorities()
        token = self._settings.evidence
        if not expected and isinstance(token, JoinToken):
            # The bundle was lost: the token may be there still, and has the hash.
            with contextlib.suppress(EvidenceError):
                expected = token.authorities()
        bundle = None
        if expected:
            bundle = await self._public_bundle()
            if bundle.sha256 != expected:
                raise LinkDownError(
                    "this is not the server that the join token is for: its authorities have "
                    f"another hash ({bundle.sha256[:16]}... where the token says "
                    f"{expected[:16]}...). The token was not sent"
                )
        elif self._settings.insecure:
            bundle = await self._public_bundle()
            _LOG.warning(
                "INSECURE: the server at %s is believed without proof, since "
                "--insecure-bootstrap asks for it. Compare its authorities' SHA-256 with what "
                "'meshwarden bundle show --format sha256' says there: %s",
                self._settings.server.host,
                bundle.sha256,
            )
        if bundle is None:
            told = (
                "nothing is known to prove the server by: give --trust-bundle, or a join token "
                "that holds the bundle's hash"
            )
            # Who was an agent before has something to serve; nothing comes of waiting otherwise.
            raise NotBelievedError(told) if self._own is None else LinkDownError(told)
        return [bundle.to_pem()]

    async def _public_bundle(self) -> Bundle:
        """Read what anybody may know, from a server that proves nothing."""
        async with self._channel("public", None) as (uplink, channel):
            try:
                reply = await agent_pb2_grpc.AttestationStub(channel).GetBundle(
                    pb.BundlesRequest(), timeout=_TIMEOUT_S
                )
            except grpc.aio.AioRpcError as error:
                raise LinkDownError(uplink.fault or told(error)) from error
        return as_bundle(reply)

    @contextlib.asynccontextmanager
    async def _channel(
        self, name: str, authorities: Sequence[str] | None, *, known: bool = False
    ) -> AsyncIterator[tuple[Uplink, grpc.aio.Channel]]:
        uplink = self._made(name, lambda: tls_context(authorities), known=known)
        await uplink.open()
        try:
            async with _channel(uplink) as channel:
                yield uplink, channel
        finally:
            await uplink.close()

    def _checked(self, svid: pb.X509Svid, key: PrivateKey) -> OwnIdentity:
        """Look at a certificate that is to be the agent's own.

        Raises:
            LinkDownError: It is not what was asked for.
        """
        try:
            leaf, *_ = map(x509.load_der_x509_certificate, svid.chain)
            is_for_key = leaf.public_key() == key.public_key()
            is_agent = parse(svid.spiffe_id).path.startswith(_AGENT_PATH)
        except (ValueError, *UNFIT) as error:
            raise LinkDownError("the server's answer holds no certificate of an agent") from error
        if not is_for_key or not is_agent:
            raise LinkDownError("the server's answer is for another key, or for no agent")
        if svid.not_after_ns <= self._now_ns():
            # It would be renewed at once, again and again.
            raise LinkDownError(
                "by the clock of this machine the agent's new certificate has expired already: "
                "one of the clocks is wrong"
            )
        return OwnIdentity(svid.spiffe_id, tuple(svid.chain), key, svid.not_after_ns)

    def _become(self, own: OwnIdentity) -> None:
        self._keep.save_identity(own)
        self._own, self._renewal_ns = own, self._planned_ns(own)


def _channel(uplink: Uplink) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"unix:{uplink.path}", options=CHANNEL_OPTIONS)


def _begin_ns(own: OwnIdentity) -> int:
    leaf = x509.load_der_x509_certificate(own.chain[0])
    not_before_ns = int(leaf.not_valid_before_utc.timestamp()) * _SECOND_NS
    return not_before_ns + BACKDATE_S * _SECOND_NS
