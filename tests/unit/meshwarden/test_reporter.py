"""Decision records on their way to control: none waits, none comes twice, drops are counted."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import pytest
from prometheus_client import REGISTRY
from typing_extensions import override

from meshwarden.front.reporter import Reporter
from protos.meshwarden.v1 import internal_pb2, internal_pb2_grpc
from telemetry.record import DecisionRecord, read_line, record_line

RECORD = DecisionRecord(
    id="0", time_ns=1, verdict="deny", status=403, rule_file="policy.csv", rule_line=2,
    rule_text="p, a", reason="no rule matched", digest="d", principal="td/ns/x/sa/y", user="",
    service="s", method="GET", path="/a", source_ip="10.0.0.1", host="h",
    misses=("policy.csv:1: path",),
)  # fmt: skip


class Control(internal_pb2_grpc.InternalServicer):
    """Control's internal service: keeps what it takes."""

    def __init__(self, takes: int = 1_000_000) -> None:
        self.ids: list[str] = []
        self.fronts: set[str] = set()
        self.dropped = 0
        self._takes = takes

    @override
    async def Report(
        self, request: internal_pb2.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> internal_pb2.ReportReply:
        taken = [read_line(each) for each in request.lines[: self._takes]]
        self.fronts.update(record.front for record in taken)
        self.ids += [record.id for record in taken]
        self.dropped += request.dropped
        return internal_pb2.ReportReply(accepted=len(taken))


@pytest.fixture
def socket() -> Iterator[Path]:
    """Give a short path."""
    with tempfile.TemporaryDirectory(prefix="mw-") as folder:
        yield Path(folder) / "internal.sock"


@asynccontextmanager
async def serving(control: Control, socket: Path) -> AsyncIterator[None]:
    """Serve control's internal service."""
    server = grpc.aio.server()
    internal_pb2_grpc.add_InternalServicer_to_server(control, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


@asynccontextmanager
async def reporting(reporter: Reporter) -> AsyncIterator[None]:
    """Run a reporter and close it in order."""
    running = asyncio.create_task(reporter.run())
    try:
        yield
        reporter.close()
        await asyncio.wait_for(running, 5)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, 10 s at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def counted(outcome: str) -> float:
    """How many records had this outcome so far."""
    labels = {"outcome": outcome}
    return REGISTRY.get_sample_value("meshwarden_decision_records_total", labels) or 0.0


def offer(reporter: Reporter, *numbers: int) -> None:
    """Offer records with these numbers."""
    for number in numbers:
        reporter.offer(msgspec.structs.replace(RECORD, id=str(number)))


def test_records_come_in_order_and_once(socket: Path) -> None:
    """More than a batch of them, the last at the close."""
    control = Control()

    async def scenario() -> None:
        reporter = Reporter(socket, 10_000, "front-0")
        async with serving(control, socket), reporting(reporter):
            offer(reporter, *range(1200))
            await until(lambda: len(control.ids) == 1200)
            offer(reporter, *range(1200, 1300))

    before = counted("logged")
    asyncio.run(scenario())
    assert control.ids == [str(number) for number in range(1300)]
    assert counted("logged") == before + 1300
    assert control.fronts == {"front-0"}


def test_while_control_is_away_the_oldest_stay_and_drops_are_counted(socket: Path) -> None:
    """At once, not when it is back; then it is told how many."""
    control = Control()

    async def scenario() -> None:
        reporter = Reporter(socket, 5, "front-0")
        async with reporting(reporter):
            offer(reporter, *range(8))
            await until(lambda: counted("dropped") == before + 3)
            async with serving(control, socket):
                await until(lambda: len(control.ids) == 5)

    before = counted("dropped")
    asyncio.run(scenario())
    assert control.ids == ["0", "1", "2", "3", "4"]
    assert control.dropped == 3
    assert counted("dropped") == before + 3


def test_what_controls_disk_does_not_take_is_dropped(socket: Path) -> None:
    """Sending it again would not help."""
    control = Control(takes=2)

    async def scenario() -> None:
        reporter = Reporter(socket, 100, "front-0")
        async with serving(control, socket), reporting(reporter):
            offer(reporter, *range(6))
            await until(lambda: counted("dropped") == before + 4)

    before = counted("dropped")
    asyncio.run(scenario())
    assert control.ids == ["0", "1"]


def test_control_that_comes_back_is_found_soon(socket: Path) -> None:
    """The library's own pauses grow to two minutes."""

    async def scenario() -> float:
        reporter = Reporter(socket, 100, "front-0")
        async with reporting(reporter):
            for _ in range(3):
                control = Control()
                async with serving(control, socket):
                    offer(reporter, 1)
                    await until(lambda control=control: control.ids)
                offer(reporter, 2)
                await asyncio.sleep(0.5)
            control = Control()
            began_s = asyncio.get_running_loop().time()
            async with serving(control, socket):
                await until(lambda: control.ids)
            return asyncio.get_running_loop().time() - began_s

    assert asyncio.run(scenario()) < 3


def test_a_close_without_control_is_quick_and_says_what_is_lost(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop must not hang on it."""

    async def scenario() -> None:
        reporter = Reporter(socket, 100, "front-0")
        async with reporting(reporter):
            offer(reporter, 1, 2)

    asyncio.run(scenario())
    assert "2 decision records were not delivered" in caplog.text


def test_a_record_is_read_as_it_was_written() -> None:
    """On one line, whatever is in it."""
    full = msgspec.structs.replace(RECORD, path="/a\n\u2028b", headers={"x": "y"})
    assert read_line(record_line(full)) == full
    assert b"\n" not in record_line(full)


def test_text_that_is_none_is_kept_readable() -> None:
    """A caller's bytes must not end a front, nor hide what was decided about them."""
    odd = msgspec.structs.replace(
        RECORD, path="/a\udcff", misses=("x\udcff",), claims={"\udcff": "y"}
    )
    assert read_line(record_line(odd)) == msgspec.structs.replace(
        RECORD, path="/a?", misses=("x?",), claims={"?": "y"}
    )
