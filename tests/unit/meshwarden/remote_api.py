"""The guarded API as remote callers meet it: real server and store, a front played by headers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from authz.revisions import RevisionStore
from meshwarden import plugins
from meshwarden.control.access import AccessInterceptor, LocalGate
from meshwarden.control.access_gate import RemoteGate
from meshwarden.control.access_service import AccessService
from meshwarden.control.access_state import AccessState
from meshwarden.control.administration import Administration
from meshwarden.control.refusals import Refusals
from meshwarden.control.servers import caller_behind_front
from meshwarden.front.bootstrap import SOURCE_HEADER, TLS_HEADER
from protos.meshwarden.v1.access_pb2_grpc import AccessStub
from protos.meshwarden.v1.access_pb2_grpc import add_AccessServicer_to_server as add

if TYPE_CHECKING:
    # The stub of an asyncio channel, to type checkers only.
    from protos.meshwarden.v1.access_pb2_grpc import AccessAsyncStub

__all__ = ["OPS", "Api", "Outcome", "headers", "outcome", "play"]

Result = TypeVar("Result")
Headers = list[tuple[str, str]]
Outcome = tuple[str, str]
OPS = "mesh.example/ns/ops/sa/ann"
POLICY_APPLY = "/meshwarden.v1.Policy/Apply"


@dataclass
class Api:
    """One instance, its store, and the time there.

    Attributes:
        store: Real, of SQLite.
        state: What is known of it.
        refusals: Where refusals go.
        local: Stub of the owner.
        public: Channel of everybody else.
        seconds: Time that has passed.
    """

    store: RevisionStore
    state: AccessState
    refusals: Refusals
    local: "AccessAsyncStub"
    public: grpc.aio.Channel
    seconds: list[float] = field(default_factory=lambda: [0.0])

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds[0] += seconds

    async def call(self, method: str, given: Headers, message: bytes = b"") -> bytes:
        """Call with these headers, as a front passes them on."""
        reply: bytes = await self.public.unary_unary(method)(message, metadata=given)
        return reply

    async def trail(self) -> list[tuple[str, str, str, str]]:
        """The audit trail, oldest first: who, from where, what, outcome."""
        return [
            (each.who, each.source, each.action, each.outcome)
            for each in reversed(await self.store.audit(99))
        ]


def headers(
    *, name: str = "", token: str = "", tls: str = "TLSv1.3", source: str = "203.0.113.9"
) -> Headers:
    """What a front says of a caller, and the token that the caller shows."""
    told = [(TLS_HEADER, tls), (SOURCE_HEADER, source)]
    if name:
        told.append(("x-forwarded-client-cert", f"URI=spiffe://{name}"))
    if token:
        told.append(("authorization", f"Bearer {token}"))
    return told


async def outcome(call: Awaitable[Any]) -> Outcome:
    """Wait for a call; give its status and words, "OK" for none."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def play(folder: Path, story: Callable[[Api], Awaitable[Result]]) -> Result:
    """Run a story on an instance of its own."""

    async def whole() -> Result:
        async with asyncio.timeout(30), _api(folder) as api:
            return await story(api)

    return asyncio.run(whole())


async def _nothing(message: bytes, _context: Any) -> bytes:
    return message


@asynccontextmanager
async def _api(folder: Path) -> AsyncIterator[Api]:
    adapter = plugins.load("revisions", "sqlite")
    store: RevisionStore = adapter.build(adapter.config(path=folder / "store.db"))
    seconds = [1000.0]

    def now_ns() -> int:
        return int(seconds[0] * 1e9)

    state = AccessState(store, now_ns, lambda: seconds[0])
    refusals = Refusals(store.record, now_ns)
    service = AccessService(Administration(store, state, refusals), 30, _secret, now_ns)
    gates = (RemoteGate(state, refusals, caller_behind_front, now_ns), LocalGate())
    public, local = (grpc.aio.server(interceptors=[AccessInterceptor(gate)]) for gate in gates)
    apply = grpc.method_handlers_generic_handler(
        "meshwarden.v1.Policy", {"Apply": grpc.unary_unary_rpc_method_handler(_nothing)}
    )
    public.add_generic_rpc_handlers((apply,))
    for server, name in ((public, "p"), (local, "l")):
        add(service, server)
        server.add_insecure_port(f"unix:{folder}/{name}")
        await server.start()
    try:
        async with (
            grpc.aio.insecure_channel(f"unix:{folder}/p") as public_channel,
            grpc.aio.insecure_channel(f"unix:{folder}/l") as local_channel,
        ):
            yield Api(store, state, refusals, AccessStub(local_channel), public_channel, seconds)
    finally:
        for server in (public, local):
            await server.stop(None)
        await store.close()


_made = iter(range(1, 1000))


def _secret(count: int) -> bytes:
    """So many bytes, other ones each time."""
    return next(_made).to_bytes(count, "little")
