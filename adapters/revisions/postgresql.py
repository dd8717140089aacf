"""Revisions in PostgreSQL, shared by replicas: a commit by one is noticed by all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.spec import Adapter
from adapters.sql.connections import CONNECT_TIMEOUT_S, postgresql_engine, postgresql_url
from adapters.sql.store import SqlRevisionStore
from authz.revisions import RevisionStore

__all__ = ["ADAPTER", "Config"]

_CHANNEL = "meshwarden_revision"
# A notification can be lost with a connection that died silently: look without one too.
_SLOW_POLL_S = 2.0
_ANSWER_S = 1.0
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the PostgreSQL store.

    Attributes:
        url: As "postgresql://USER@HOST:PORT/DATABASE"; a password is better kept in a passfile.
    """

    url: str = "postgresql://localhost/meshwarden"


def _build(config: Config) -> RevisionStore:
    url = postgresql_url(config.url)
    engine = postgresql_engine(url)

    async def watch() -> AsyncIterator[None]:
        import psycopg  # noqa: PLC0415 - only who watches needs it

        from adapters.sql.patience import AsyncConnection as Patient  # noqa: PLC0415 - likewise

        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            yield  # At the start, and after each lost connection: what was missed is found.
            try:
                async with await Patient.connect(
                    plain, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
                ) as connection:
                    async with asyncio.timeout(_ANSWER_S):
                        await connection.execute(f"LISTEN {_CHANNEL}")
                    yield  # What came between the look above and LISTEN.
                    while True:
                        async for _ in connection.notifies(timeout=_SLOW_POLL_S, stop_after=1):
                            pass
                        # A silent connection is asked, so that a dead one is noticed.
                        async with asyncio.timeout(_ANSWER_S):
                            await connection.execute("SELECT 1")
                        yield
            except (psycopg.Error, OSError, TimeoutError):
                await engine.dispose()  # Whoever looks next must not try the others one by one.
                with contextlib.suppress(TimeoutError):
                    await asyncio.sleep(_RETRY_S)

    async def notify(connection: AsyncConnection) -> None:
        await connection.execute(text(f"NOTIFY {_CHANNEL}"))

    return SqlRevisionStore(engine, watch, notify)


ADAPTER: Adapter[RevisionStore, Config] = Adapter(config=Config, build=_build)
