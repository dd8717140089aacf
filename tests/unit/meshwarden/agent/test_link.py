"""The agent follows its server: what it is told, in whichever order faults come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from typing_extensions import override

from ca.entries import WorkloadEntry, set_digest
from ca.selectors import Selector
from meshwarden import clock
from meshwarden.agent.door import Door
from meshwarden.agent.exchange import NotBelievedError
from meshwarden.agent.identities import Identities
from meshwarden.agent.keep import Keep
from meshwarden.agent.link import Link
from meshwarden.agent.renewer import LinkDownError, Order, Refused
from meshwarden.identity_messages import bundle_message, workload_message
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc
from tests.fakes.signer import FakeSigner

WEB = WorkloadEntry("web", "spiffe://td.example/web", (Selector("unix", "uid:7"),), version=1)
API = WorkloadEntry("api", "spiffe://td.example/api", (Selector("unix", "uid:7"),), version=1)


class FakeDoor(Door):
    """A plain way to a server in this process.

    Attributes:
        rejections: How often the agent was told that it is not known.
        refusal: Why entering fails.
        no_connection: Why it can't be reached.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.rejections = 0
        self.refusal: Exception | None = None
        self.no_connection = ""
        self.renewed = asyncio.Event()

    @property
    @override
    def agent_id(self) -> str:
        return "spiffe://td.example/meshwarden/agent/a/1"

    @property
    @override
    def not_after_ns(self) -> int:
        return 0

    @override
    async def enter(self) -> grpc.aio.Channel:
        if self.refusal is not None:
            raise self.refusal
        return grpc.aio.insecure_channel(self._address)

    @property
    @override
    def fault(self) -> str:
        return self.no_connection

    @override
    async def hold(self, channel: grpc.aio.Channel) -> None:
        await self.renewed.wait()
        self.renewed.clear()

    @override
    def rejected(self) -> None:
        self.rejections += 1

    @override
    async def close(self) -> None:
        pass


class Server(agent_pb2_grpc.AgentServicer):
    """An Agent service that can be made to err, as a real one is not.

    Attributes:
        asked: The digests that the agent asked with.
        replies: What each stream of entries says, one list a stream; the last goes on for ever.
        failing: What every call fails with.
        results: Of the next batch.
        is_signing: Whether it signs for this agent.
    """

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.replies: list[list[pb.EntriesReply]] = []
        self.failing: grpc.StatusCode | None = None
        self.results: list[pb.X509Result] = []
        self.hang = False
        self.is_signing = True
        self._bundle = FakeSigner(clock.now_ns).bundle()

    @override
    async def Entries(
        self, request: pb.EntriesRequest, context: Any
    ) -> AsyncIterator[pb.EntriesReply]:
        await self._fail(context)
        self.asked.append(request.digest)
        for index, reply in enumerate(self.replies.pop(0) if self.replies else []):
            if not index:
                reply.bundles.append(bundle_message(self._bundle))
            yield reply
        await asyncio.Event().wait()

    @override
    async def SignX509(self, request: pb.SignX509Request, context: Any) -> pb.SignX509Reply:
        await self._fail(context)
        if not self.is_signing:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "who are you?")
        if self.hang:
            await asyncio.Event().wait()
        return pb.SignX509Reply(results=self.results)

    @override
    async def SignJwt(self, request: pb.SignJwtRequest, context: Any) -> pb.SignJwtReply:
        await self._fail(context)
        return pb.SignJwtReply(spiffe_id="spiffe://td.example/web", issued_ns=1, expires_ns=2)

    async def _fail(self, context: Any) -> None:
        if self.failing is not None:
            await context.abort(self.failing, "because")


class World:
    """A link with a server, in one process."""

    def __init__(self, folder: Path, address: str, server: Server) -> None:
        self.server = server
        self.door = FakeDoor(address)
        self.identities = Identities(clock.now_ns, lambda: 0.0)
        self.keep = Keep(folder)
        self.link = Link(self.door, self.identities, self.keep, clock.now_ns, lambda: 0.0)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    def ids(self) -> set[str]:
        """The entries that the agent knows."""
        return set(self.identities.entries or ())


