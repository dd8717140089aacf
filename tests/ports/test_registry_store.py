"""The registry keeps the same promises on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.identity.database import open_database
from adapters.identity.entries import SqlRegistryStore
from adapters.identity.registry_rows import agent_columns
from adapters.sql.registry_tables import AGENT as AGENTS
from ca.attestation import AttestationError
from ca.entries import Entry, WorkloadEntry
from ca.errors import IdentityStoreError
from ca.registry import (
    AgentRecord,
    Audit,
    BannedAgentError,
    Changes,
    DuplicateEntryError,
    JoinToken,
    NoSuchAgentError,
    NoSuchEntryError,
    NoSuchTokenError,
    NotBannedError,
    TokenRefusal,
)
from ca.selectors import Selector
from deploy.demo.processes import free_ports
from tests.servers.migrations import up_to
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

Result = TypeVar("Result")
New = Callable[[], SqlRegistryStore]
HOUR_NS = 3600 * 1_000_000_000
AGENT = "spiffe://td/meshwarden/agent/join_token/a"
DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture(params=DATABASES)
def new(request: pytest.FixtureRequest, tmp_path: Path) -> New:
    """Make another store on the same, empty database, as another replica would."""
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("server").url
        run(_emptied(url))
    return lambda: SqlRegistryStore(open_database(url, tmp_path / "store.db", "registry_test"))


async def _emptied(url: str) -> None:
    database = open_database(url, Path("none"), "registry_test")
    async with database._transactions._engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await database.close()


def run(story: Awaitable[Result]) -> Result:
    """Run one story on a loop of its own."""

    async def within_time() -> Result:
        async with asyncio.timeout(30):
            return await story

    return asyncio.run(within_time())


def audit(action: str = "entry.put", time_ns: int = 7) -> Audit:
    """What the trail says."""
    return Audit(time_ns, "local:ann", "local", action, "done")


def entry(number: int, **changes: object) -> Entry:
    """One of many."""
    workload = WorkloadEntry(
        f"e{number}", f"spiffe://td/w{number}", (Selector("unix", f"uid:{number}"),), 60, 30,
        ("a.b",), "hint",
    )  # fmt: skip
    return Entry(replace(workload, **changes), AGENT)  # type: ignore[arg-type]


def agent(**changes: object) -> AgentRecord:
    """An attested one."""
    made = AgentRecord(
        AGENT, "join_token", frozenset({Selector("rack", "a1")}), 7, HOUR_NS, "ab", b"c" * 32
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def token(**changes: object) -> JoinToken:
    """A fresh one."""
    made = JoinToken("t1", b"s" * 32, AGENT, frozenset({Selector("rack", "a1")}), 1, HOUR_NS)
    return replace(made, **changes)  # type: ignore[arg-type]


async def told(store: SqlRegistryStore) -> list[tuple[str, str]]:
    """The audit trail's actions and outcomes, in order."""

    async def look(connection: AsyncConnection) -> list[tuple[str, str]]:
        rows = await connection.execute(
            text("SELECT action, outcome FROM meshwarden_audit ORDER BY id")
        )
        return [(row[0], row[1]) for row in rows]

    found = await store._database.run(look)
    await store.close()
    return found


def test_what_was_written_is_read_back_whole_by_another_replica(new: New) -> None:
    """With a version that tells it from what was there before."""

    async def story() -> None:
        one, other = new(), new()
        assert await one.changes(0) == Changes(0, whole=True)
        kept = await one.write_entries([entry(1), entry(2)], [], audit())
        assert [each.workload.version for each in kept] == [1, 1]
        await one.put_agent(agent(), audit("agent.attest"))
        found = await other.changes(0)
        assert (found.version, found.whole) == (2, True)
        assert sorted(found.entries, key=lambda each: each.workload.id) == kept
        assert found.agents == (agent(),)
        assert await other.agent(AGENT) == agent()
        assert await other.agent(AGENT + "x") is None
        await one.close()
        await other.close()

    run(story())


