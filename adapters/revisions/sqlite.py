"""Revisions in one SQLite file: the embedded default, for a service without replicas."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from adapters.spec import Adapter
from adapters.sql.store import SqlRevisionStore
from authz.revisions import RevisionStore

__all__ = ["ADAPTER", "Config"]

_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the SQLite store.

    Attributes:
        path: The file; its folder has to exist.
    """

    path: Path = field(default_factory=lambda: Path("meshwarden.db"))


def _forget(context: Any) -> None:
    """Throw a connection away that was opened while the file was read-only: it stays so."""
    if "readonly" in str(context.original_exception):
        context.is_disconnect = True


def _build(config: Config) -> RevisionStore:
    engine = create_async_engine(f"sqlite+aiosqlite:///{config.path}")

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # SQLite's driver begins transactions late unless told not to; SQLAlchemy begins them.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # A revision that was acknowledged survives a power cut.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # IMMEDIATE takes the write lock first: two writers wait for each other and never dead-lock.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "handle_error", _forget)

    async def watch() -> AsyncIterator[None]:
        # data_version changes when another connection commits. A new connection always reads the
        # same number, so one is held, outside the pool and never in a transaction.
        import aiosqlite  # noqa: PLC0415 - only who watches needs it

        while True:
            yield
            try:
                async with aiosqlite.connect(config.path, isolation_level=None) as held:
                    before = None
                    while True:
                        async with held.execute("PRAGMA data_version") as cursor:
                            now = await cursor.fetchone()
                        if before is not None and now != before:
                            yield
                        before = now
                        await asyncio.sleep(_POLL_S)
            except (aiosqlite.Error, OSError):
                await asyncio.sleep(1.0)

    async def notify(_connection: AsyncConnection) -> None:
        """Watchers poll."""

    return SqlRevisionStore(engine, watch, notify)


ADAPTER: Adapter[RevisionStore, Config] = Adapter(config=Config, build=_build)
