"""The database that identities are kept in: transactions within a bound, and a watch on changes.

The same database as that of policy revisions, by connections of its own: PostgreSQL where
`store.url` names one, else the SQLite file in the state folder.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.sql.connections import (
    CONNECT_TIMEOUT_S,
    Transactions,
    postgresql_engine,
    postgresql_url,
    sqlite_engine,
)
from ca.errors import IdentityStoreError

__all__ = ["Database", "open_database"]

_POLL_S = 0.2
# A notification can be lost with a connection that died silently: look without one too.
_SLOW_POLL_S = 2.0
_ANSWER_S = 1.0
_RETRY_S = 0.5
_Result = TypeVar("_Result")


class Database:
    """One database.

    Args:
        engine: SQLAlchemy's engine.
        changes: Yields when there may be something new, given a statement whose result says so.
        notify: Run inside a transaction, to wake those who watch.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        changes: Callable[[str], AsyncGenerator[None]],
        notify: Callable[[AsyncConnection], Awaitable[None]],
    ) -> None:
        self._transactions = Transactions(engine, IdentityStoreError)
        self._changes = changes
        self.notify = notify

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of one machine."""
        return self._transactions.dialect == "sqlite"

    async def run(self, work: Callable[[AsyncConnection], Awaitable[_Result]]) -> _Result:
        """Do something whole or not at all, within the time-out.

        Raises:
            IdentityStoreError: The database can't be reached or written.
            IntegrityError: A row is there already; for the caller to translate.
        """
        return await self._transactions.run(work)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[_Result]]) -> _Result:
        """Read what belongs together, within the time-out, without holding up who writes.

        Raises:
            IdentityStoreError: The database can't be reached or read.
        """
        return await self._transactions.read(work)

    async def watch(self, probe: str) -> AsyncGenerator[None]:
        """Yield at once, after each lost connection, and when what a statement gives has changed.

        Args:
            probe: A SELECT of one row, cheap: it is asked after every change of anything.
        """
        while not self._transactions.is_migrated:
            yield
            try:
                await self.run(_nothing)
            except IdentityStoreError:
                await asyncio.sleep(_RETRY_S)
        # Closed with this one, or its connection would stay open until somebody collects it.
        async with contextlib.aclosing(self._changes(probe)) as changes:
            async for _ in changes:
                yield

    async def close(self) -> None:
        """Release its connections; a second call does nothing."""
        await self._transactions.close()


def open_database(url: str, file: Path, channel: str) -> Database:
    """Open one; nothing is connected before it is used.

    Args:
        url: Of a PostgreSQL; "" for SQLite.
        file: Of SQLite; its folder has to exist.
        channel: Of notifications, for PostgreSQL.
    """
    return _postgresql(url, channel) if url else _sqlite(file)


def _sqlite(file: Path) -> Database:
    engine = sqlite_engine(file)

    async def changes(probe: str) -> AsyncGenerator[None]:
        import aiosqlite  # noqa: PLC0415 - only who watches needs it

        while True:
            try:
                async with aiosqlite.connect(file, isolation_level=None) as held:
                    before = None
                    seen: object = held  # Equal to no row: the first look always tells.
                    while True:
                        # It changes when another connection commits. A new connection always reads
                        # the same number, so one is held, and never in a transaction.
                        async with held.execute("PRAGMA data_version") as cursor:
                            now = await cursor.fetchone()
                        if now != before:
                            async with held.execute(probe) as cursor:
                                found = await cursor.fetchone()
                            if found != seen:
                                yield
                            before, seen = now, found
                        await asyncio.sleep(_POLL_S)
            except (aiosqlite.Error, OSError):
                await asyncio.sleep(_RETRY_S)

    async def notify(_connection: AsyncConnection) -> None:
        """Watchers poll."""

    return Database(engine, changes, notify)


def _postgresql(address: str, channel: str) -> Database:
    url = postgresql_url(address)
    engine = postgresql_engine(url)

    async def changes(probe: str) -> AsyncGenerator[None]:
        import psycopg  # noqa: PLC0415 - only who watches needs it

        from adapters.sql.patience import AsyncConnection as Patient  # noqa: PLC0415 - likewise

        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            seen: object = changes  # Equal to no row: the first look always tells.
            try:
                async with await Patient.connect(
                    plain, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
                ) as connection:
                    # Before the first look: no change falls between.
                    async with asyncio.timeout(_ANSWER_S):
                        await connection.execute(f"LISTEN {channel}")
                    while True:
                        # A silent connection is asked all the same, so that a dead one is noticed.
                        async with asyncio.timeout(_ANSWER_S):
                            found = await (await connection.execute(probe)).fetchone()
                        if found != seen:
                            yield
                        seen = found
                        async for _ in connection.notifies(timeout=_SLOW_POLL_S, stop_after=1):
                            pass
            except (psycopg.Error, OSError, TimeoutError):
                await engine.dispose()  # Whoever looks next must not try the others one by one.
                with contextlib.suppress(TimeoutError):
                    await asyncio.sleep(_RETRY_S)

    async def notify(connection: AsyncConnection) -> None:
        await connection.execute(text(f"NOTIFY {channel}"))

    return Database(engine, changes, notify)


async def _nothing(_connection: AsyncConnection) -> None:
    """Only make the tables."""
