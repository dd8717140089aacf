"""Decision records in PostgreSQL, in a schema of their own that replicas share.

Records are handed over as they came, as JSON, and PostgreSQL itself reads them: one statement a
batch. The table is partitioned in the order of arrival, and a partition is full when it has taken
its share of the bytes allowed: the oldest one is dropped as a whole, which gives the disk back at
once and leaves nothing to vacuum.

Writers take turns by an advisory lock, so that numbers appear in their order: who follows the log
misses none. Source: postgresql.org/docs, "Table Partitioning", "Advisory Locks".
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from adapters.spec import Adapter
from adapters.sql.decision_tables import FORMAT, NUMBERS_EACH, STEPS, Statements
from adapters.sql.decisions import LAST, conditions, kept
from telemetry.sink import (
    ArchiveUnavailableError,
    DecisionArchive,
    DecisionSink,
    Kept,
    Search,
    Written,
)

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["ADAPTER", "Config", "PostgresqlArchive", "PostgresqlSink"]

Result = TypeVar("Result")

_DAY_NS = 86_400 * 10**9
_CONNECT_S = 3
_TIMEOUTS = (
    "-c statement_timeout=10000 -c lock_timeout=3000 -c idle_in_transaction_session_timeout=10000"
)
_PATIENCE_S = 11.0  # Above the server's own limits.
_DEAD_MS = 5000  # A connection whose other end is silent for so long is gone.
_SHARES = 8
_SLICE = 2_000
_SLICES_A_TRIM = 3
_FEW = 10
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_PARTITION = re.compile(r"decision_(\d+)")
_NO_DRIVER = "postgresql's driver is not installed: install meshwarden[postgresql]"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the tables.

    Attributes:
        url: As "postgresql://USER@HOST:PORT/DATABASE"; a password is better kept in a passfile.
        schema: Made if it isn't there; nobody else may look into it unless told so.
        database_bytes: How much of the disk the records may take, indexes included.
        days: How old a record may get.
    """

    url: str = "postgresql://localhost/meshwarden"
    schema: str = "meshwarden_decisions"
    database_bytes: int = 536_870_912
    days: int = 30