def run(folder: Path, test: Callable[[World], Awaitable[None]], *, runs: bool = True) -> None:
    """Run a test in a world of its own."""

    async def in_loop() -> None:
        service, server = Server(), grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        world = World(folder, f"127.0.0.1:{port}", service)
        task = asyncio.create_task(world.link.run()) if runs else None
        try:
            await test(world)
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await server.stop(0)

    asyncio.run(in_loop())


def whole(*entries: WorkloadEntry, digest: bytes | None = None) -> pb.EntriesReply:
    """Say the whole set."""
    return pb.EntriesReply(
        whole=True,
        changed=map(workload_message, entries),
        digest=set_digest(entries) if digest is None else digest,
    )


def test_entries_and_bundles_are_followed_by_changes(tmp_path: Path) -> None:
    """The whole first, then what changed and what went; the bundle is kept on disk."""

    async def story(world: World) -> None:
        world.server.replies = [
            [
                whole(WEB),
                pb.EntriesReply(changed=[workload_message(API)], digest=set_digest([WEB, API])),
                pb.EntriesReply(removed=["web"], digest=set_digest([API])),
            ]
        ]
        await world.until(lambda: world.ids() == {"api"} and world.identities.bundles)
        assert world.link.state.connected
        assert world.server.asked == [b""]
        assert world.keep.load_bundles() == world.identities.bundles

    run(tmp_path, story)


def test_a_set_of_several_replies_is_taken_with_the_last(tmp_path: Path) -> None:
    """A part is no set: its workloads would lose what the next part gives them."""

    async def story(world: World) -> None:
        parts = [
            pb.EntriesReply(whole=True, changed=[workload_message(WEB)], more=True),
            pb.EntriesReply(changed=[workload_message(API)], digest=set_digest([WEB, API])),
        ]
        taken = []
        take = world.identities.set_entries
        world.identities.set_entries = (  # type: ignore[method-assign]
            lambda entries: taken.append(len(entries)) or take(entries)  # type: ignore[arg-type, func-returns-value]
        )
        world.server.replies = [parts]
        await world.until(lambda: world.ids() == {"web", "api"})
        assert taken == [2]
        assert world.server.asked == [b""]

    run(tmp_path, story)


def test_a_set_with_another_digest_is_asked_for_anew(tmp_path: Path) -> None:
    """Promise 24: whatever went wrong, two that differ don't stay so; what was there stays."""

    async def story(world: World) -> None:
        wrong = pb.EntriesReply(changed=[workload_message(API)], digest=b"x" * 32)
        world.server.replies = [[whole(WEB), wrong], [whole(WEB, API)]]
        await world.until(lambda: world.ids() == {"web", "api"})
        assert world.server.asked == [b"", b""]

    run(tmp_path, story)


def test_a_server_that_contradicts_itself_is_not_asked_without_end(tmp_path: Path) -> None:
    """The second time is a fault, with a pause after it."""

    async def story(world: World) -> None:
        wrong = [whole(WEB, digest=b"x" * 32)]
        world.server.replies = [wrong, wrong]
        await world.until(lambda: "not those that the server says" in world.link.state.fault)
        assert len(world.server.asked) == 2
        assert world.identities.entries is None

    run(tmp_path, story)


def test_an_agent_for_whom_nothing_is_signed_enters_anew(tmp_path: Path) -> None:
    """Though its stream goes on: it would serve what it has until that ends, and never know."""

    async def story(world: World) -> None:
        world.server.is_signing = False
        world.server.replies = [[whole(WEB)], [whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        with pytest.raises(LinkDownError, match="who are you"):
            await world.link.sign([Order("web", b"", ())])
        await world.until(lambda: world.door.rejections)
        assert "who are you" in world.link.state.fault
        world.server.is_signing = True
        await world.until(lambda: world.link.state.connected)
        assert world.link.state.sessions == 2

    run(tmp_path, story)


def test_after_a_fault_the_agent_asks_with_what_it_has(tmp_path: Path) -> None:
    """And is told nothing where that is the same; it counts as connected then."""

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)], [pb.EntriesReply(digest=set_digest([WEB]))]]
        await world.until(lambda: world.link.state.connected)
        world.door.renewed.set()
        await world.until(lambda: len(world.server.asked) == 2)
        assert world.server.asked[1] == set_digest([WEB])
        assert world.ids() == {"web"}

    run(tmp_path, story)


