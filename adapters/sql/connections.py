"""How the service's own databases are connected to, and transactions on them.

One place for what every connection needs: each setting here was learned from an outage.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.sql.migrate import migrate
from adapters.sql.turns import turns_of

__all__ = [
    "CONNECT_TIMEOUT_S",
    "READING",
    "TIMEOUT_S",
    "Transactions",
    "postgresql_engine",
    "postgresql_url",
    "prepare_sqlite",
    "said",
    "session_options",
    "sqlite_engine",
    "sqlite_file",
]

TIMEOUT_S = 10.0
# A partition's end must be seen within seconds, so no try may wait long; libpq takes no less.
CONNECT_TIMEOUT_S = 2
# What was sent and is not acknowledged so long ends a connection: without it, one that a network
# swallows would be taken for a slow one for many minutes. Source: libpq, tcp_user_timeout.
_UNACKNOWLEDGED_MS = 3000
# For the pause between two statements of a transaction: whoever went silent there must not hold its
# locks until the server's kernel gives up on him, and those who wait for them have TIMEOUT_S.
_IDLE_TIMEOUT_MS = 5000
_BUSY_MS = 5000
READING = "meshwarden_reading"
"""Execution option of transactions that only read: they take no write lock."""

_Result = TypeVar("_Result")


def sqlite_engine(file: Path) -> AsyncEngine:
    """Make an engine for an SQLite file; its folder has to exist."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
    prepare_sqlite(engine.sync_engine)
    return engine


def prepare_sqlite(engine: Engine) -> None:
    """Have an engine's connections wait for locks, survive a power cut, and begin in time."""

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # SQLite's driver begins transactions late unless told not to; SQLAlchemy begins them.
        connection.isolation_level = None
        cursor = connection.cursor()
        # Against other processes alone: this one's own wait for each other (turns.py).
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        # What was acknowledged survives a power cut.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock first: two writers wait for each other and never dead-lock.
        is_reading = connection.get_execution_options().get(READING)
        connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def forget(context: Any) -> None:
        # One that was opened while the file was read-only stays so: throw it away.
        if "readonly" in str(context.original_exception):
            context.is_disconnect = True


def sqlite_file(engine: Engine) -> Path | None:
    """Give the file whose writers have to wait for each other; None for a server."""
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    return Path(file).resolve() if file else None


def postgresql_url(url: str) -> URL:
    """Read a URL of ours, for SQLAlchemy with the driver that we use."""
    return make_url(url).set(drivername="postgresql+psycopg")


def session_options(url: URL, statement_ms: int, idle_ms: int) -> str:
    """Write what a session shall have for libpq, behind what the URL says: that stays in force.

    Args:
        url: Of ours; its options may name a search_path, say.
        statement_ms: The longest statement, its wait for locks included.
        idle_ms: The longest pause between two statements of a transaction.
    """
    given = url.query.get("options", "")
    return " ".join(
        (
            *((given,) if isinstance(given, str) else given),
            f"-c statement_timeout={statement_ms}",
            f"-c idle_in_transaction_session_timeout={idle_ms}",
        )
    ).strip()


def postgresql_engine(url: URL) -> AsyncEngine:
    """Make an engine for a PostgreSQL; nothing is connected yet."""
    from adapters.sql.patience import AsyncConnection as Patient  # noqa: PLC0415 - SQLite needs none

    return create_async_engine(
        url,
        pool_pre_ping=True,
        pool_size=4,
        connect_args={
            "async_creator_fn": Patient.connect,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": session_options(url, round(TIMEOUT_S * 1000), _IDLE_TIMEOUT_MS),
            "tcp_user_timeout": _UNACKNOWLEDGED_MS,
        },
    )


class Transactions:
    """Transactions on one database, each whole or not at all and within a bound.

    Args:
        engine: Of the database; its tables are brought up to date before the first transaction.
        unavailable: Makes the error of what can't be reached or written, given the reason.
    """

    def __init__(self, engine: AsyncEngine, unavailable: Callable[[str], Exception]) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})
        self._unavailable = unavailable
        self._file = sqlite_file(engine.sync_engine)
        self._migrating = asyncio.Lock()
        self.is_migrated = False

    @property
    def dialect(self) -> str:
        """Which kind of database it is: "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    async def run(
        self, work: Callable[[AsyncConnection], Awaitable[_Result]], limit_s: float = TIMEOUT_S
    ) -> _Result:
        """Do something whole or not at all, within the time-out, once it is this one's turn.

        Raises:
            IntegrityError: A row is there already; for the caller to translate.
            Exception: What `unavailable` makes.
        """
        await self._make_tables(limit_s)
        async with (
            self._turn(limit_s),
            self._bounded(limit_s),
            self._engine.begin() as connection,
        ):
            return await work(connection)

    async def read(
        self, work: Callable[[AsyncConnection], Awaitable[_Result]], limit_s: float = TIMEOUT_S
    ) -> _Result:
        """Read what belongs together, within the time-out; who writes is not waited for, nor held.

        Raises:
            Exception: What `unavailable` makes.
        """
        await self._make_tables(limit_s)
        async with self._bounded(limit_s), self._reading.begin() as connection:
            return await work(connection)

    async def close(self) -> None:
        """Release the connections; a second call does nothing."""
        await self._engine.dispose()

    async def _make_tables(self, limit_s: float) -> None:
        if self.is_migrated:
            return
        async with self._bounded(limit_s), self._migrating:
            if not self.is_migrated:
                async with self._turn(limit_s), self._engine.begin() as connection:
                    await connection.run_sync(migrate)
                self.is_migrated = True

    @asynccontextmanager
    async def _turn(self, limit_s: float) -> AsyncGenerator[None]:
        if self._file is None:  # A server has a line of its own.
            yield
            return
        async with turns_of(self._file).taken(limit_s, self._unavailable):
            yield

    @asynccontextmanager
    async def _bounded(self, limit_s: float) -> AsyncGenerator[None]:
        """End what takes too long, and translate what goes wrong."""
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:  # A TimeoutError is one, too.
            if limit.expired():
                # What went silent under one connection did so under those that wait beside it.
                await self._engine.dispose()
                raise self._unavailable(f"the store did not answer in {limit_s:g} s") from error
            raise self._unavailable(f"the store: {said(error)}") from error


def said(error: Exception) -> str:
    """The database's own words, without SQLAlchemy's statement and link; no parameter is told."""
    inner = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return " ".join(str(inner).split())
