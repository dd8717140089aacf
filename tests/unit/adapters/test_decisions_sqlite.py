"""The database of decisions: readers while it is written, and a file that is damaged."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from adapters.decisions.sqlite import _STEPS, Config, SqliteSink
from telemetry.sink import ArchiveUnavailableError, Search, Written
from tests.fakes.decisions import line

NAME = "decisions.db"
NOBODY = 65_534


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    """A sink in a folder of its own."""
    with closing(SqliteSink(Config(tmp_path))) as made:
        yield made


def kept(sink: SqliteSink) -> list[int]:
    """The numbers of the records that another process finds."""
    return [int(each.record.id[:8]) for each in sink.archive().search(Search(limit=100))]


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_file_that_is_no_database_is_set_aside(
    sink: SqliteSink, tmp_path: Path, damage: bytes
) -> None:
    """Nothing is lost by it: the batch is in the new one. An empty file just becomes one."""
    (tmp_path / NAME).write_bytes(damage)
    written = sink.write([line(1)])
    assert written.count == 1
    assert ("was damaged" in written.fault) is bool(damage)
    assert kept(sink) == [1]
    assert sink.write([line(2)]) == Written(1)
    if damage:
        assert (tmp_path / f"{NAME}.damaged").read_bytes() == damage


def test_pages_that_were_overwritten_are_noticed(sink: SqliteSink, tmp_path: Path) -> None:
    """A bad disk must not end the log."""
    sink.write([line(number) for number in range(2000)])
    sink.close()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(60 * 4096))
    assert "was damaged" in sink.write([line(3000)]).fault
    assert kept(sink) == [3000]


def test_a_reader_holds_up_no_writer(sink: SqliteSink, tmp_path: Path) -> None:
    """Nor does it see half a batch."""
    sink.write([line(1)])
    uri = f"file:{tmp_path / NAME}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM decision").fetchone() == (1,)
        assert sink.write([line(2)]) == Written(1)
        assert reader.execute("SELECT count(*) FROM decision").fetchone() == (1,)
    assert kept(sink) == [1, 2]


def test_a_writer_that_holds_the_file_costs_records_only(sink: SqliteSink, tmp_path: Path) -> None:
    """Somebody's shell must not stop the log for good."""
    sink.write([line(1)])
    with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        lost = sink.write([line(2)])
        assert (lost.count, "locked" in lost.fault) == (0, True)
    assert sink.write([line(3)]) == Written(1)


def test_a_file_of_a_newer_version_is_left_alone(sink: SqliteSink, tmp_path: Path) -> None:
    """An older program, started by mistake, spoils nothing."""
    with closing(sqlite3.connect(tmp_path / NAME)) as newer:
        newer.execute("PRAGMA user_version = 9")
    before = (tmp_path / NAME).read_bytes()
    assert "newer" in sink.write([line(1)]).fault
    assert (tmp_path / NAME).read_bytes()[28:] == before[28:]
    with pytest.raises(ArchiveUnavailableError, match="newer"):
        sink.archive().search(Search())


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user who may read only: for root, no file is read-only."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_read_only_file_costs_records_only(new_folder: Path) -> None:
    """As after a restore from a backup, or a file system that was mounted again read-only."""
    with closing(SqliteSink(Config(new_folder))) as sink:
        sink.write([line(1)])
        sink.close()
        (new_folder / NAME).chmod(0o444)
        new_folder.chmod(0o555)
        with somebody_else():
            lost = sink.write([line(2)])
        assert (lost.count, bool(lost.fault)) == (0, True)
        new_folder.chmod(0o755)
        (new_folder / NAME).chmod(0o600)
        assert sink.write([line(3)]) == Written(1)
        assert kept(sink) == [1, 3]


@pytest.fixture
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that other users can enter."""
    folder = tmp_path_factory.mktemp("open")
    above = [path for path in folder.parents if path.owner() == folder.owner()]
    modes = {path: path.stat().st_mode for path in above if "pytest" in path.name}
    for path in modes:
        path.chmod(0o755)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def test_what_is_not_there_is_said(sink: SqliteSink) -> None:
    """With the path that was looked at."""
    with pytest.raises(ArchiveUnavailableError, match=r"decisions\.db is not there"):
        sink.archive().search(Search())


def test_a_bound_that_was_lowered_is_reached_in_steps(tmp_path: Path) -> None:
    """No single batch pays for it."""
    with closing(SqliteSink(Config(tmp_path))) as large:
        large.write([line(number) for number in range(20_000)])
    before = (tmp_path / NAME).stat().st_size
    with closing(SqliteSink(Config(tmp_path, database_bytes=1024 * 1024))) as small:
        for now_ns in range(8):
            small.trim(now_ns)
    assert before > 8 * 1024 * 1024
    assert (tmp_path / NAME).stat().st_size <= 1024 * 1024


def test_a_file_of_the_first_format_is_brought_up_to_date(sink: SqliteSink, tmp_path: Path) -> None:
    """What was kept by an older program stays, and is read with what is new left empty."""
    with closing(sqlite3.connect(tmp_path / NAME)) as older:
        for statement in _STEPS[0]:
            older.execute(statement)
        older.execute("PRAGMA user_version = 1")
        names = [each[1] for each in older.execute("PRAGMA table_info(decision)")][1:]
        values = {"id": "00000001", "time_ns": 1, "status": 200, "misses": "[]", "faults": "[]"}
        older.execute(
            f"INSERT INTO decision ({', '.join(names)}) "  # noqa: S608 - names of our own
            f"VALUES ({', '.join('?' * len(names))})",
            [values.get(name, 0 if name == "rule_line" else "x") for name in names],
        )
        older.commit()
    with pytest.raises(ArchiveUnavailableError, match="older version"):
        sink.archive().search(Search())
    assert sink.write([line(2, headers={"x-env": "prod"})]) == Written(1)
    first, second = sink.archive().search(Search())
    assert (first.record.path, first.record.headers) == ("x", {})
    assert second.record.headers == {"x-env": "prod"}