@pytest.mark.parametrize("code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE])
def test_only_a_server_that_does_not_know_the_agent_makes_it_attest_anew(
    tmp_path: Path, code: grpc.StatusCode
) -> None:
    """A server in trouble doesn't; either way what is known stays, and the fault is told."""

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        world.server.failing = code
        world.door.renewed.set()
        await world.until(lambda: not world.link.state.connected)
        assert "because" in world.link.state.fault
        assert world.door.rejections == (code is grpc.StatusCode.PERMISSION_DENIED)
        assert world.ids() == {"web"}
        world.server.failing = None
        world.server.replies = [[pb.EntriesReply(digest=set_digest([WEB]))]]
        await world.until(lambda: world.link.state.connected)

    run(tmp_path, story)


def test_why_there_is_no_connection_is_told_by_the_way_that_knows(tmp_path: Path) -> None:
    """Of a connection gRPC knows our own socket alone; a server's words are told as they are."""

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        world.door.no_connection = "mesh.example:9191: Connection refused"
        world.server.failing = grpc.StatusCode.UNAVAILABLE
        world.door.renewed.set()
        await world.until(lambda: world.link.state.fault == "mesh.example:9191: Connection refused")
        world.server.failing = grpc.StatusCode.PERMISSION_DENIED
        await world.until(lambda: "because" in world.link.state.fault)

    run(tmp_path, story)


def test_an_agent_that_was_believed_once_goes_on_trying(tmp_path: Path) -> None:
    """Somebody may let it back in."""

    async def story(world: World) -> None:
        world.door.refusal = NotBelievedError("banned")
        task = asyncio.create_task(world.link.run())
        await world.until(lambda: "banned" in world.link.state.fault)
        world.door.refusal = None
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(tmp_path, story, runs=False)


def test_an_agent_that_is_not_believed_any_more_asks_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good its last session was: a fleet that is banned must not attest every second."""
    attempts: list[int] = []

    def noted(attempt: int, life_s: float, draw: float) -> float:
        del life_s, draw
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr("meshwarden.agent.link.retry_pause_s", noted)

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        world.door.refusal = NotBelievedError("banned")
        world.door.renewed.set()
        await world.until(lambda: len(attempts) > 3)
        assert attempts[:4] == [0, 1, 2, 3]

    run(tmp_path, story)


def test_without_a_session_nothing_is_signed_and_the_reason_is_told(tmp_path: Path) -> None:
    """At once: nobody waits for a server that isn't there."""

    async def story(world: World) -> None:
        with pytest.raises(LinkDownError, match="not been reached"):
            await world.link.sign([Order("web", b"", ())])
        with pytest.raises(LinkDownError, match="not been reached"):
            await world.link.sign_token("web", ["a"], ())

    run(tmp_path, story, runs=False)


def test_answers_are_told_apart_from_faults(tmp_path: Path) -> None:
    """A refusal is a value; a batch with too few results is a fault, and none of it is used."""

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        refusal = pb.Refusal(code="PERMISSION_DENIED", message="no")
        world.server.results = [pb.X509Result(refusal=refusal)]
        assert await world.link.sign([Order("web", b"", ())]) == [Refused("PERMISSION_DENIED: no")]
        with pytest.raises(LinkDownError, match="another number"):
            await world.link.sign([Order("web", b"", ())] * 2)
        world.server.failing = grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(LinkDownError, match="because"):
            await world.link.sign_token("web", ["a"], ())
        world.server.failing = grpc.StatusCode.NOT_FOUND
        assert isinstance(await world.link.sign_token("web", ["a"], ()), Refused)

    run(tmp_path, story)


def test_a_call_that_ends_with_its_session_is_a_fault_and_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc.aio cancels it; who waits for it must not be taken for cancelled."""
    monkeypatch.setattr("meshwarden.agent.link._CLOSE_S", 0.2)

    async def story(world: World) -> None:
        world.server.replies = [[whole(WEB)]]
        await world.until(lambda: world.link.state.connected)
        world.server.hang = True
        signing = asyncio.create_task(world.link.sign([Order("web", b"", ())]))
        await asyncio.sleep(0.2)
        world.door.renewed.set()
        with pytest.raises(LinkDownError):
            await signing

    run(tmp_path, story)
