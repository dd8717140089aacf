"""Every sink of decision records keeps the same promises; a new one joins by existing."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from adapters.spec import AnyAdapter
from meshwarden import plugins
from telemetry.record import record_line
from telemetry.sink import DecisionArchive, DecisionSink, Search, Written
from tests.fakes.decisions import START_NS, decision, decision_id, line

DAY_NS = 86_400 * 10**9
MIB = 1024 * 1024
SMALL = {"database_bytes": MIB, "file_bytes": MIB // 4, "files": 4, "days": 30}


def build(adapter: AnyAdapter, folder: Path) -> DecisionSink:
    """Build a sink in a folder with small bounds."""
    known = {"state_dir": folder, **SMALL}
    sink: DecisionSink = adapter.build(
        adapter.config(**{each.name: known[each.name] for each in fields(adapter.config)})
    )
    return sink


@pytest.fixture(params=plugins.names("decisions"))
def adapter(request: pytest.FixtureRequest) -> AnyAdapter:
    """Each adapter there is."""
    return plugins.load("decisions", request.param)


@pytest.fixture(
    params=[
        name
        for name in plugins.names("decisions")
        if build(plugins.load("decisions", name), Path()).archive()
    ]
)
def searchable(request: pytest.FixtureRequest) -> AnyAdapter:
    """Each whose records can be read again."""
    return plugins.load("decisions", request.param)


def archive_of(sink: DecisionSink) -> DecisionArchive:
    """What reads it again."""
    archive = sink.archive()
    assert archive is not None
    return archive


@contextmanager
def opened(adapter: AnyAdapter, folder: Path) -> Iterator[DecisionSink]:
    """Use a sink and close it."""
    sink = build(adapter, folder)
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow past a few bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    deaf = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, deaf)


def size_bytes(folder: Path) -> int:
    """What a sink takes of the disk."""
    return sum(file.stat().st_size for file in folder.iterdir())


def holds(folder: Path, text: str) -> bool:
    """Whether any file has this text."""
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


def test_what_was_written_is_there_after_a_restart(adapter: AnyAdapter, tmp_path: Path) -> None:
    """And nothing is written over."""
    for number in (1, 2):
        with opened(adapter, tmp_path) as sink:
            assert sink.write([line(number)]) == Written(1)
    assert holds(tmp_path, decision_id(1))
    assert holds(tmp_path, decision_id(2))


def test_nobody_else_can_read_it(adapter: AnyAdapter, tmp_path: Path) -> None:
    """It says who asked for what."""
    with opened(adapter, tmp_path) as sink:
        sink.write([line(1)])
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_building_one_touches_nothing(adapter: AnyAdapter, tmp_path: Path) -> None:
    """A start waits for no disk."""
    build(adapter, tmp_path / "gone").close()
    build(adapter, tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_away_costs_records_until_it_is_back(
    adapter: AnyAdapter, tmp_path: Path
) -> None:
    """The answer says what is wrong; nothing is raised."""
    folder = tmp_path / "state"
    with opened(adapter, folder) as sink:
        lost = sink.write([line(1)])
        assert (lost.count, bool(lost.fault)) == (0, True)
        assert str(folder) in lost.fault
        folder.mkdir()
        assert sink.write([line(2)]) == Written(1)


def test_a_full_disk_costs_records_until_there_is_room(adapter: AnyAdapter, tmp_path: Path) -> None:
    """What was there before stays whole."""
    with opened(adapter, tmp_path) as sink:
        assert sink.write([line(1)]) == Written(1)
        with full_disk():
            for number in range(2, 6):
                lost = sink.write([line(number)])
                assert (lost.count, bool(lost.fault)) == (0, True)
        assert sink.write([line(7)]) == Written(1)
    assert holds(tmp_path, decision_id(1))
    assert holds(tmp_path, decision_id(7))
    assert not holds(tmp_path, decision_id(3))


def test_files_that_somebody_removed_are_begun_again(adapter: AnyAdapter, tmp_path: Path) -> None:
    """Records that went after them would be lost."""
    with opened(adapter, tmp_path) as sink:
        sink.write([line(1)])
        for file in tmp_path.iterdir():
            file.unlink()
        assert sink.write([line(2)]) == Written(1)
    assert holds(tmp_path, decision_id(2))


def test_its_size_is_bounded_and_the_oldest_go(adapter: AnyAdapter, tmp_path: Path) -> None:
    """Whatever comes, the disk has the rest for itself."""
    with opened(adapter, tmp_path) as sink:
        for start in range(0, 10_000, 500):
            written = sink.write([line(number) for number in range(start, start + 500)])
            assert written == Written(500)
    assert size_bytes(tmp_path) <= 1.2 * MIB
    assert holds(tmp_path, decision_id(9_999))
    assert not holds(tmp_path, decision_id(100))


def test_what_is_past_its_days_goes(adapter: AnyAdapter, tmp_path: Path) -> None:
    """Also where nothing new comes."""
    with opened(adapter, tmp_path) as sink:
        sink.write([line(1)])
        assert not sink.trim(START_NS + 5 * DAY_NS)
        assert holds(tmp_path, decision_id(1))
    # Files of lines go by when they were last written to, and this one is new.
    written_ns = max(file.stat().st_mtime_ns for file in tmp_path.iterdir())
    with opened(adapter, tmp_path) as sink:
        assert not sink.trim(written_ns + 31 * DAY_NS)
        archive = sink.archive()
        kept = archive.search(Search()) if archive else list(tmp_path.iterdir())
    assert not kept


@pytest.fixture
def archive(searchable: AnyAdapter, tmp_path: Path) -> DecisionArchive:
    """What reads ten records again: every third a denial, of two callers."""
    with opened(searchable, tmp_path) as sink:
        denial = {"verdict": "deny", "status": 403, "rule_file": "", "rule_line": 0}
        more = {"principal": "td/ns/prod/sa/jobs", "path": "/jobs%_"}
        sink.write(
            [
                line(number, **(denial if number % 3 == 0 else {}), **(more if number > 7 else {}))
                for number in range(10)
            ]
        )
        return archive_of(sink)


def numbers(archive: DecisionArchive, **wanted: object) -> list[int]:
    """The numbers of the records found."""
    return [int(each.record.id[:8]) for each in archive.search(Search(**wanted))]  # type: ignore[arg-type]


def test_the_newest_are_found_in_order(archive: DecisionArchive) -> None:
    """As one reads a log."""
    assert numbers(archive) == list(range(10))
    assert numbers(archive, limit=3) == [7, 8, 9]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"verdict": "deny"}, [0, 3, 6, 9]),
        ({"verdict": "allow", "limit": 2}, [7, 8]),
        ({"principal": "td/ns/prod/sa/jobs"}, [8, 9]),
        ({"principal": "td/ns/prod/sa/j"}, []),
        ({"principal": "td/ns/prod/*", "limit": 2}, [8, 9]),
        ({"principal": "user:iss/sub"}, []),
        ({"path": "/jobs%"}, [8, 9]),
        ({"path": "/jobs_"}, []),
        ({"path": "/orders/7"}, [7]),
        ({"service": "other"}, []),
        ({"rule": "policy.csv:2", "limit": 2}, [7, 8]),
        ({"rule": "policy.csv", "limit": 1}, [8]),
        ({"rule": "policy.csv:3"}, []),
        ({"since_ns": START_NS + 8 * 10**9}, [8, 9]),
        ({"verdict": "deny", "path": "/orders", "since_ns": START_NS + 10**9}, [3, 6]),
        ({"principal": "' OR 1=1 --"}, []),
    ],
)
def test_records_are_found_by_what_they_are_about(
    archive: DecisionArchive, wanted: dict[str, object], found: list[int]
) -> None:
    """Each question alone, and together."""
    assert numbers(archive, **wanted) == found


def test_what_came_after_is_found_once(archive: DecisionArchive) -> None:
    """Who follows the log asks again and again."""
    first = archive.search(Search(limit=4))
    assert [int(each.record.id[:8]) for each in archive.search(Search(), first[1].position)] == [
        8,
        9,
    ]
    assert archive.search(Search(), first[-1].position) == []


def test_a_record_is_read_as_it_was_written(searchable: AnyAdapter, tmp_path: Path) -> None:
    """Every field of it, lists too."""
    full = decision(
        1,
        user="user:iss/sub",
        misses=("a:1: path", "b:2: method"),
        faults=("c.csv:3",),
        headers={"x-env": "prod"},
        claims={"groups": "a, b"},
    )
    with opened(searchable, tmp_path) as sink:
        sink.write([record_line(full)])
        archive = archive_of(sink)
        (kept,) = archive.find(full.id)
        assert archive.find(full.id[:8]) == [kept]
        assert archive.find("x") == []
    assert kept.record == full
