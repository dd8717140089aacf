"""Revisions in one SQLite file: the embedded default, for a service without replicas."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.spec import Adapter
from adapters.sql.connections import sqlite_engine
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


def _build(config: Config) -> RevisionStore:
    engine = sqlite_engine(config.path)

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
