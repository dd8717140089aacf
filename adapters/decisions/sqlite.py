"""Decision records in an SQLite file of their own, to be searched while it is written.

One transaction a batch, in WAL mode: readers and the writer don't wait for each other. A power cut
costs the last seconds, never the file. Source: sqlite.org/wal.html, "Performance Considerations".
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from typing_extensions import override

from adapters.spec import Adapter
from adapters.sql.decisions import COLUMNS, LAST, NUMBERS, conditions, kept, row
from telemetry.sink import (
    ArchiveUnavailableError,
    DecisionArchive,
    DecisionSink,
    Kept,
    Search,
    Written,
)

__all__ = ["ADAPTER", "Config", "SqliteArchive", "SqliteSink"]

Result = TypeVar("Result")

_NAME = "decisions.db"
_FORMAT = 2  # PRAGMA user_version; a higher one was written by code that knows more.
_BUSY_S = 1.0
_WAL_BYTES = 16 * 1024 * 1024
_DAY_NS = 86_400 * 10**9
# A slice of deletions holds the file for milliseconds; batches come between.
_SLICE = 2_000
_SLICES_A_BATCH = 3
_VACUUM_PAGES = 1_000
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_FEW = 10

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)  # "user" means something else without.
_INSERT = (
    f"INSERT OR IGNORE INTO decision ({_NAMES}) "  # noqa: S608 - names of our own
    f"VALUES ({', '.join('?' * len(COLUMNS))})"
)
_SELECT = f"SELECT number, {_NAMES} FROM decision"  # noqa: S608 - likewise
_ADDED = ("headers", "claims")  # By the second format.
_FIRST = tuple(name for name in COLUMNS if name not in _ADDED)
# What leads from each format to the next; none is edited once it was released.
_STEPS = (
    (
        "CREATE TABLE decision (number INTEGER PRIMARY KEY, "
        + ", ".join(
            f"{name} {'INTEGER' if name in NUMBERS else 'TEXT'} NOT NULL" for name in _FIRST
        )
        + ")",
        # A front that got no answer sends a batch again: each decision is kept once.
        "CREATE UNIQUE INDEX decision_by_id ON decision (id)",
        "CREATE INDEX decision_by_time ON decision (time_ns)",
        "CREATE INDEX decision_denied ON decision (time_ns) WHERE verdict = 'deny'",
        "CREATE INDEX decision_by_principal ON decision (principal, time_ns)",
        "CREATE INDEX decision_by_path ON decision (path, time_ns)",
    ),
    tuple(
        f"ALTER TABLE decision ADD COLUMN {name} TEXT NOT NULL DEFAULT '{{}}'" for name in _ADDED
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the database.

    Attributes:
        state_dir: The folder of the file; it has to exist when records come.
        database_bytes: How large the file may get; its write-ahead log, some MB, comes on top.
        days: How old a record may get.
    """

    state_dir: Path = field(default_factory=Path)
    database_bytes: int = 536_870_912
    days: int = 30


