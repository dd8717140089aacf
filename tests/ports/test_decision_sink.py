"""Every sink of decision records keeps the same promises; a new one joins by existing."""

import resource
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from typing_extensions import override

from adapters.spec import AnyAdapter
from deploy.demo.processes import free_ports
from meshwarden import plugins
from telemetry.record import record_line
from telemetry.sink import ArchiveUnavailableError, DecisionArchive, DecisionSink, Search, Written
from tests.fakes.decisions import START_NS, decision, decision_id, line
from tests.servers.partition import Partition
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

DAY_NS = 86_400 * 10**9
MIB = 1024 * 1024
SMALL = {"database_bytes": MIB, "file_bytes": MIB // 4, "files": 4, "days": 30}


NAMES = plugins.names("decisions")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


class Place:
    """Where sinks of one kind keep what they get, as somebody sees it who looks without them."""

    def __init__(self, name: str, url: str, folder: Path, schema: str = "decisions") -> None:
        self.adapter: AnyAdapter = plugins.load("decisions", name)
        self.folder = folder
        self._known = {"state_dir": folder, "url": url, "schema": schema, **SMALL}

    def build(self, **settings: object) -> DecisionSink:
        """Build a sink with small bounds."""
        known = {**self._known, **settings}
        sink: DecisionSink = self.adapter.build(
            self.adapter.config(
                **{each.name: known[each.name] for each in fields(self.adapter.config)}
            )
        )
        return sink

    @contextmanager
    def opened(self, **settings: object) -> Iterator[DecisionSink]:
        """Use a sink and close it."""
        sink = self.build(**settings)
        try:
            yield sink
        finally:
            sink.close()

    def size_bytes(self) -> int:
        """What it takes of the disk."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    def holds(self, text: str) -> bool:
        """Whether any file has this text."""
        return any(text.encode() in file.read_bytes() for file in self.folder.iterdir())


class Schema(Place):
    """A schema of a real PostgreSQL."""

    def ask(self, text: LiteralString, *values: object) -> Any:
        """Ask the server for one value."""
        with psycopg.connect(str(self._known["url"]), autocommit=True) as connection:
            row = connection.execute(text, values).fetchone()
            return row[0] if row else None

    def empty(self) -> None:
        """Begin without it."""
        with psycopg.connect(str(self._known["url"]), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS decisions CASCADE")

    @override
    def size_bytes(self) -> int:
        tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
        return int(self.ask(tables + "AND relnamespace = 'decisions'::regnamespace"))

    @override
    def holds(self, text: str) -> bool:
        return bool(
            self.ask("SELECT count(*) FROM decisions.decision d WHERE d::text LIKE %s", f"%{text}%")
        )


MARKS = {"postgresql": [pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)]}


def each_of(names: Iterable[str]) -> list[Any]:
    """Parameters, with what each needs."""
    return [pytest.param(name, marks=MARKS.get(name, [])) for name in names]


def made(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place."""
    if request.param != "postgresql":
        return Place(request.param, "", tmp_path)
    running: Postgresql = request.getfixturevalue("server")
    schema = Schema(request.param, running.url, tmp_path)
    schema.empty()
    return schema


@pytest.fixture(params=each_of(NAMES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind."""
    return made(request, tmp_path)


@pytest.fixture(params=each_of(name for name in NAMES if name != "postgresql"))
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind that is a folder of files."""
    return made(request, tmp_path)


@pytest.fixture(params=each_of(name for name in NAMES if Place(name, "", Path()).build().archive()))
def searchable(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind whose records can be read again."""
    return made(request, tmp_path)


def archive_of(sink: DecisionSink) -> DecisionArchive:
    """What reads it again."""
    archive = sink.archive()
    assert archive is not None
    return archive


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


def test_what_was_written_is_there_after_a_restart(place: Place) -> None:
    """And nothing is written over."""
    for number in (1, 2):
        with place.opened() as sink:
            assert sink.write([line(number)]) == Written(1)
    assert place.holds(decision_id(1))
    assert place.holds(decision_id(2))


def test_nobody_else_can_read_it(files: Place) -> None:
    """It says who asked for what."""
    with files.opened() as sink:
        sink.write([line(1)])
        assert {file.stat().st_mode & 0o777 for file in files.folder.iterdir()} == {0o600}


def test_building_one_touches_nothing(place: Place) -> None:
    """A start waits for no disk and no server."""
    place.build(state_dir=place.folder / "gone", url="postgresql://127.0.0.1:9/x").close()
    place.build().close()
    assert not list(place.folder.iterdir())


def test_a_folder_that_is_away_costs_records_until_it_is_back(files: Place) -> None:
    """The answer says what is wrong; nothing is raised."""
    folder = files.folder / "state"
    with files.opened(state_dir=folder) as sink:
        lost = sink.write([line(1)])
        assert (lost.count, bool(lost.fault)) == (0, True)
        assert str(folder) in lost.fault
        folder.mkdir()
        assert sink.write([line(2)]) == Written(1)


def test_a_full_disk_costs_records_until_there_is_room(files: Place) -> None:
    """What was there before stays whole."""
    with files.opened() as sink:
        assert sink.write([line(1)]) == Written(1)
        with full_disk():
            for number in range(2, 6):
                lost = sink.write([line(number)])
                assert (lost.count, bool(lost.fault)) == (0, True)
        assert sink.write([line(7)]) == Written(1)
    assert files.holds(decision_id(1))
    assert files.holds(decision_id(7))
    assert not files.holds(decision_id(3))


def test_files_that_somebody_removed_are_begun_again(files: Place) -> None:
    """Records that went after them would be lost."""
    with files.opened() as sink:
        sink.write([line(1)])
        for file in files.folder.iterdir():
            file.unlink()
        assert sink.write([line(2)]) == Written(1)
    assert files.holds(decision_id(2))


def test_its_size_is_bounded_and_the_oldest_go(place: Place) -> None:
    """Whatever comes, the disk has the rest for itself."""
    with place.opened() as sink:
        for start in range(0, 10_000, 500):
            written = sink.write([line(number) for number in range(start, start + 500)])
            assert written == Written(500)
    assert place.size_bytes() <= 1.2 * MIB
    assert place.holds(decision_id(9_999))
    assert not place.holds(decision_id(100))


def test_what_is_past_its_days_goes(place: Place) -> None:
    """Also where nothing new comes."""
    with place.opened() as sink:
        sink.write([line(1)])
        assert not sink.trim(START_NS + 5 * DAY_NS)
        assert place.holds(decision_id(1))
    # Files of lines go by when they were last written to, and this one is new.
    written_ns = max((file.stat().st_mtime_ns for file in place.folder.iterdir()), default=START_NS)
    with place.opened() as sink:
        assert not sink.trim(written_ns + 31 * DAY_NS)
        archive = sink.archive()
        kept = archive.search(Search()) if archive else list(place.folder.iterdir())
    assert not kept


def test_a_batch_that_comes_twice_is_kept_once(searchable: Place) -> None:
    """A front that got no answer sends it again; both may wait for one turn."""
    with searchable.opened() as sink:
        assert sink.write([line(1), line(2)]) == Written(2)
        assert sink.write([line(1), line(2), line(3), line(3)]) == Written(4)
        assert numbers(archive_of(sink)) == [1, 2, 3]


def test_what_a_shadow_would_have_done_is_found_apart(searchable: Place) -> None:
    """It is neither an allow nor a denial."""
    with searchable.opened() as sink:
        sink.write([line(1), line(2, verdict="would_deny"), line(3, verdict="deny")])
        archive = archive_of(sink)
    for number, verdict in ((1, "allow"), (2, "would_deny"), (3, "deny")):
        assert numbers(archive, verdict=verdict) == [number]


def test_odd_text_is_kept(searchable: Place) -> None:
    """NUL, line breaks and whatever else a caller can put into a path."""
    odd = "/a\0b\n\\u0000 \u2028 '\"; DROP TABLE x --"
    with searchable.opened() as sink:
        assert sink.write([line(1, path=odd), line(2)]) == Written(2)
        first, _ = archive_of(sink).search(Search())
    assert first.record.path in {odd, odd.replace("\0", "\ufffd")}


@pytest.fixture
def archive(searchable: Place) -> DecisionArchive:
    """What reads ten records again: every third a denial, of two callers."""
    with searchable.opened() as sink:
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
        ({"verdict": "would_deny"}, []),
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


def test_a_record_is_read_as_it_was_written(searchable: Place) -> None:
    """Every field of it, lists too."""
    full = decision(
        1,
        user="user:iss/sub",
        misses=("a:1: path", "b:2: method"),
        faults=("c.csv:3",),
        headers={"x-env": "prod"},
        claims={"groups": "a, b"},
    )
    with searchable.opened() as sink:
        sink.write([record_line(full)])
        archive = archive_of(sink)
        (kept,) = archive.find(full.id)
        assert archive.find(full.id[:8]) == [kept]
        assert archive.find("x") == []
    assert kept.record == full


needs_postgresql = pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)


@pytest.fixture
def schema(server: Postgresql, tmp_path: Path) -> Schema:
    """An empty schema."""
    place = Schema("postgresql", server.url, tmp_path)
    place.empty()
    return place


@needs_postgresql
def test_a_schema_is_its_owners(schema: Schema) -> None:
    """Others in the database may not even look."""
    with schema.opened() as sink:
        sink.write([line(1)])
    assert schema.ask("SELECT has_schema_privilege('public', 'decisions', 'USAGE')") is False
    assert (
        schema.ask("SELECT has_table_privilege('public', 'decisions.decision', 'SELECT')") is False
    )


@needs_postgresql
def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """Killed and back: records may be tried again, and go on where they stopped."""
    with postgresql(free_ports(1)[0]) as running:
        place = Schema("postgresql", running.url, tmp_path)
        with place.opened() as sink:
            assert sink.write([line(1)]) == Written(1)
            running.stop()
            for _ in range(2):
                lost = sink.write([line(2)])
                assert (lost.count, lost.may_retry) == (0, True)
                assert "PostgreSQL" in lost.fault
            with pytest.raises(ArchiveUnavailableError, match="PostgreSQL"):
                archive_of(sink).search(Search())
            assert "PostgreSQL" in sink.trim(1)
            running.start()
            assert sink.write([line(2)]) == Written(1)
            assert numbers(archive_of(sink)) == [1, 2]


@needs_postgresql
def test_a_server_that_went_silent_is_given_up_and_tried_again(
    server: Postgresql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the one thread that writes would wait for ever, after a partition of a second."""
    monkeypatch.setattr("adapters.decisions.postgresql._PATIENCE_S", 1.0)
    with Partition(server.port) as partition:
        far = server.url.replace(f":{server.port}/", f":{partition.port}/")
        place = Schema("postgresql", far, tmp_path)
        place.empty()
        with place.opened() as sink:
            assert sink.write([line(1)]) == Written(1)
            partition.begin()
            lost = sink.write([line(2)])
            assert (lost.count, lost.may_retry) == (0, True)
            assert "stopped to answer" in lost.fault
            partition.end()
            assert sink.write([line(2)]) == Written(1)


@needs_postgresql
def test_tables_of_a_newer_program_are_left_alone(schema: Schema) -> None:
    """Records wait: the newer program may come back."""
    with schema.opened() as sink:
        sink.write([line(1)])
    schema.ask("UPDATE decisions.format SET version = 99 RETURNING 1")
    with schema.opened() as sink:
        lost = sink.write([line(2)])
        assert (lost.count, lost.may_retry, "newer" in lost.fault) == (0, True, True)
        with pytest.raises(ArchiveUnavailableError, match="newer"):
            archive_of(sink).search(Search())
    assert not schema.holds(decision_id(2))


@needs_postgresql
def test_nothing_to_read_yet_is_said(schema: Schema) -> None:
    """By the name of the schema."""
    with pytest.raises(ArchiveUnavailableError, match='no schema "decisions" yet'):
        archive_of(schema.build()).search(Search())


@needs_postgresql
def test_of_many_writers_each_record_is_found_by_who_follows(schema: Schema) -> None:
    """Replicas share the tables: numbers that appear out of their order would be passed over."""
    batches = 20

    def write(start: int) -> None:
        with schema.opened(database_bytes=64 * MIB) as sink:
            for batch in range(batches):
                first = start + batch * 50
                assert sink.write([line(each) for each in range(first, first + 50)]) == Written(50)

    with schema.opened(database_bytes=64 * MIB) as sink:
        sink.write([line(0)])
    archive = archive_of(schema.build())
    followed = archive.search(Search())
    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, start) for start in (10_000, 20_000, 30_000)]
        while len(followed) < 1 + 3 * batches * 50:
            is_over = all(each.done() for each in writing)
            found = archive.search(Search(limit=1000), followed[-1].position)
            followed += found
            if is_over and not found:
                break
        for each in writing:
            each.result()
    assert len({each.record.id for each in followed}) == len(followed) == 1 + 3 * batches * 50


@needs_postgresql
def test_a_reader_holds_up_no_writer(schema: Schema) -> None:
    """Not even one who forgets to end, when the next partition is due."""
    with schema.opened(database_bytes=8 * MIB) as sink:
        sink.write([line(1)])
        with psycopg.connect(str(schema._known["url"])) as reader:
            reader.execute("SELECT count(*) FROM decisions.decision")
            for start in range(10, 3010, 500):
                numbers = range(start, start + 500)
                assert sink.write([line(number) for number in numbers]) == Written(500)
    assert schema.ask("SELECT count(*) FROM pg_inherits") > 1