class PostgresqlSink(DecisionSink):
    """Writes to one schema; a server that is away is tried again, and records wait for it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sql = Statements(config.schema)
        self._connection: Connection[Any] | None = None

    @override
    def write(self, lines: Sequence[bytes]) -> Written:
        text = b"[%s]" % b",".join(lines)
        # What PostgreSQL's text can't hold; a caller can send it in a path.
        given = _NUL.sub(r"\1\\ufffd", text.decode()) if b"\\u0000" in text else text.decode()
        _, fault = self._attempt(lambda connection: self._insert(connection, given, len(lines)))
        if fault.is_lost:
            return Written(0, fault.words, may_retry=fault.may_retry)
        # What was kept is kept, whatever becomes of the sweep.
        _, sweep = self._attempt(self._make_room)
        return Written(len(lines), sweep.words)

    @override
    def trim(self, now_ns: int) -> str:
        oldest_ns = now_ns - self._config.days * _DAY_NS

        def sweep(connection: "Connection[Any]") -> None:
            with self._turn(connection):
                for number, _ in self._partitions(connection)[:-1]:
                    newest_ns = self._number(connection, self._sql.newest_of(number))
                    if newest_ns >= oldest_ns:
                        break
                    self._run(connection, self._sql.drop(number))
            for _ in range(_SLICES_A_TRIM):
                with self._turn(connection):
                    deleted = self._run(connection, self._sql.delete, (oldest_ns, _SLICE))
                if deleted < _SLICE:
                    break

        return self._attempt(sweep)[1].words

    @override
    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @override
    def archive(self) -> DecisionArchive:
        return PostgresqlArchive(self._config)

    def _attempt(
        self, work: "Callable[[Connection[Any]], Result]"
    ) -> "tuple[Result | None, _Fault]":
        """Do something with the database, and say what went wrong."""
        try:
            import psycopg  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            return None, _Fault(_NO_DRIVER, is_lost=True)
        try:
            return work(self._open()), _Fault()
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            return None, _Fault(_said(error), is_lost=True)
        except (psycopg.Error, OSError, ArchiveUnavailableError) as error:
            # Away, full, or not yet allowed: that may end. What is half done was never there.
            self._abandon()
            return None, _Fault(_said(error), is_lost=True, may_retry=True)

    def _open(self) -> "Connection[Any]":
        if self._connection is None:
            connection = _connected(self._config)
            try:
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _abandon(self) -> None:
        try:
            self.close()
        except Exception:  # noqa: BLE001 - it is gone, however its end is reported
            self._connection = None

    def _migrate(self, connection: "Connection[Any]") -> None:
        sql = self._sql
        with connection.transaction():
            self._run(connection, sql.lock)
            # One that an administrator made is taken: making one may not be allowed.
            if not self._number(connection, sql.has_schema):
                self._run(connection, sql.make_schema)
            for statement in sql.make_format:
                self._run(connection, statement)
            found = self._number(connection, sql.format)
            if found > FORMAT:
                raise ArchiveUnavailableError(f"schema {sql.schema} is of a newer version's format")
            for step in STEPS[found:]:
                for statement in step:
                    self._run(connection, statement.format(s=sql.schema))
            if found < FORMAT:
                self._run(connection, sql.set_format, (FORMAT,))

    def _insert(self, connection: "Connection[Any]", given: str, count: int) -> None:
        with self._turn(connection):
            last = self._number(connection, self._sql.last)
            first, end = ((last + offset) // NUMBERS_EACH for offset in (1, count))
            known = {number for number, _ in self._partitions(connection)}
            for number in range(first, end + 1):
                if number not in known:
                    for statement in self._sql.partition(number):
                        self._run(connection, statement)
            # Who got no answer sends a batch again at once: it is looked for where it went then.
            floor = (first - 1) * NUMBERS_EACH
            self._run(connection, self._sql.insert, (given, floor))

    def _make_room(self, connection: "Connection[Any]") -> None:
        most = self._config.database_bytes
        partitions = self._partitions(connection)
        sizes = [size for _, size in partitions]
        if sum(sizes) <= most and (not sizes or sizes[-1] <= most // _SHARES):
            return
        with self._turn(connection):
            # Looked at again: another replica may have had its turn.
            partitions = self._partitions(connection)
            last, size = partitions[-1]
            if size > most // _SHARES:
                self._run(connection, self._sql.skip, ((last + 1) * NUMBERS_EACH,))
            total = sum(size for _, size in partitions)
            for number, size in partitions[:-1]:
                if total <= most:
                    break
                self._run(connection, self._sql.drop(number))
                total -= size

    @contextmanager
    def _turn(self, connection: "Connection[Any]") -> Iterator[None]:
        """One transaction, in which no other writer has begun to write."""
        with connection.transaction():
            self._run(connection, self._sql.lock)
            yield

    def _partitions(self, connection: "Connection[Any]") -> list[tuple[int, int]]:
        """Number and bytes of each, the oldest first."""
        rows = connection.execute(self._sql.partitions).fetchall()
        found = ((_PARTITION.fullmatch(name), size) for name, size in rows)
        return sorted((int(name[1]), size) for name, size in found if name)

    @staticmethod
    def _run(connection: "Connection[Any]", text: str, values: Sequence[object] = ()) -> int:
        return connection.execute(text, values or None).rowcount

    @staticmethod
    def _number(connection: "Connection[Any]", text: str) -> int:
        row = connection.execute(text).fetchone()
        return int(row[0] or 0) if row else 0


@dataclass(frozen=True, slots=True)
class _Fault:
    words: str = ""
    is_lost: bool = False
    may_retry: bool = False


class PostgresqlArchive(DecisionArchive):
    """Reads by a connection that changes nothing, opened anew for each question."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sql = Statements(config.schema)

    @override
    def find(self, id_or_start: str) -> list[Kept]:
        where = " WHERE id >= %s AND id <= %s ORDER BY id LIMIT %s"
        return self._read(where, (id_or_start, id_or_start + LAST, _FEW))

    @override
    def search(self, wanted: Search, after: int = 0) -> list[Kept]:
        asked, values = conditions(wanted, "%s")
        if after:
            asked.append(f"number > least(%s, {self._sql.greatest})")
            values.append(after)
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        order = "number" if after else "time_ns DESC, number DESC"
        found = self._read(f"{where} ORDER BY {order} LIMIT %s", (*values, wanted.limit))
        return sorted(found, key=lambda each: each.position)

    def _read(self, where: str, values: Sequence[object]) -> list[Kept]:
        try:
            import psycopg  # noqa: PLC0415 - an extra, and slow to import
        except ImportError as error:
            raise ArchiveUnavailableError(_NO_DRIVER) from error
        try:
            with _connected(self._config) as connection:
                connection.read_only = True
                row = connection.execute(self._sql.format).fetchone()
                if row and row[0] > FORMAT:
                    words = f"schema {self._sql.schema} is of a newer version's format"
                    raise ArchiveUnavailableError(words)
                text = self._sql.select + where
                return [kept(each) for each in connection.execute(text, values)]
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            words = f"there is no schema {self._sql.schema} yet: nothing was kept"
            raise ArchiveUnavailableError(words) from error
        except (psycopg.Error, OSError) as error:
            raise ArchiveUnavailableError(_said(error)) from error


def _connected(config: Config) -> "Connection[Any]":
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - see above

    from adapters.sql.patience import Connection as Patient  # noqa: PLC0415 - see above

    given = conninfo_to_dict(config.url).get("options") or ""
    connection = Patient.connect(
        config.url,
        autocommit=True,
        connect_timeout=_CONNECT_S,
        options=f"{given} {_TIMEOUTS}".strip(),
        tcp_user_timeout=_DEAD_MS,
    )
    connection.patience_s = _PATIENCE_S
    return connection


def _said(error: Exception) -> str:
    return f"PostgreSQL: {' '.join(str(error).split())}"


ADAPTER: Adapter[DecisionSink, Config] = Adapter(config=Config, build=PostgresqlSink)
