"""Very many agents in one process: each a connection of its own by mutual TLS, and its two streams.

Each is the agent's own link (`meshwarden/agent/link.py`) with its pauses and its digests; only the
way to the server is shorter: gRPC's TLS in place of a socket of the agent's own.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from benchmarks.h2load import LoadError
from ca.entries import WorkloadEntry
from ca.local_keys import new_request
from meshwarden import clock
from meshwarden.agent.door import CHANNEL_OPTIONS, Door
from meshwarden.agent.identities import Identities
from meshwarden.agent.keep import Keep
from meshwarden.agent.link import Link
from protos.meshwarden.v1 import agent_pb2, agent_pb2_grpc

__all__ = ["Crowd", "Holder", "attested"]

_AT_ONCE = 32
_ATTEMPTS = 10
_POLL_S = 0.02
_OPTIONS = (
    *CHANNEL_OPTIONS,
    # Channels of one process would share a connection that goes to the same place.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """An agent's own identity: key and chain in PEM."""

    spiffe_id: str
    key: bytes
    chain: bytes


async def attested(port: int, bundle: bytes, tokens: Iterable[str]) -> list[Holder]:
    """Have an agent let in for each token, in their order."""
    room = asyncio.Semaphore(_AT_ONCE)
    credentials = grpc.ssl_channel_credentials(bundle)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        stub = agent_pb2_grpc.AttestationStub(channel)

        async def attest(token: str) -> Holder:
            key, csr = new_request()
            evidence = agent_pb2.Evidence(attestor="join_token", payload=token.encode(), csr=csr)
            async with room:
                reply = await _answer(stub, agent_pb2.AttestRequest(evidence=evidence))
            if not isinstance(reply, agent_pb2.AttestReply):
                raise LoadError("an attestation ended without a word")
            chain = map(x509.load_der_x509_certificate, reply.svid.chain)
            pem = b"".join(each.public_bytes(Encoding.PEM) for each in chain)
            return Holder(reply.svid.spiffe_id, key, pem)

        return list(await asyncio.gather(*map(attest, tokens)))


async def _answer(
    stub: "agent_pb2_grpc.AttestationAsyncStub", request: agent_pb2.AttestRequest
) -> object:
    """Try again while the database is busy, as agents do."""
    attempt = 0
    while True:
        try:
            return await stub.Attest(iter([request])).read()
        except grpc.aio.AioRpcError as error:
            attempt += 1
            if attempt == _ATTEMPTS or error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(1)


class Crowd:
    """Agents that stay connected; `start` it, and `stop` it in the end."""

    def __init__(self, port: int, bundle: bytes, holders: Sequence[Holder], folder: Path) -> None:
        self._agents = [_Agent(port, bundle, each, folder) for each in holders]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Have all connect, as fast as they can."""
        self._tasks = [asyncio.create_task(each.link.run()) for each in self._agents]

    async def until_served(self, within_s: float) -> float:
        """Wait until all have their entries and the bundle; give the seconds that it took."""
        return await self._until(lambda each: each.is_served, within_s)

    async def until_told(self, entry: WorkloadEntry, within_s: float) -> float:
        """Wait until all know an entry in its version; give the seconds that it took."""
        return await self._until(lambda each: each.knows(entry), within_s)

    async def until_lost(self, within_s: float) -> float:
        """Wait until all have noticed that the server is away."""
        return await self._until(lambda each: not each.link.state.connected, within_s)

    @property
    def sessions(self) -> int:
        """How many sessions all have begun, together."""
        return sum(each.link.state.sessions for each in self._agents)

    async def stop(self) -> None:
        """Have all go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _until(self, done: "Callable[[_Agent], bool]", within_s: float) -> float:
        started_s = time.monotonic()
        left = self._agents
        while left := [each for each in left if not done(each)]:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() - started_s > within_s:
                why = left[0].link.state.fault
                raise LoadError(
                    f"{len(left)} of {len(self._agents)} agents are not there after "
                    f"{within_s:g} s; the first: {why or 'connected'}"
                )
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - started_s


class _Agent:
    def __init__(self, port: int, bundle: bytes, holder: Holder, folder: Path) -> None:
        draw = random.Random(holder.spiffe_id).random
        self.identities = Identities(clock.now_ns, draw)
        self.link = Link(
            _TlsDoor(port, bundle, holder), self.identities, _NoKeep(folder), clock.now_ns, draw
        )

    @property
    def is_served(self) -> bool:
        return self.link.state.connected and bool(self.identities.bundles)

    def knows(self, entry: WorkloadEntry) -> bool:
        return (self.identities.entries or {}).get(entry.id) == entry


class _NoKeep(Keep):
    """Keeps nothing: the disk is not what is measured."""

    @override
    def save_bundles(self, bundles: object) -> None:
        pass


class _TlsDoor(Door):
    """A way by gRPC's own TLS, for an identity that lasts."""

    def __init__(self, port: int, bundle: bytes, holder: Holder) -> None:
        self._target = f"localhost:{port}"
        self._bundle = bundle
        self._holder = holder

    @property
    @override
    def agent_id(self) -> str:
        return self._holder.spiffe_id

    @property
    @override
    def not_after_ns(self) -> int:
        return 0

    @property
    @override
    def fault(self) -> str:
        return ""

    @override
    async def enter(self) -> grpc.aio.Channel:
        held = self._holder
        credentials = grpc.ssl_channel_credentials(self._bundle, held.key, held.chain)
        return grpc.aio.secure_channel(self._target, credentials, options=_OPTIONS)

    @override
    async def hold(self, channel: grpc.aio.Channel) -> None:
        await asyncio.Event().wait()

    @override
    def rejected(self) -> None:
        raise LoadError("an agent lost its identity")

    @override
    async def close(self) -> None:
        pass
