"""The decision log: no sink holds up another, or who hands records in; drops are counted."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from typing_extensions import override

from meshwarden import plugins
from meshwarden.control.decision_log import DecisionLog
from meshwarden.service import check_service
from meshwarden.settings import Decisions, Runtime, Settings
from telemetry.record import DecisionRecord, read_line, record_line
from telemetry.sink import DecisionSink, Search, Written
from tests.fakes.decisions import decision, line
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_policy

_names = (f"sink-{number}" for number in count())


class Sink(DecisionSink):
    """Keeps records in memory; can be made to wait, to fail and to raise."""

    def __init__(self) -> None:
        self.name = next(_names)  # Counters live as long as the process: each has its own.
        self.kept: list[str] = []
        self.trims = 0
        self.threads: set[int] = set()
        self.is_closed = False
        self.may_write = threading.Event()
        self.may_write.set()
        self.fault = ""
        self.error: Exception | None = None
        self.is_away = False
        self.attempts = 0

    @override
    def write(self, lines: Sequence[bytes]) -> Written:
        self.threads.add(threading.get_ident())
        self.may_write.wait(10)
        if self.error is not None:
            raise self.error
        self.attempts += 1
        if self.is_away:
            return Written(0, "it is away", may_retry=True)
        if self.fault:
            return Written(0, self.fault)
        self.kept += [read_line(each).id for each in lines]
        return Written(len(lines))

    @override
    def trim(self, now_ns: int) -> str:
        self.trims += 1
        return ""

    @override
    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.is_closed = True

    def counted(self, outcome: str) -> float:
        """How many records had this outcome."""
        labels = {"sink": self.name, "outcome": outcome}
        name = "meshwarden_decision_sink_records_total"
        return REGISTRY.get_sample_value(name, labels) or 0.0


def log_of(*sinks: Sink, max_records: int = 10, trim_s: float = 10.0) -> closing[DecisionLog]:
    """Run a log with small queues."""
    named = {sink.name: sink for sink in sinks}
    return closing(DecisionLog(named, max_records, time.monotonic_ns, trim_s))


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, 10 s at most."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def batch(*numbers: int) -> list[bytes]:
    """Records with these numbers."""
    return [line(number) for number in numbers]


def test_a_sink_that_stalls_keeps_nothing_from_another() -> None:
    """Its own queue fills, and what it can't hold is counted as its."""
    slow, quick = Sink(), Sink()
    slow.may_write.clear()
    with log_of(slow, quick) as log:
        for start in range(0, 30, 5):
            assert log.append(batch(*range(start, start + 5))) == 5
            until(lambda end=start + 5: len(quick.kept) == end)
        assert slow.counted("dropped") >= 10
        slow.may_write.set()
    assert quick.kept == [decision(number).id for number in range(30)]
    assert slow.kept == quick.kept[: len(slow.kept)]
    assert slow.counted("written") + slow.counted("dropped") == 30
    assert quick.counted("dropped") == 0


def test_who_hands_in_is_told_what_no_sink_can_hold() -> None:
    """The oldest stay."""
    sink = Sink()
    sink.may_write.clear()
    with log_of(sink, max_records=3) as log:
        log.append(batch(0))
        until(lambda: sink.threads)  # It is being written: the queue is empty.
        assert log.append(batch(1, 2)) == 2
        assert log.append(batch(3, 4)) == 1
        sink.may_write.set()
    assert sink.kept == [decision(number).id for number in range(4)]
    assert sink.counted("dropped") == 1


def test_without_sinks_records_are_taken_and_forgotten() -> None:
    """Asked for by an empty list."""
    with log_of() as log:
        assert log.append(batch(1, 2)) == 2


def test_a_close_writes_what_is_queued() -> None:
    """And closes each sink on the thread that used it: SQLite insists."""
    sink = Sink()
    with log_of(sink) as log:
        log.append(batch(*range(10)))
    assert len(sink.kept) == 10
    assert sink.is_closed
    assert sink.threads != {threading.get_ident()}
    assert len(sink.threads) == 1


def test_a_fault_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """Whether the sink says so or raises; each record is counted."""
    sink = Sink()
    with caplog.at_level(logging.WARNING), log_of(sink) as log:
        sink.fault = "the disk is full"
        for number in range(2):
            log.append(batch(number))
            until(lambda lost=number + 1: sink.counted("dropped") == lost)
        sink.fault, sink.error = "", RuntimeError("odd")
        log.append(batch(2))
        until(lambda: sink.counted("dropped") == 3)
        sink.error = None
        log.append(batch(3))
        until(lambda: sink.kept)
    assert caplog.text.count("the disk is full") == 1
    assert caplog.text.count("written again") == 1
    assert sink.kept == [decision(3).id]


def test_what_is_past_its_days_is_looked_for_without_records() -> None:
    """A log that nobody writes to gets old too."""
    sink = Sink()
    with log_of(sink, trim_s=0.02):
        until(lambda: sink.trims > 2)


def test_what_is_away_gets_its_records_when_it_is_back() -> None:
    """In their order; the oldest stay, the rest is dropped and counted, once each."""
    away, other = Sink(), Sink()
    away.is_away = True
    with log_of(away, other, max_records=4) as log:
        for number in range(6):
            log.append(batch(number))
            until(lambda number=number: len(other.kept) == number + 1)
        until(lambda: away.counted("dropped") == 2)
        away.is_away = False
        until(lambda: len(away.kept) == 4)
    assert away.kept == [decision(number).id for number in range(4)]
    assert (away.counted("written"), away.counted("dropped")) == (4, 2)
    assert other.counted("dropped") == 0


