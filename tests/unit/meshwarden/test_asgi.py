"""What a front answers itself, asked through ASGI."""

import asyncio
import logging
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from authz.check import CheckService
from authz.decision import CheckSettings
from meshwarden.follower import PolicyState
from meshwarden.front.asgi import Front, Limits
from meshwarden.front.bootstrap import RECEIVED_HEADER
from meshwarden.front.grpc_http import STATUS, frame
from meshwarden.health import Health
from meshwarden.metrics import CheckCounts
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from telemetry.record import DecisionRecord
from tests.fakes.asgi import Exchange
from tests.fakes.envoy import check_request
from tests.fakes.policy import fixed, mesh_policy

CHECK = "/envoy.service.auth.v3.Authorization/Check"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
NOW_NS = 1_700_000_000_000_000_000
KINDS = health_pb2.HealthCheckResponse.ServingStatus
ASKED = frame(check_request("/a").SerializeToString())


class World:
    """A front and what it reads from."""

    def __init__(self, folder: Path, limits: Limits = Limits(10, 100_000, 100_000)) -> None:  # noqa: B008
        self.service = CheckService[DecisionRecord](CheckSettings(), lambda: "id")
        self.service.policy = mesh_policy("p, *, *, GET, /a, allow")
        self.marker = folder / "draining"
        self.health = Health(lambda: PolicyState(digest="d"), self.marker, lambda: 0.0, 0.0)
        self.counts = CheckCounts()
        self.front = Front(self.service, self.health, limits, self.counts, lambda: NOW_NS)

    def ask(self, path: str, body: bytes | list[bytes] = b"", **headers: bytes) -> Exchange:
        """Send one request."""
        named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
        exchange = Exchange(path, body, named)
        asyncio.run(self.front(exchange.scope, exchange.receive, exchange.send))
        return exchange


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a front with a small policy."""
    return World(tmp_path)


def test_a_check_is_answered(world: World) -> None:
    """With a CheckResponse in one frame."""
    answer = world.ask(CHECK, ASKED)
    assert answer.grpc_status == 0
    assert CheckResponse.FromString(answer.body[5:]).status.code == 0


def test_a_body_in_pieces_is_one_message(world: World) -> None:
    """However it is cut."""
    answer = world.ask(CHECK, [ASKED[:3], ASKED[3:40], b"", ASKED[40:]])
    assert CheckResponse.FromString(answer.body[5:]).status.code == 0


def test_a_body_past_the_bound_is_refused_unread(tmp_path: Path) -> None:
    """Piece by piece, so that no more is held than the bound."""
    world = World(tmp_path, Limits(10, 1000, 1000))
    answer = world.ask(CHECK, [bytes(600)] * 3)
    assert answer.grpc_status == STATUS["RESOURCE_EXHAUSTED"]


def test_a_caller_that_hangs_up_is_no_fault(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads the answer."""
    with caplog.at_level(logging.WARNING):
        exchange = Exchange(CHECK, [ASKED[:10], b""])
        exchange._incoming[-1] = {"type": "http.disconnect"}
        asyncio.run(world.front(exchange.scope, exchange.receive, exchange.send))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("waited_ns", "timeout", "code"),
    [(0, b"1S", 0), (999_000_000, b"1S", 0), (1_001_000_000, b"1S", STATUS["RESOURCE_EXHAUSTED"])],
)
def test_a_check_whose_deadline_passed_in_our_queue_is_not_decided(
    waited_ns: int, timeout: bytes, code: int, world: World
) -> None:
    """From when Envoy received it, which no client can say."""
    received = str((NOW_NS - waited_ns) // 1000).encode()
    named = {RECEIVED_HEADER.replace("-", "_"): received}
    answer = world.ask(CHECK, ASKED, grpc_timeout=timeout, **named)
    assert answer.grpc_status == code


def test_checks_past_the_limit_are_refused_early(tmp_path: Path) -> None:
    """And those before it go on."""
    world = World(tmp_path, Limits(1, 100_000, 100_000))

    async def scenario() -> tuple[Exchange, Exchange]:
        held, over = Exchange(CHECK, [ASKED[:10], ASKED[10:]]), Exchange(CHECK, ASKED)
        go = asyncio.Event()

        async def slowly() -> object:
            if not held._incoming[0]["more_body"]:
                await go.wait()
            return await Exchange.receive(held)

        first = asyncio.create_task(world.front(held.scope, slowly, held.send))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await world.front(over.scope, over.receive, over.send)
        go.set()
        await first
        return held, over

    held, over = asyncio.run(scenario())
    assert over.grpc_status == STATUS["RESOURCE_EXHAUSTED"]
    assert held.grpc_status == 0
    assert world.ask(CHECK, ASKED).grpc_status == 0


def test_bytes_that_are_no_check_request_are_an_invalid_argument(world: World) -> None:
    """No sidecar sends them."""
    assert world.ask(CHECK, frame(b"\xff\xff")).grpc_status == STATUS["INVALID_ARGUMENT"]
    assert world.ask(CHECK, b"no frame").grpc_status == STATUS["INVALID_ARGUMENT"]


def test_no_policy_yet_is_unavailable(world: World) -> None:
    """Envoy then acts by its failure mode."""
    world.service.policy = None
    assert world.ask(CHECK, ASKED).grpc_status == STATUS["UNAVAILABLE"]


def test_a_fault_of_ours_is_told_by_an_id_and_logged_whole(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """What went wrong inside is nobody's business outside."""

    def stumble(_: object) -> object:
        raise MemoryError("secret detail")

    world.service.policy = fixed(stumble)  # type: ignore[arg-type]
    answer = world.ask(CHECK, ASKED)
    assert answer.grpc_status == STATUS["INTERNAL"]
    told = answer.headers[b"grpc-message"].decode()
    assert told.startswith("internal fault ")
    assert told.removeprefix("internal fault ") in caplog.text
    assert "secret" not in told
    assert "secret detail" in caplog.text
    assert world.counts.errors["INTERNAL"] == 1


def test_methods_that_are_not_there_are_unimplemented(world: World) -> None:
    """In gRPC's words for gRPC's paths, else in HTTP's."""
    for path in (CHECK + "More", "/envoy.service.auth.v3.Authorization/Other", HEALTH + "2"):
        assert world.ask(path).grpc_status == STATUS["UNIMPLEMENTED"]
    assert world.ask("/metrics/more").status == 404


def health(answer: Exchange) -> int:
    """Read a HealthCheckResponse."""
    return int(health_pb2.HealthCheckResponse.FromString(answer.body[5:]).status)


def test_health_follows_the_drain_marker_at_once(world: World) -> None:
    """No tick is waited for."""
    asked = frame(b"")
    assert health(world.ask(HEALTH, asked)) == KINDS.SERVING
    assert world.ask("/readyz").status == 200
    world.marker.touch()
    assert health(world.ask(HEALTH, asked)) == KINDS.NOT_SERVING
    answer = world.ask("/readyz")
    assert (answer.status, answer.body) == (503, b"draining\n")
    assert world.ask("/healthz").status == 200


@pytest.mark.parametrize("path", [HEALTH, WATCH])
def test_a_question_about_health_is_short(world: World, path: str) -> None:
    """Or many such questions would fill the front's memory."""
    answer = world.ask(path, [bytes(3000)] * 2)
    assert answer.grpc_status == STATUS["RESOURCE_EXHAUSTED"]


def test_health_of_an_unknown_service_is_not_found(world: World) -> None:
    """As the protocol has it."""
    asked = health_pb2.HealthCheckRequest(service="no.such").SerializeToString()
    assert world.ask(HEALTH, frame(asked)).grpc_status == STATUS["NOT_FOUND"]
    assert world.ask(HEALTH, frame(b"\xff")).grpc_status == STATUS["INVALID_ARGUMENT"]


def test_a_watch_tells_the_state_and_each_change_of_it(world: World) -> None:
    """Until the caller hangs up."""
    world.health.refresh()

    async def scenario() -> list[int]:
        exchange = Exchange(WATCH, frame(b""))
        gone = asyncio.Event()
        plain = exchange.receive

        async def receive() -> object:
            if not exchange._incoming:
                await gone.wait()
            return await plain()

        watching = asyncio.create_task(world.front(exchange.scope, receive, exchange.send))  # type: ignore[arg-type]
        await seen(exchange, 1)
        world.health.refresh()  # No change: nothing is said.
        world.marker.touch()
        world.health.refresh()
        await seen(exchange, 2)
        world.marker.unlink()
        world.health.refresh()
        await seen(exchange, 3)
        gone.set()
        await asyncio.wait_for(watching, 5)
        return [
            int(health_pb2.HealthCheckResponse.FromString(each["body"][5:]).status)
            for each in exchange.sent[1:]
        ]

    assert asyncio.run(scenario()) == [KINDS.SERVING, KINDS.NOT_SERVING, KINDS.SERVING]


async def seen(exchange: Exchange, messages: int) -> None:
    """Wait for that many messages after the headers."""
    async with asyncio.timeout(5):
        while len(exchange.sent) < messages + 1:
            await asyncio.sleep(0.001)