def test_a_reader_is_told_only_what_changed_since(new: New) -> None:
    """Added, changed, removed; and what is back is not removed."""

    async def story() -> None:
        store = new()
        await store.write_entries([entry(1), entry(2), entry(3)], [], audit())
        await store.write_entries([entry(2, hint="new"), entry(4)], ["e3"], audit())
        found = await store.changes(1)
        assert (found.version, found.whole) == (2, False)
        assert {each.workload.id: each.workload.hint for each in found.entries} == {
            "e2": "new",
            "e4": "hint",
        }
        assert found.removed_entries == ("e3",)
        await store.put_agent(agent(), audit())
        await store.remove_agent(AGENT, audit())
        assert (await store.changes(2)).removed_agents == (AGENT,)
        await store.put_agent(agent(), audit())
        found = await store.changes(2)
        assert (found.removed_agents, [each.spiffe_id for each in found.agents]) == ((), [AGENT])
        assert await store.changes(found.version) == Changes(found.version)
        await store.close()

    run(story())


def test_a_reader_that_was_away_for_too_long_reads_everything(new: New) -> None:
    """What was removed is remembered for an hour."""

    async def story() -> None:
        store = new()
        await store.write_entries([entry(1), entry(2)], [], audit(time_ns=HOUR_NS))
        await store.write_entries([], ["e1"], audit(time_ns=HOUR_NS))
        await store.write_entries([entry(3)], [], audit(time_ns=3 * HOUR_NS))
        found = await store.changes(1)
        assert found.whole
        assert sorted(each.workload.id for each in found.entries) == ["e2", "e3"]
        await store.close()

    run(story())


def test_a_change_keeps_when_an_entry_was_made(new: New) -> None:
    """And raises its version."""

    async def story() -> None:
        store = new()
        (first,) = await store.write_entries([entry(1)], [], audit(time_ns=5))
        (second,) = await store.write_entries([entry(1, hint="x")], [], audit(time_ns=9))
        assert (first.created_ns, second.created_ns) == (5, 5)
        assert second.workload.version > first.workload.version
        await store.close()

    run(story())


def test_an_entry_that_was_deleted_is_not_back_by_a_change_of_it(new: New) -> None:
    """Whoever changes it looked before it was deleted; none of his other changes is made."""

    async def story() -> None:
        one, other = new(), new()
        (kept,) = await one.write_entries([entry(1)], [], audit())
        await other.write_entries([], ["e1"], audit())
        with pytest.raises(NoSuchEntryError, match="'e1' was deleted meanwhile"):
            await one.write_entries([entry(2), kept], [], audit())
        assert (await one.changes(0)).entries == ()
        await one.close()
        await other.close()

    run(story())


def test_the_same_entry_twice_is_refused_and_told_which(new: New) -> None:
    """In one call, or beside one that is there; then nothing of the call is kept."""

    async def story() -> None:
        store = new()
        await store.write_entries([entry(1)], [], audit())
        with pytest.raises(DuplicateEntryError, match="entry e1 already"):
            await store.write_entries([entry(2), entry(1, id="e9")], [], audit())
        with pytest.raises(DuplicateEntryError, match="twice"):
            await store.write_entries([entry(3), entry(3, id="e8")], [], audit())
        with pytest.raises(NoSuchEntryError, match="e7"):
            await store.write_entries([entry(4)], ["e1", "e7"], audit())
        assert [each.workload.id for each in (await store.changes(0)).entries] == ["e1"]
        # What is removed in the same call is no duplicate any more.
        await store.write_entries([entry(1, id="e9")], ["e1"], audit())
        assert [each.workload.id for each in (await store.changes(0)).entries] == ["e9"]
        await store.close()

    run(story())
    assert run(told(new())) == [("entry.put", "done")] * 2


def test_writers_at_once_get_versions_one_after_the_other(new: New) -> None:
    """Nobody's change is lost, and a reader that follows sees them all."""

    async def story() -> None:
        stores = [new() for _ in range(4)]
        await stores[0].changes(0)
        await asyncio.gather(
            *(store.write_entries([entry(n)], [], audit()) for n, store in enumerate(stores))
        )
        found = await stores[0].changes(0)
        assert sorted(each.workload.version for each in found.entries) == [1, 2, 3, 4]
        for store in stores:
            await store.close()

    run(story())