def test_attempts_at_what_is_away_get_rarer() -> None:
    """It is not asked in a circle."""
    sink = Sink()
    sink.is_away = True
    with log_of(sink) as log:
        log.append(batch(1))
        time.sleep(1.0)
        assert 2 <= sink.attempts <= 5


def test_a_close_does_not_wait_for_what_is_away() -> None:
    """What it would have got is counted as dropped."""
    sink = Sink()
    sink.is_away = True
    began_s = time.monotonic()
    with log_of(sink) as log:
        log.append(batch(1, 2, 3))
        until(lambda: sink.attempts)
    assert time.monotonic() - began_s < 2
    assert sink.counted("dropped") == 3


def kept_within_s(log: DecisionLog, *numbers: int) -> float:
    """How long it takes to hand records in and hear that they are written."""

    async def story() -> float:
        began_s = time.monotonic()
        assert await log.keep(batch(*numbers)) == len(numbers)
        return time.monotonic() - began_s

    return asyncio.run(story())


def test_who_waits_hears_when_every_sink_has_written() -> None:
    """A front forgets a batch on this word: what is killed later has lost nothing."""
    sinks = [Sink(), Sink()]
    sinks[1].may_write.clear()
    with log_of(*sinks) as log:

        async def story() -> None:
            waiting = asyncio.ensure_future(log.keep(batch(1, 2)))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            sinks[1].may_write.set()
            assert await waiting == 2
            assert [len(sink.kept) for sink in sinks] == [2, 2]

        asyncio.run(story())


def test_a_sink_that_hangs_is_waited_for_once() -> None:
    """It costs its own records; the others' go on at their pace."""
    slow, quick = Sink(), Sink()
    slow.may_write.clear()
    with log_of(slow, quick) as log:
        assert kept_within_s(log, 1) >= 0.9
        assert kept_within_s(log, 2) < 0.5
        slow.may_write.set()
        until(lambda: len(slow.kept) == 2)
        assert kept_within_s(log, 3) < 0.5
        assert len(slow.kept) == 3


@pytest.mark.parametrize("is_away", [True, False])
def test_a_sink_that_fails_is_not_waited_for(*, is_away: bool) -> None:
    """Nor is one whose database is away, though its records stay queued."""
    failing, quick = Sink(), Sink()
    failing.is_away = is_away
    failing.fault = "full"
    with log_of(failing, quick) as log:
        for number in range(4):
            assert kept_within_s(log, number) < 0.5
        assert len(quick.kept) == 4


SECRETS = {
    "authorization": "Bearer very-secret-token",
    "cookie": "session=very-secret-cookie",
    "x-api-key": "very-secret-key",
    "x-network": "very-secret-no-network",
}
POLICY = """\
p, *, shop, GET, /open/**, allow
p, *, shop, GET, /keyed/**, allow, request.headers['x-api-key'] == 'other'
p, *, shop, GET, /claims/**, allow, request.auth.claims['email'] == 'other'
p, *, shop, GET, /asked/**, allow, request.query_params['code'] == 'other'
p, *, shop, GET, /net/**, allow, request.headers['x-network'] in ['10.0.0.0/8']
p, *, shop, GET, /raises/**, allow, ipMatch(request.headers['x-network'], '10.0.0.0/8')
"""


@pytest.fixture(params=[(), ("authorization", "Cookie", "x-api-key")], ids=["default", "listed"])
def records(request: pytest.FixtureRequest) -> list[DecisionRecord]:
    """The records of requests full of secrets: allowed, denied, missed by a condition, raising."""
    made: list[DecisionRecord] = []
    decisions = Decisions(sample_allows=1, headers=request.param, claims=("id_token",))
    service = check_service(Settings(decisions=decisions), made.append)
    service.policy = mesh_policy(*POLICY.splitlines())
    signed = {"iss": "https://id", "sub": "ann", "email": "very-secret-address"}
    claims = {"jwt": {**signed, "id_token": "very-secret-id"}}
    for kind in ("open", "keyed", "claims", "asked", "net", "raises", "none", "%zz", "a%2fb"):
        check = check_request(
            f"/{kind}/1?code=very-secret-code&x=very-secret-x#very-secret-fragment",
            headers=SECRETS,
            tokens=claims,
            extensions={"service": "shop"},
        )
        check.attributes.request.http.body = "very-secret-body"
        service.answer(check.SerializeToString(), 1)
    return made


def test_no_secret_of_a_request_reaches_a_sink(
    records: list[DecisionRecord], tmp_path: Path
) -> None:
    """Headers, cookies, tokens' claims, query and body stay out, whatever conditions read.

    So do those that open doors where the settings list them.
    """
    settings = Settings(runtime=Runtime(state_dir=tmp_path))
    with closing(DecisionLog(plugins.decision_sinks(settings), 100, lambda: 2)) as log:
        log.append([record_line(record) for record in records])
    archive = plugins.decision_archive(settings)
    assert archive is not None
    assert len(archive.search(Search())) == len(records) == 9
    verdicts = [record.verdict for record in records]
    assert verdicts == ["allow", *["deny"] * 8]
    for name in ("decisions.jsonl", "decisions.db"):
        assert b"/open/1" in (tmp_path / name).read_bytes()
    for file in tmp_path.iterdir():
        assert b"very-secret" not in file.read_bytes()
