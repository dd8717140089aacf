"""From a source to what is published: loads that fail, loads that change nothing, restarts."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from authz.policy.rules import PolicyText, Row
from meshwarden import publication, status
from meshwarden.control.source import PolicyPublisher, Proven
from meshwarden.settings import Policy, Runtime, Settings
from tests.fakes.policy import mesh_text
from tests.fakes.source import FakeSource

ALLOW = "p, *, *, GET, /a, allow"
OTHER = "p, *, *, GET, /b, allow"
BAD = "p, *, *, GET, /a, perhaps"


@pytest.fixture
def source() -> FakeSource:
    """Give a source of one good rule."""
    return FakeSource(ALLOW)


@pytest.fixture
def publisher_of(tmp_path: Path) -> Callable[..., PolicyPublisher]:
    """Give a maker of publishers that share a state folder, as restarts do."""

    def make(source: FakeSource, now_ns: int = 1_000, **policy: object) -> PolicyPublisher:
        settings = Settings(
            runtime=Runtime(tmp_path, tmp_path),
            policy=Policy(**policy),  # type: ignore[arg-type]
        )
        return PolicyPublisher(settings, source, tmp_path, lambda: now_ns)

    return make


def load(publisher: PolicyPublisher) -> status.LoadState:
    """Load once."""
    return asyncio.run(publisher.load())


def test_a_good_load_is_published_and_told(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """By digest, count and time."""
    state = load(publisher_of(source))
    found = publication.load(tmp_path)
    assert (found.digest, found.source, found.published_ns) == (state.digest, "memory", 1_000)
    assert (state.rules, state.errors, state.failed_ns, state.restored) == (1, (), 0, False)
    assert status.read_load(tmp_path) == state


def test_a_bad_load_changes_nothing_and_is_told_with_the_time_of_the_first(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """Later failures don't make it younger."""
    publisher = publisher_of(source)
    good = load(publisher)
    stamp = publication.stamp(tmp_path)
    source.write(BAD)
    publisher._now_ns = lambda: 2_000
    load(publisher)
    publisher._now_ns = lambda: 3_000
    state = load(publisher)
    assert (state.digest, state.published_ns, state.failed_ns) == (good.digest, 1_000, 2_000)
    assert state.errors[0].startswith("policy.csv:1: ")
    assert publication.stamp(tmp_path) == stamp