class SqliteSink(DecisionSink):
    """Writes to `decisions.db`; the oldest records make room for new ones."""

    def __init__(self, config: Config) -> None:
        self._path = config.state_dir / _NAME
        self._max_bytes = config.database_bytes
        self._max_age_ns = config.days * _DAY_NS
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @override
    def write(self, lines: Sequence[bytes]) -> Written:
        rows = [row(line) for line in lines]
        _, fault = self._attempt(lambda connection: self._insert(connection, rows))
        if fault.is_lost:
            return Written(0, fault.words)
        # What was kept is kept, whatever becomes of the sweep.
        _, sweep = self._attempt(lambda connection: self._make_room(connection, len(rows)))
        return Written(len(rows), fault.words or sweep.words)

    @override
    def trim(self, now_ns: int) -> str:
        def sweep(connection: sqlite3.Connection) -> None:
            deleted = _SLICE
            for _ in range(_SLICES_A_BATCH):
                if deleted == _SLICE:
                    deleted = self._delete(
                        connection,
                        "SELECT number FROM decision WHERE time_ns < ? ORDER BY time_ns LIMIT ?",
                        (now_ns - self._max_age_ns, _SLICE),
                    )
            self._make_room(connection, 0)

        return self._attempt(sweep)[1].words

    @override
    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @override
    def archive(self) -> DecisionArchive:
        return SqliteArchive(self._path)

    def _attempt(
        self, work: Callable[[sqlite3.Connection], Result]
    ) -> "tuple[Result | None, _Fault]":
        """Do something with the database; a damaged one is set aside, and a new one begun."""
        words = ""
        for _ in range(2):
            try:
                return work(self._open()), _Fault(words)
            except (sqlite3.Error, OSError) as error:
                self._abandon()
                words = f"{self._path} can't be written: {error}"
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                    break
            try:
                aside = self._set_aside()
            except OSError:
                break
            words = f"{self._path} was damaged: it is {aside.name} now, and a new one is begun"
        return None, _Fault(words, is_lost=True)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and not self._is_current():
            self._abandon()  # Somebody moved or removed it: what follows belongs into a new one.
        if self._connection is None:
            # SQLite would make it readable by everybody; its other files take the mode from this.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            self._connection = connection
            self._inode = self._path.stat().st_ino
            _set_up(connection)
        return self._connection

    def _is_current(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _abandon(self) -> None:
        try:
            self.close()
        except sqlite3.Error:
            self._connection = None  # A disk that is full may refuse even this.

    def _set_aside(self) -> Path:
        """Move a file that is no database, or no whole one, out of the way; the last one stays."""
        aside = self._path.with_name(f"{_NAME}.damaged")
        self._path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(_NAME + suffix).unlink(missing_ok=True)
        return aside

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> None:
        with _transaction(connection):
            connection.executemany(_INSERT, rows)

    def _make_room(self, connection: sqlite3.Connection, new: int) -> None:
        """Delete the oldest in slices while the file is too large, and give pages back.

        At least twice what came in: a bound that was lowered is reached in the end.
        """
        for _ in range(_SLICES_A_BATCH):
            if self._used_bytes(connection) <= self._max_bytes:
                break
            oldest = "SELECT number FROM decision ORDER BY number LIMIT ?"
            if not self._delete(connection, oldest, (max(_SLICE, new),)):
                break
        if _pragma(connection, "page_count") * _pragma(connection, "page_size") > self._max_bytes:
            # Free pages are filled again by the next batches: only what is past the bound goes.
            # As a script: `execute` takes one step, and each step of this pragma frees one page.
            connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")

    def _used_bytes(self, connection: sqlite3.Connection) -> int:
        pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
        return pages * _pragma(connection, "page_size")

    def _delete(self, connection: sqlite3.Connection, which: str, values: tuple[int, ...]) -> int:
        with _transaction(connection):
            text = f"DELETE FROM decision WHERE number IN ({which})"  # noqa: S608 - our own words
            return connection.execute(text, values).rowcount


@dataclass(frozen=True, slots=True)
class _Fault:
    words: str
    is_lost: bool = False


class SqliteArchive(DecisionArchive):
    """Reads `decisions.db` through a connection that can't write, opened anew for each question."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def find(self, id_or_start: str) -> list[Kept]:
        return self._read(
            f"{_SELECT} WHERE id >= ? AND id <= ? ORDER BY id LIMIT ?",
            (id_or_start, id_or_start + LAST, _FEW),
        )

    @override
    def search(self, wanted: Search, after: int = 0) -> list[Kept]:
        asked, values = conditions(wanted, "?")
        if after:
            # Numbers begin anew once all is deleted: what came after "after" is then everything.
            asked.append("number > min(?, (SELECT coalesce(max(number), 0) FROM decision))")
            values.append(after)
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        # The order of arrival is that of time, but for what fronts send at once.
        order = "number" if after else "time_ns DESC, number DESC"
        found = self._read(f"{_SELECT}{where} ORDER BY {order} LIMIT ?", (*values, wanted.limit))
        return sorted(found, key=lambda each: each.position)

    def _read(self, text: str, values: Sequence[object]) -> list[Kept]:
        if not self._path.exists():
            raise ArchiveUnavailableError(f"{self._path} is not there: nothing was kept yet")
        try:
            uri = f"file:{quote(str(self._path))}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as connection:
                found = _pragma(connection, "user_version")
                if found > _FORMAT:
                    raise ArchiveUnavailableError(f"{self._path} is of a newer version's format")
                if not found:
                    return []  # Made a moment ago, with nothing in it yet.
                if found < _FORMAT:
                    raise ArchiveUnavailableError(
                        f"{self._path} is of an older version's format: start the service once"
                    )
                return [kept(each) for each in connection.execute(text, values)]
        except sqlite3.Error as error:
            raise ArchiveUnavailableError(f"{self._path} can't be read: {error}") from error


def _set_up(connection: sqlite3.Connection) -> None:
    # Before anything is written: this may be a file that code of a newer version still needs.
    if _pragma(connection, "user_version") > _FORMAT:
        raise sqlite3.OperationalError("it is of a newer version's format")
    # Before the first table: later it would need the whole file to be written anew.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    with _transaction(connection):
        for step in _STEPS[_pragma(connection, "user_version") :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has ended it already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


ADAPTER: Adapter[DecisionSink, Config] = Adapter(config=Config, build=SqliteSink)