def test_of_many_uses_of_one_token_at_once_one_gets_through(new: New) -> None:
    """Whichever replica they come to."""

    async def story() -> None:
        stores = [new() for _ in range(4)]
        await stores[0].add_token(token(), audit("token.create"))
        tries = [
            stores[n % 4].take_token(b"s" * 32, bytes([n]) * 32, HOUR_NS // 2) for n in range(12)
        ]
        results = await asyncio.gather(*tries)
        taken = [each for each in results if isinstance(each, JoinToken)]
        assert len(taken) == 1
        refused = [each for each in results if isinstance(each, TokenRefusal)]
        assert {each.reason for each in refused} == {"the join token t1 was used already"}
        (kept,) = await stores[0].tokens()
        assert kept.used_by == taken[0].used_by
        for store in stores:
            await store.close()

    run(story())


def test_a_token_is_refused_with_the_reason(new: New) -> None:
    """Unknown, expired, used; the key that used it may ask again, until it expires."""

    async def story() -> None:
        store = new()
        await store.add_token(token(), audit("token.create"))
        assert await store.take_token(b"x" * 32, b"k", 5) == TokenRefusal(
            "the join token is unknown, was revoked, or ended with its agent's eviction"
        )
        late = await store.take_token(b"s" * 32, b"k", HOUR_NS)
        assert late == TokenRefusal("the join token t1 expired 0 s ago")
        assert isinstance(await store.take_token(b"s" * 32, b"k", 5), JoinToken)
        assert isinstance(await store.take_token(b"s" * 32, b"k", 6), JoinToken)
        assert isinstance(await store.take_token(b"s" * 32, b"l", 6), TokenRefusal)
        assert isinstance(await store.take_token(b"s" * 32, b"k", HOUR_NS), TokenRefusal)
        await store.remove_token("t1", audit("token.revoke"))
        assert isinstance(await store.take_token(b"s" * 32, b"k", 7), TokenRefusal)
        with pytest.raises(NoSuchTokenError, match="t1"):
            await store.remove_token("t1", audit("token.revoke"))
        await store.close()

    run(story())


@pytest.mark.parametrize("how", ["evict", "ban"])
def test_who_loses_its_identity_loses_its_used_token_too(new: New, how: str) -> None:
    """Or the key that used it would be back at once."""

    async def story() -> None:
        store = new()
        await store.add_token(token(), audit())
        await store.take_token(b"s" * 32, b"k", 5)
        await store.put_agent(agent(), audit())
        if how == "evict":
            await store.remove_agent(AGENT, audit())
        else:
            await store.ban_agent(AGENT, banned=True, audit=audit())
        assert isinstance(await store.take_token(b"s" * 32, b"k", 6), TokenRefusal)
        await store.close()

    run(story())


def test_a_banned_agent_stays_out_until_it_is_let_back_in(new: New) -> None:
    """And none of its certificates becomes good again by that."""

    async def story() -> None:
        store = new()
        with pytest.raises(NoSuchAgentError):
            await store.ban_agent(AGENT, banned=True, audit=audit())
        await store.put_agent(agent(), audit())
        await store.ban_agent(AGENT, banned=True, audit=audit())
        for trail in (None, audit()):
            with pytest.raises(AttestationError, match="banned"):
                await store.put_agent(agent(), trail)
        await store.ban_agent(AGENT, banned=False, audit=audit())
        found = await store.agent(AGENT)
        assert found is not None
        assert (found.banned, found.certificate_sha256) == (False, b"")
        await store.put_agent(agent(), audit())
        await store.close()

    run(story())


def test_a_banned_agent_is_not_let_back_in_by_evicting_it(new: New) -> None:
    """An operator who tidies up would undo what another one did on purpose."""

    async def story() -> None:
        store = new()
        await store.put_agent(agent(), audit())
        await store.ban_agent(AGENT, banned=True, audit=audit())
        with pytest.raises(BannedAgentError, match="is banned"):
            await store.remove_agent(AGENT, audit())
        with pytest.raises(AttestationError, match="banned"):
            await store.put_agent(agent(), audit())
        await store.ban_agent(AGENT, banned=False, audit=audit())
        await store.remove_agent(AGENT, audit())
        assert await store.agent(AGENT) is None
        await store.close()

    run(story())


def test_an_agent_that_was_never_banned_loses_nothing_by_being_let_back_in(new: New) -> None:
    """A slip of an operator's must not take a healthy agent's certificates."""

    async def story() -> None:
        store = new()
        await store.put_agent(agent(), audit())
        with pytest.raises(NotBannedError, match="is not banned"):
            await store.ban_agent(AGENT, banned=False, audit=audit())
        assert await store.agent(AGENT) == agent()
        with pytest.raises(NoSuchAgentError):
            await store.ban_agent(AGENT + "x", banned=False, audit=audit())
        await store.ban_agent(AGENT, banned=True, audit=audit())
        await store.ban_agent(AGENT, banned=True, audit=audit())
        await store.close()

    run(story())


def test_a_renewal_takes_nothing_from_an_agent_that_was_attested_anew(new: New) -> None:
    """Begun before that, by a certificate that was stolen, say."""

    async def story() -> None:
        store = new()
        await store.put_agent(agent(), audit())
        anew = replace(agent(serial="cd"), attested_ns=agent().attested_ns + 1)
        await store.put_agent(anew, audit())
        with pytest.raises(NoSuchAgentError, match="attested anew"):
            await store.put_agent(agent(serial="ef"), None)
        assert await store.agent(AGENT) == anew
        await store.close()

    run(story())


def test_a_renewal_brings_no_evicted_agent_back(new: New) -> None:
    """Only an attestation makes an agent."""

    async def story() -> None:
        store = new()
        await store.put_agent(agent(), audit())
        await store.put_agent(agent(serial="cd"), None)
        await store.remove_agent(AGENT, audit())
        with pytest.raises(NoSuchAgentError, match="evicted"):
            await store.put_agent(agent(), None)
        with pytest.raises(NoSuchAgentError):
            await store.remove_agent(AGENT, audit())
        await store.close()

    run(story())


def test_who_comes_back_by_a_certificate_does_so_while_that_is_good(new: New) -> None:
    """It takes time to prove that one has its key, and an eviction in between counts."""

    async def story() -> None:
        store = new()
        good, before = agent().certificate_sha256, b"p" * 32

        async def back(certificate: bytes) -> None:
            await store.put_agent(agent(serial="cd"), audit(), by_certificate=certificate)

        await store.put_agent(agent(previous_sha256=before), audit())
        with pytest.raises(AttestationError, match="meanwhile"):
            await back(b"x" * 32)
        await back(before)
        await back(good)
        with pytest.raises(AttestationError, match="meanwhile"):
            await back(before)
        await store.remove_agent(AGENT, audit())
        with pytest.raises(AttestationError, match="evicted"):
            await back(good)
        assert await store.agent(AGENT) is None
        await store.close()

    run(story())


def test_a_certificate_of_before_its_end_was_kept_ends_with_the_newest(new: New) -> None:
    """As it did in the version before, which knew no better."""

    async def story() -> None:
        older = new()
        before = agent(previous_sha256=b"p" * 32, previous_expires_ns=HOUR_NS)
        row = {**agent_columns(before), "version": 1}
        del row["previous_expires_ns"]
        columns = ", ".join(row)
        values = ", ".join(f":{each}" for each in row)
        async with older._database._transactions._engine.begin() as connection:
            await connection.run_sync(up_to("r008"))
            insert = f"INSERT INTO meshwarden_agent ({columns}) VALUES ({values})"  # noqa: S608
            await connection.execute(text(insert), row)
        await older.close()
        store = new()
        assert await store.agent(AGENT) == before
        own = agent(previous_sha256=b"p" * 32, previous_expires_ns=5)
        await store.put_agent(own, audit())
        assert await store.agent(AGENT) == own
        await store.close()

    run(story())


def test_agents_that_expired_long_ago_are_forgotten_but_no_ban_is(new: New) -> None:
    """All of them, each told to who follows; a second replica finds none, and says nothing."""

    async def story() -> None:
        one, other = new(), new()
        for name in "xyz":
            await one.put_agent(agent(spiffe_id=AGENT + name, svid_expires_ns=5), audit())
        await one.put_agent(agent(), audit())
        await one.ban_agent(AGENT + "z", banned=True, audit=audit())
        await one.add_token(token(), audit())
        before = (await one.changes(0)).version
        trail = Audit(9, "service", "local", "agent.forget", "done", "expired")
        assert await one.forget_agents(5, trail) == ()
        assert (await one.changes(0)).version == before
        gone = [AGENT + "x", AGENT + "y"]
        found = await asyncio.gather(*(each.forget_agents(6, trail) for each in (one, other)))
        assert sorted(each for some in found for each in some) == gone
        assert await other.forget_agents(6, trail) == ()
        told = await other.changes(before)
        assert sorted(told.removed_agents) == gone
        assert {each.spiffe_id for each in (await one.changes(0)).agents} == {AGENT, AGENT + "z"}
        assert len(await one.tokens()) == 1
        with pytest.raises(AttestationError, match="banned"):
            await one.put_agent(agent(spiffe_id=AGENT + "z"), audit())
        await one.close()
        await other.close()

    run(story())
    assert [each for each in run(told(new())) if each[0] == "agent.forget"] == [
        ("agent.forget", "done")
    ]


def test_very_many_agents_are_forgotten_a_thousand_at_a_time(new: New) -> None:
    """Nobody waits for all of them."""

    async def story() -> None:
        store = new()
        await store.changes(0)

        async def fill(connection: AsyncConnection) -> None:
            row = agent_columns(agent(svid_expires_ns=5))
            rows = [{**row, "spiffe_id": f"{AGENT}{n}", "version": 1} for n in range(1_200)]
            await connection.execute(AGENTS.insert(), rows)

        await store._database.run(fill)
        counts = [len(await store.forget_agents(6, audit())) for _ in range(3)]
        assert counts == [1_000, 200, 0]
        await store.close()

    run(story())


def test_a_change_by_another_replica_is_noticed(new: New) -> None:
    """Within the promised five seconds, and by far."""

    async def story() -> None:
        one, other = new(), new()
        changes = other.watch()
        await anext(changes)
        seen = asyncio.create_task(_until(other, changes, 1))
        await asyncio.sleep(0.5)
        await one.write_entries([entry(1)], [], audit())
        async with asyncio.timeout(5):
            await seen
        await changes.aclose()
        await one.close()
        await other.close()

    run(story())


async def _until(store: SqlRegistryStore, changes: AsyncGenerator[None], version: int) -> None:
    async for _ in changes:
        if (await store.changes(0)).version >= version:
            return


def test_a_watch_is_quiet_while_nothing_of_the_registry_changes(new: New) -> None:
    """Though the database takes other writes all the time, as those of a ledger."""

    async def story() -> None:
        one, other = new(), new()
        await one.changes(0)
        changes = other.watch()
        looks = 0

        async def count() -> None:
            nonlocal looks
            async for _ in changes:
                looks += 1

        counting = asyncio.create_task(count())
        await asyncio.sleep(0.8)
        before = looks
        for _ in range(5):
            await one.record(audit())
            await asyncio.sleep(0.25)
        assert looks == before
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        await changes.aclose()
        await one.close()
        await other.close()

    run(story())


def test_a_store_that_is_not_there_is_an_error_of_its_own() -> None:
    """With what the database said, and without a statement."""

    async def story() -> None:
        url = f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/x"
        store = SqlRegistryStore(open_database(url, Path("none"), "registry_test"))
        with pytest.raises(IdentityStoreError) as caught:
            await store.changes(0)
        assert "SELECT" not in str(caught.value)
        await store.close()

    run(story())