@pytest.mark.parametrize(
    "wrong", [OSError(5, "Input/output error"), RecursionError("a fault of ours")]
)
def test_whatever_goes_wrong_in_a_load_ends_nothing(
    wrong: Exception, source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """A fault of ours is told by an id, and is in the log."""
    publisher = publisher_of(source)
    load(publisher)
    source.text = wrong
    (told,) = load(publisher).errors
    assert "Input/output error" in told or told.startswith("internal fault ")
    source.write(OTHER)
    assert load(publisher).errors == ()


def test_every_fault_is_told(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """One line each."""
    source.write(BAD, ALLOW, "p, *, *, GET")
    told = load(publisher_of(source)).errors
    assert [fault.partition(": ")[0] for fault in told] == ["policy.csv:1", "policy.csv:3"]


def test_the_same_policy_is_not_published_twice(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """Fronts would build it again for nothing."""
    publisher = publisher_of(source)
    load(publisher)
    stamp = publication.stamp(tmp_path)
    load(publisher)
    load(publisher_of(source, now_ns=9_000))
    assert publication.stamp(tmp_path) == stamp


def test_the_same_rules_on_other_lines_are_published_as_of_the_same_age(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """The digest knows no lines, but records name them."""
    publisher = publisher_of(source)
    digest = load(publisher).digest
    text = source.text
    assert isinstance(text, PolicyText)
    moved = tuple(Row(row.ptype, row.values, row.file, row.line + 5) for row in text.rows)
    source.text = PolicyText(text.model, moved, text.model_file)
    publisher._now_ns = lambda: 2_000
    state = load(publisher)
    assert (state.digest, state.published_ns) == (digest, 1_000)
    assert publication.load(tmp_path).text.rows[0].line == 6


def test_a_damaged_copy_is_written_again_by_the_next_load(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """Though the policy is the same."""
    publisher = publisher_of(source)
    digest = load(publisher).digest
    for damage in (b"", b"half"):
        (tmp_path / "policy.json").write_bytes(damage)
        load(publisher)
        assert publication.load(tmp_path).digest == digest


def test_a_restart_without_the_source_begins_with_the_copy(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """Marked as restored until a load succeeds."""
    digest = load(publisher_of(source)).digest
    status.clear(tmp_path)
    source.text = OSError(2, "No such file or directory")
    again = publisher_of(source)
    assert (again.state.digest, again.state.rules, again.state.restored) == (digest, 1, True)
    state = load(again)
    assert (state.digest, state.restored, state.errors != ()) == (digest, True, True)
    source.write(ALLOW)
    assert load(again).restored is False


def test_since_when_loads_fail_is_not_forgotten_when_control_alone_dies(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """`policy.max_stale_s` counts from then, and nothing was restored."""
    publisher = publisher_of(source)
    load(publisher)
    source.write(BAD)
    load(publisher)
    state = load(publisher_of(source, now_ns=9_000))
    assert (state.failed_ns, state.restored) == (1_000, False)


def test_a_copy_of_no_use_is_as_none(
    publisher_of: Callable[..., PolicyPublisher], tmp_path: Path
) -> None:
    """And the source's policy replaces it."""
    (tmp_path / "policy.json").write_bytes(b"torn")
    publisher = publisher_of(FakeSource(ALLOW))
    assert publisher.state.digest == ""
    assert load(publisher).digest != ""


def test_two_loads_at_once_come_one_after_the_other(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """A reader that waits for a load begun after its question gets one."""
    publisher = publisher_of(source)

    async def scenario() -> tuple[status.LoadState, ...]:
        return tuple(await asyncio.gather(publisher.load(), publisher.load()))

    first, second = asyncio.run(scenario())
    assert 0 < first.begun_ns < second.begun_ns


def test_a_load_whose_caller_went_away_is_not_overtaken(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """Else the older policy, read first and published last, would be the one in force."""
    publisher = publisher_of(source)
    is_read, meeting, met = threading.Event(), threading.Barrier(2), []

    def meet() -> None:
        is_read.set()
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(meeting.wait(0.5))

    async def scenario() -> None:
        source.on_load = meet
        first = asyncio.create_task(publisher.load())
        await asyncio.to_thread(is_read.wait, 10)
        first.cancel()
        await publisher.load()

    asyncio.run(scenario())
    assert (source.loads, met) == (2, [])


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, 10 s at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def watched(publisher: PolicyPublisher, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario beside a publisher that watches."""

    async def both() -> None:
        running = asyncio.create_task(publisher.run())
        try:
            await scenario()
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(both())


def test_a_change_is_loaded_when_it_has_settled(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """Half of a checkout is not read while the other half comes."""
    publisher = publisher_of(source)

    async def scenario() -> None:
        await until(lambda: publisher.state.digest)
        before = publisher.state.digest
        source.write(OTHER)
        await until(lambda: publisher.state.digest != before)
        assert source.loads == 2

    watched(publisher, scenario)


def test_a_change_during_a_load_is_not_missed(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """It counts from before the load."""
    publisher = publisher_of(source)
    source.on_load = lambda: source.touch() if source.loads == 1 else None

    async def scenario() -> None:
        await until(lambda: source.loads == 2)

    watched(publisher, scenario)


def test_a_source_that_never_rests_is_loaded_all_the_same(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """Somebody writes a log into the folder."""
    publisher = publisher_of(source)

    async def scenario() -> None:
        await until(lambda: source.loads == 1)
        source.write(OTHER)
        async with asyncio.timeout(10):
            while source.loads == 1:
                source.touch()
                await asyncio.sleep(0.02)

    watched(publisher, scenario)


def test_without_a_watch_only_a_call_loads(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """`policy.watch = false`."""
    publisher = publisher_of(source, watch=False)

    async def scenario() -> None:
        await until(lambda: source.loads == 1)
        source.write(OTHER)
        await asyncio.sleep(0.6)
        assert source.loads == 1
        await publisher.load()
        assert source.loads == 2

    watched(publisher, scenario)


def test_a_load_that_failed_is_tried_again_when_the_source_says(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """A server that is gone is asked less and less, which the source knows best."""
    source.pause_s = 0.1
    source.text = OSError(111, "Connection refused")
    publisher = publisher_of(source)

    async def scenario() -> None:
        await until(lambda: source.loads >= 3)
        source.text = mesh_text(ALLOW)
        await until(lambda: not publisher.state.errors)
        loads = source.loads
        await asyncio.sleep(0.4)
        assert source.loads == loads

    watched(publisher, scenario)


def test_a_look_that_waits_for_a_server_does_not_make_looks_rare(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """Waiting is no work: twenty times as long a pause would be a late policy."""
    source.look_s = 0.3
    publisher = publisher_of(source)

    async def scenario() -> None:
        await until(lambda: publisher.state.digest)
        before = publisher.state.digest
        source.write(OTHER)
        async with asyncio.timeout(4):
            await until(lambda: publisher.state.digest != before)

    watched(publisher, scenario)


def test_a_source_learns_what_is_in_force_and_of_nothing_else(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """What it remembers of that must not be of a policy that was refused."""
    publisher = publisher_of(source)
    load(publisher)
    good = source.text
    source.write(BAD)
    load(publisher)
    assert source.in_force == [good]
    source.text = good
    load(publisher)
    assert source.in_force == [good, good]


def test_what_was_proven_is_published_without_another_build(
    source: FakeSource, publisher_of: Callable[..., PolicyPublisher]
) -> None:
    """If it is what the source gives; else that is built, and judged."""
    publisher = publisher_of(source)
    assert isinstance(source.text, PolicyText)
    state = asyncio.run(publisher.load(Proven(source.text, "a" * 64, 7)))
    assert (state.digest, state.rules, state.errors) == ("a" * 64, 7, ())
    proven = Proven(source.text, "b" * 64, 7)
    source.write(OTHER)
    state = asyncio.run(publisher.load(proven))
    assert state.rules == 1
    assert state.digest not in {"a" * 64, "b" * 64}
    source.write(BAD)
    assert asyncio.run(publisher.load(proven)).errors
