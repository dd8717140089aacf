"""Many who write to one SQLite file at once: they wait for each other, and none of them fails."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.identity.entries import open_registry
from adapters.identity.ledger import open_ledger
from adapters.revisions.sqlite import ADAPTER, Config
from adapters.sql import connections
from adapters.sql.turns import Turns, turns_of
from ca.errors import IdentityStoreError
from ca.ledger import Entry as Row
from ca.ledger import Event
from ca.registry import AgentRecord, Audit, JoinToken, RegistryStore

AUDIT = Audit(7, "local:ann", "local", "agent.attest", "done")
BUSY_MS = 20
WRITERS = 60
HOUR_NS = 3600 * 1_000_000_000
KEY = Ed25519PrivateKey.generate()


def run(story: Awaitable[None]) -> None:
    """Run one story on a loop of its own."""

    async def within_time() -> None:
        async with asyncio.timeout(30):
            await story

    asyncio.run(within_time())


def agent(number: int) -> AgentRecord:
    """One of many."""
    name = f"spiffe://td/meshwarden/agent/join_token/{number}"
    return AgentRecord(name, "join_token", frozenset(), 7, HOUR_NS, "ab", b"c" * 32)


async def attested(store: RegistryStore, number: int) -> None:
    """Do what an attestation by join token does."""
    secret = number.to_bytes(32, "big")
    name = agent(number).spiffe_id
    await store.add_token(JoinToken(f"t{number}", secret, name, frozenset(), 1, HOUR_NS), AUDIT)
    assert isinstance(await store.take_token(secret, b"k", 5), JoinToken)
    assert await store.agent(name) is None
    await store.put_agent(agent(number), AUDIT)


@asynccontextmanager
async def locked(file: Path) -> AsyncIterator[None]:
    """Have another process hold the write lock."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_none_of_a_crowd_finds_the_database_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However soon SQLite itself gives up; two stores and the ledger's thread write to one file."""
    monkeypatch.setattr(connections, "_BUSY_MS", BUSY_MS)
    file = tmp_path / "store.db"

    async def story() -> None:
        stores, ledger = [open_registry("", file) for _ in range(2)], open_ledger("", file)
        crowd = asyncio.gather(*(attested(stores[n % 2], n) for n in range(WRITERS)))
        groups = 0
        while not crowd.done():
            row = Row(Event.INTENDED, kind="x509", spiffe_id="spiffe://td/w", serial=f"{groups:x}")
            await ledger.append([row], 7, KEY)
            groups += 1
        await crowd
        assert groups > WRITERS / 2, "the ledger waits for one writer, not for all"
        assert len((await stores[0].changes(0)).agents) == WRITERS
        assert (await ledger.head()).number == groups
        for each in stores:
            await each.close()
        await ledger.close()

    run(story())


def test_who_reads_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for another process that writes, either."""
    monkeypatch.setattr(connections, "_BUSY_MS", BUSY_MS)
    file = tmp_path / "store.db"

    async def story() -> None:
        store, revisions = open_registry("", file), ADAPTER.build(Config(file))
        await store.put_agent(agent(1), AUDIT)
        await revisions.head("policy")  # Whoever comes first may have tables to make.
        async with locked(file):
            assert await store.agent(agent(1).spiffe_id) == agent(1)
            assert (await store.changes(0)).agents == (agent(1),)
            assert await store.tokens() == []
            assert await revisions.head("policy") is None
            assert await revisions.tokens.all() == []
            with pytest.raises(IdentityStoreError, match="locked"):
                await store.put_agent(agent(2), AUDIT)
        await store.put_agent(agent(2), AUDIT)
        await store.close()
        await revisions.close()

    run(story())


def test_who_has_waited_long_enough_is_told_so() -> None:
    """UNAVAILABLE, with how many wait; the others keep their places."""

    async def story() -> None:
        turns = Turns()
        done = []

        async def write(name: int, limit_s: float) -> None:
            async with turns.taken(limit_s, IdentityStoreError):
                done.append(name)

        async with turns.taken(1, IdentityStoreError):
            patient = [asyncio.create_task(write(n, 10)) for n in (1, 2)]
            started_s = time.monotonic()
            with pytest.raises(IdentityStoreError, match=r"no turn to write in 0.05 s, and 2 oth"):
                await write(3, 0.05)
            assert time.monotonic() - started_s < 5
            assert done == []
        await asyncio.gather(*patient)
        assert done == [1, 2]
        async with turns.taken(0.05, IdentityStoreError):
            """It is nobody's again."""

    run(story())


def test_turns_come_in_order_but_for_who_is_urgent() -> None:
    """And who goes away takes nobody's turn with him, not even in the moment in which it comes."""

    async def story() -> None:
        turns = Turns()
        done: list[str] = []

        async def write(name: str, *, is_urgent: bool = False) -> None:
            async with turns.taken(10, IdentityStoreError, is_urgent=is_urgent):
                done.append(name)
                await asyncio.sleep(0)

        async with turns.taken(10, IdentityStoreError):
            tasks = {name: asyncio.create_task(write(name)) for name in "abcd"}
            await asyncio.sleep(0)
            tasks["u"] = asyncio.create_task(write("u", is_urgent=True))
            await asyncio.sleep(0)
            tasks["b"].cancel()
            await asyncio.sleep(0)
        # The first has its turn, and hasn't heard of it yet.
        tasks["u"].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert done == ["a", "c", "d"]
        assert tasks["u"].cancelled()
        async with turns.taken(10, IdentityStoreError):
            last = [asyncio.create_task(write("e"))]
            await asyncio.sleep(0)
            last.append(asyncio.create_task(write("v", is_urgent=True)))
            await asyncio.sleep(0)
        await asyncio.gather(*last)
        assert done[3:] == ["v", "e"]

    run(story())


def test_one_file_by_two_names_has_one_line(tmp_path: Path) -> None:
    """And a loop that has ended leaves nobody waiting in it."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "store.db")

    async def lines() -> set[int]:
        files = [
            connections.sqlite_file(connections.sqlite_engine(each).sync_engine) for each in names
        ]
        return {id(turns_of(each)) for each in files if each}

    names = [tmp_path / "store.db", link]
    assert len(asyncio.run(lines())) == 1

    async def story(serial: str) -> None:
        store = open_registry("", link)
        await asyncio.gather(
            *(store.put_agent(replace(agent(n), serial=serial), AUDIT) for n in range(8))
        )
        await store.close()

    run(story("ab"))
    run(story("cd"))
