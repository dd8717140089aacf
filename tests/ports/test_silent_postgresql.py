"""A PostgreSQL that takes what it is sent and says nothing: who waits for it is told in time."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.decisions import postgresql as decisions
from adapters.identity.database import open_database
from adapters.identity.ledger import SqlIssuanceLog, open_ledger
from adapters.sql.registry_tables import REMOVED
from adapters.sql.tables import REVISION
from adapters.sql.threaded import open_threaded
from authz.revisions import RevisionStore, StoreUnavailableError
from ca.errors import IdentityStoreError
from ca.ledger import Entry, Event
from deploy.demo.processes import free_ports
from meshwarden import plugins
from tests.servers.partition import Partition
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

pytestmark = pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
LOOK_S = 2.0
SPREAD_S = 5.0
STATEMENT_S = 6.0
# For a machine that does other things too.
MARGIN_S = 1.0
SERIALS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture
def partition(server: Postgresql) -> Iterator[Partition]:
    """What stands between it and us."""
    with Partition(server.port) as running:
        yield running


@pytest.fixture
def url(server: Postgresql, partition: Partition) -> str:
    """How to connect through that."""
    return server.url.replace(f":{server.port}/", f":{partition.port}/")


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[RevisionStore]:
    """Open a store, connected."""
    adapter = plugins.load("revisions", "postgresql")
    store: RevisionStore = adapter.build(adapter.config(url=url))
    try:
        await store.head("policy")
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def ledger_at(url: str) -> AsyncIterator[SqlIssuanceLog]:
    """Open a ledger, connected."""
    ledger = open_ledger(url, Path())
    try:
        await append(ledger)
        yield ledger
    finally:
        await ledger.close()


async def append(ledger: SqlIssuanceLog) -> int:
    """Put one row on it; give its number."""
    entry = Entry(Event.INTENDED, "x509", "spiffe://mesh.example/a", serial=f"{next(SERIALS)}")
    return (await ledger.append([entry], 7, Ed25519PrivateKey.generate()))[-1].number


async def took_s(waiting: Awaitable[Any], error: type[Exception]) -> float:
    """Tell how long it is until something fails."""
    begun_s = time.monotonic()
    with pytest.raises(error, match=r"the store"):
        await waiting
    return time.monotonic() - begun_s


def test_a_look_ends_soon_and_leaves_nothing_behind(url: str, partition: Partition) -> None:
    """Whatever waited beside it is forgotten too, so that the next connection is a new one."""

    async def story() -> None:
        async with store_at(url) as store:
            await asyncio.gather(*(store.head("policy") for _ in range(4)))
            before = asyncio.all_tasks()
            partition.begin()
            assert await took_s(store.head("policy"), StoreUnavailableError) < LOOK_S + 2 * MARGIN_S
            assert asyncio.all_tasks() == before
            partition.end()
            begun_s = time.monotonic()
            await store.head("policy")
            assert time.monotonic() - begun_s < MARGIN_S

    asyncio.run(story())


def test_a_slow_server_is_told_that_nobody_waits_any_more(server: Postgresql) -> None:
    """Else those who give up and come again would take all of its connections."""

    async def story() -> None:
        async with (
            store_at(server.url) as store,
            await psycopg.AsyncConnection.connect(server.url) as other,
        ):
            await other.execute(f"LOCK TABLE {REVISION.name}")
            for _ in range(2):
                spent_s = await took_s(store.head("policy"), StoreUnavailableError)
                assert LOOK_S <= spent_s < LOOK_S + 2 * MARGIN_S
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert await (await other.execute(waiting)).fetchone() == (0,)

    asyncio.run(story())


def changes_of_revisions(url: str) -> AsyncGenerator[None]:
    """Watch revisions."""
    adapter = plugins.load("revisions", "postgresql")
    changes: AsyncGenerator[None] = adapter.build(adapter.config(url=url)).changes()
    return changes


def changes_of_identities(url: str) -> AsyncGenerator[None]:
    """Watch what identities are issued by."""
    return open_database(url, Path(), "meshwarden_test").watch("SELECT 1")


@pytest.mark.parametrize("watch", [changes_of_revisions, changes_of_identities])
def test_a_watcher_that_is_cut_off_as_it_begins_looks_again_soon(
    watch: Callable[[str], AsyncGenerator[None]], url: str, partition: Partition
) -> None:
    """Its first words are lost like any others."""

    async def story() -> None:
        partition.begin_at(b"LISTEN")
        async with contextlib.aclosing(watch(url)) as changes:
            while not partition.is_cut:
                looking = asyncio.ensure_future(anext(changes))
                while not (looking.done() or partition.is_cut):
                    await asyncio.sleep(0.01)
            partition.end()
            async with asyncio.timeout(SPREAD_S + MARGIN_S):
                await looking

    asyncio.run(story())


def test_a_ledger_ends_its_wait_and_goes_on_when_the_server_is_back(
    url: str, partition: Partition
) -> None:
    """Its one thread is not held for ever."""

    async def story() -> None:
        async with ledger_at(url) as ledger:
            partition.begin()
            spent_s = await took_s(append(ledger), IdentityStoreError)
            assert spent_s < STATEMENT_S + 3 + 2 * MARGIN_S
            partition.end()
            await append(ledger)

    asyncio.run(story())


def test_who_goes_silent_within_a_transaction_holds_nobody_up_for_long(
    server: Postgresql, url: str, partition: Partition
) -> None:
    """All replicas write to one ledger, one after the other."""

    async def story() -> None:
        database = open_threaded(url, Path())
        async with ledger_at(server.url) as other:

            def goes_silent(cursor: Any) -> None:
                partition.begin()
                cursor.execute("SELECT 1")

            lost = database.write_by_driver(SqlIssuanceLog(database)._begin, goes_silent)
            losing = asyncio.create_task(lost)
            while not partition.is_cut:
                await asyncio.sleep(0.01)
            await append(other)
            with pytest.raises(IdentityStoreError):
                await losing
        await database.close()

    asyncio.run(story())


def test_who_goes_silent_with_a_lock_of_the_authorities_keeps_it_for_seconds(
    server: Postgresql, url: str, partition: Partition
) -> None:
    """Else no other replica could start, change an entry or attest a node until it is back."""

    async def story() -> None:
        lost = open_database(url, Path(), "meshwarden_test")
        other = open_database(server.url, Path(), "meshwarden_test")

        async def locks(connection: AsyncConnection) -> None:
            await connection.execute(text("SELECT pg_advisory_xact_lock(7)"))

        async def goes_silent(connection: AsyncConnection) -> None:
            await locks(connection)
            # Of several rows: the driver sends them in a way of its own.
            rows = [{"kind": "entry", "id": each, "version": 1, "removed_ns": 1} for each in "ab"]
            await connection.execute(REMOVED.insert(), rows)
            partition.begin()
            await connection.execute(text("SELECT 1"))

        await other.run(locks)
        losing = asyncio.create_task(lost.run(goes_silent))
        while not partition.is_cut:
            await asyncio.sleep(0.01)
        await other.run(locks)
        assert not losing.done(), "nobody has told the server that it is given up"
        with pytest.raises(IdentityStoreError):
            await losing
        await lost.close()
        await other.close()

    asyncio.run(story())


def test_what_the_url_says_of_a_session_stays_in_force(server: Postgresql) -> None:
    """A schema of its own, say: all tables are in it, those of the ledger too."""

    async def story() -> None:
        async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as owner:
            await owner.execute("CREATE SCHEMA IF NOT EXISTS mesh")
        own = f"{server.url}?options=-csearch_path%3Dmesh"

        async def settings(connection: AsyncConnection) -> list[str]:
            names = ("search_path", "statement_timeout", "idle_in_transaction_session_timeout")
            return [(await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in names]

        database, threaded = open_database(own, Path(), "c"), open_threaded(own, Path())
        assert await database.run(settings) == ["mesh", "10s", "5s"]
        found = await threaded.read(
            lambda each: each.execute(text("SHOW search_path")).scalar_one()
        )
        assert found == "mesh"
        with decisions._connected(decisions.Config(url=own)) as connection:
            assert connection.execute("SHOW search_path").fetchone() == ("mesh",)
        await database.close()
        await threaded.close()

    asyncio.run(story())
