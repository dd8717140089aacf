"""JSON lines: whole ones, in bounded files, and a full disk that costs records only."""

import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from adapters.decisions.jsonl import Config, JsonLines
from telemetry.record import DecisionRecord, record_line
from telemetry.sink import Written

NAME = "decisions.jsonl"
NewLog = Callable[[Path, int, int], JsonLines]


@pytest.fixture
def new_log() -> Iterator[NewLog]:
    """Give a maker of logs, which are closed in the end."""
    with ExitStack() as opened:

        def make(folder: Path, max_bytes: int, max_files: int) -> JsonLines:
            return opened.enter_context(closing(JsonLines(Config(folder, max_bytes, max_files))))

        yield make


def record(number: int, path: str = "/", **more: tuple[str, ...]) -> bytes:
    """Make a record that can be told from others."""
    return record_line(DecisionRecord(str(number), number, "allow", 200, path=path, **more))


def ids(folder: Path) -> list[str]:
    """Read the ids of all records kept, the oldest file first."""
    files = sorted(folder.glob(f"{NAME}*"), reverse=True)
    return [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]


def test_a_record_is_a_line_of_what_it_holds(new_log: NewLog, tmp_path: Path) -> None:
    """Empty fields are left out; lists stay lists."""
    log = new_log(tmp_path, 65_536, 2)
    full = record(1, misses=("policy.csv:1: path", "policy.csv:2: method"))
    assert log.write([full]) == Written(1)
    assert json.loads((tmp_path / NAME).read_text()) == {
        "id": "1",
        "time_ns": 1,
        "verdict": "allow",
        "status": 200,
        "path": "/",
        "misses": ["policy.csv:1: path", "policy.csv:2: method"],
    }
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_restart_goes_on_in_the_same_file(new_log: NewLog, tmp_path: Path) -> None:
    """Nothing is written over."""
    for number in range(3):
        log = new_log(tmp_path, 65_536, 2)
        log.write([record(number)])
        log.close()
    assert ids(tmp_path) == ["0", "1", "2"]


@pytest.mark.parametrize("half", [b"", b'{"id":"9","time', b'{"id":"9"}'])
def test_half_a_line_of_a_killed_process_spoils_no_other(
    new_log: NewLog, tmp_path: Path, half: bytes
) -> None:
    """It goes: the batch that it was of was never confirmed, and comes again."""
    log = new_log(tmp_path, 65_536, 2)
    log.write([record(1), record(2)])
    log.close()
    with (tmp_path / NAME).open("ab") as file:
        file.write(half)
    new_log(tmp_path, 65_536, 2).write([record(3)])
    assert ids(tmp_path) == ["1", "2", "3"]
    (tmp_path / NAME).write_bytes(half)
    new_log(tmp_path, 65_536, 2).write([record(4)])
    assert ids(tmp_path) == ["4"]


def test_no_file_is_larger_than_its_bound_and_the_oldest_go(
    new_log: NewLog, tmp_path: Path
) -> None:
    """Within one batch too."""
    log = new_log(tmp_path, 1000, 3)
    assert log.write([record(number) for number in range(200)]).count == 200
    for number in range(200, 300):
        log.write([record(number)])
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 1000
    kept = ids(tmp_path)
    assert kept == [str(number) for number in range(300 - len(kept), 300)]


def test_one_file_is_enough(new_log: NewLog, tmp_path: Path) -> None:
    """It is begun anew."""
    log = new_log(tmp_path, 200, 1)
    for number in range(20):
        log.write([record(number)])
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert ids(tmp_path)[-1] == "19"


def test_a_record_larger_than_a_file_has_one_of_its_own(new_log: NewLog, tmp_path: Path) -> None:
    """It is neither cut nor lost."""
    log = new_log(tmp_path, 200, 4)
    assert log.write([record(1), record(2, "/" + "a" * 1000), record(3)]).count == 3
    assert ids(tmp_path) == ["1", "2", "3"]


@pytest.mark.parametrize("take_away", [Path.unlink, lambda file: file.rename(file.with_name("x"))])
def test_a_file_that_somebody_took_away_is_begun_again(
    take_away: Callable[[Path], object], new_log: NewLog, tmp_path: Path
) -> None:
    """Records that went after it would be lost."""
    log = new_log(tmp_path, 65_536, 2)
    log.write([record(1)])
    take_away(tmp_path / NAME)
    log.write([record(2)])
    assert ids(tmp_path) == ["2"]


@contextmanager
def small_disk() -> Iterator[None]:
    """Let no file grow past 1,000 bytes, as a full disk does.

    Around the writes alone: it holds for every file of the process, and pytest's own output may be
    one.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    deaf = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, deaf)


def test_a_full_disk_takes_what_fits_and_leaves_no_half_line(
    new_log: NewLog, tmp_path: Path
) -> None:
    """It is said, and over as soon as there is room again."""
    log = new_log(tmp_path, 65_536, 2)
    with small_disk():
        assert log.write([record(number) for number in range(15)]) == Written(15)
        lost = log.write([record(number, "/" + "a" * 2000) for number in (90, 91)])
    assert lost.count == 0
    assert "can't be written: No space left" in lost.fault
    (tmp_path / NAME).unlink()
    assert log.write([record(16)]) == Written(1)
    assert ids(tmp_path) == ["16"]


def test_half_a_line_is_taken_back(new_log: NewLog, tmp_path: Path) -> None:
    """The next record begins a line."""
    log = new_log(tmp_path, 65_536, 2)
    log.write([record(1)])
    whole = (tmp_path / NAME).read_bytes()
    with small_disk():
        log.write([record(2, "/" + "a" * 2000)])
    assert (tmp_path / NAME).read_bytes() == whole
    assert log.write([record(3)]).count == 1
    assert ids(tmp_path) == ["1", "3"]


DAY_NS = 86_400 * 10**9


def test_a_file_is_begun_for_each_share_of_the_days(new_log: NewLog, tmp_path: Path) -> None:
    """Ten files of thirty days hold three days each: where little happens, lines get old too."""
    log = new_log(tmp_path, 65_536, 10)
    log.write([record_line(DecisionRecord("1", 100 * DAY_NS, "allow", 200))])
    assert not log.trim(102 * DAY_NS)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert not log.trim(104 * DAY_NS)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.1"]


def test_a_file_goes_when_its_newest_line_is_past_its_days(new_log: NewLog, tmp_path: Path) -> None:
    """Whether or not another one is written."""
    log = new_log(tmp_path, 65_536, 10)
    log.write([record(1)])
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.3")
    written_ns = (tmp_path / f"{NAME}.3").stat().st_mtime_ns
    assert not log.trim(written_ns + 29 * DAY_NS)
    assert list(tmp_path.iterdir())
    assert not log.trim(written_ns + 31 * DAY_NS)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_costs_records_only(new_log: NewLog, tmp_path: Path) -> None:
    """The caller counts them."""
    folder = tmp_path / "state"
    log = new_log(folder, 65_536, 2)
    assert log.write([record(1)]).count == 0
    folder.mkdir()
    assert log.write([record(2)]).count == 1
