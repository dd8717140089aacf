"""Every revision store keeps the same promises; a new adapter is picked up without an edit here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from authz.admin_tokens import ID_BYTES, SECRET_BYTES, Token, TokenLimitError, new_token
from authz.policy.rules import PolicyText, Row
from authz.replicas import Replica, ShadowCounts
from authz.revisions import (
    AuditEntry,
    ConflictError,
    Draft,
    NewerFormatError,
    NoRevisionError,
    Revision,
    RevisionStore,
    StoreUnavailableError,
)
from deploy.demo.processes import free_ports
from meshwarden import plugins
from tests.servers.migrations import up_to
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

Result = TypeVar("Result")
STORES = [
    pytest.param(
        name,
        marks=pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
        if name == "postgresql"
        else (),
    )
    for name in plugins.names("revisions")
]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture(params=STORES)
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], RevisionStore]:
    """Make another store on the same, empty database, as a second process would."""
    adapter = plugins.load("revisions", request.param)
    if request.param == "sqlite":
        config = adapter.config(path=tmp_path / "store.db")
    else:
        running: Postgresql = request.getfixturevalue("server")
        config = adapter.config(url=running.url)
        run(_emptied(adapter.build(config)))
    return lambda: adapter.build(config)


async def _emptied(store: Any) -> None:
    async with store._transactions._engine.begin() as connection:
        # Whatever a step has made, all of it.
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await store.close()


def run(story: Awaitable[Result]) -> Result:
    """Run one story on a loop of its own."""

    async def within_time() -> Result:
        async with asyncio.timeout(30):
            return await story

    return asyncio.run(within_time())


def draft(author: str = "ann", rules: int = 2) -> Draft:
    """A policy of some rules."""
    rows = tuple(Row("p", ("a", "b", str(number)), "p.csv", number) for number in range(rules))
    text = PolicyText("model", rows)
    return Draft(text, "d" * 64, author, "why", "folder", {"sub": "x"}, rules, 0)


def entry(who: str = "ann") -> AuditEntry:
    """What the audit trail says of an apply."""
    return AuditEntry(7, who, "local", "policy.apply", "done")


def test_what_was_committed_is_read_back_whole(build: Callable[[], RevisionStore]) -> None:
    """Rows, places, bindings and words survive, in another process too."""

    async def story() -> None:
        store = build()
        assert await store.head("policy") is None
        made = await store.commit("policy", 0, draft(), entry())
        await store.close()
        again = build()
        assert await again.head("policy") == made
        found, policy = await again.read("policy", 1)
        assert found == made
        assert policy == draft()
        await again.close()

    run(story())


def test_of_two_on_one_parent_the_second_is_told_of_the_first(
    build: Callable[[], RevisionStore],
) -> None:
    """Nothing of the second is kept: neither a revision nor its audit entry."""

    async def story() -> None:
        one, other = build(), build()
        await one.commit("policy", 0, draft("ann"), entry("ann"))
        with pytest.raises(ConflictError) as caught:
            await other.commit("policy", 0, draft("bob"), entry("bob"))
        assert caught.value.other.author == "ann"
        assert "ann" in str(caught.value)
        assert [each.who for each in await one.audit(9)] == ["ann"]
        await one.close()
        await other.close()

    run(story())


def test_of_ten_at_once_exactly_one_gets_through(build: Callable[[], RevisionStore]) -> None:
    """Whatever the database does with transactions, numbers have no gaps and no doubles."""

    async def story() -> None:
        stores = [build() for _ in range(10)]
        results = await asyncio.gather(
            *(store.commit("policy", 0, draft(f"a{i}"), entry()) for i, store in enumerate(stores)),
            return_exceptions=True,
        )
        made = [each for each in results if isinstance(each, Revision)]
        assert len(made) == 1
        refused = [each for each in results if not isinstance(each, Revision)]
        assert all(isinstance(each, ConflictError | StoreUnavailableError) for each in refused)
        assert len(await stores[0].history("policy", 99)) == 1
        for store in stores:
            await store.close()

    run(story())


def test_history_is_newest_first_and_pages_without_gaps(
    build: Callable[[], RevisionStore],
) -> None:
    """`before` is the number that the last page ended with."""

    async def story() -> None:
        store = build()
        for parent in range(5):
            await store.commit("policy", parent, draft(), entry())
        first = await store.history("policy", 2)
        rest = await store.history("policy", 9, before=first[-1].number)
        assert [each.number for each in (*first, *rest)] == [5, 4, 3, 2, 1]
        newer = await store.history("policy", 9, after=3)
        assert [each.number for each in newer] == [5, 4]
        await store.close()

    run(story())


def test_streams_do_not_see_each_other(build: Callable[[], RevisionStore]) -> None:
    """Who may change policy is a sequence of its own."""

    async def story() -> None:
        store = build()
        await store.commit("policy", 0, draft(), entry())
        assert await store.head("admin") is None
        with pytest.raises(NoRevisionError):
            await store.read("admin", 1)
        await store.close()

    run(story())


def test_another_process_notices_a_commit_within_a_second(
    build: Callable[[], RevisionStore],
) -> None:
    """It asks or is told, and doesn't wait for a slow poll."""

    async def story() -> None:
        writer, watcher = build(), build()
        await writer.commit("policy", 0, draft(), entry())
        changes: AsyncIterator[None] = watcher.changes()
        await anext(changes)
        waiting = asyncio.ensure_future(_until(changes, watcher, 2))
        await asyncio.sleep(0.3)
        await writer.commit("policy", 1, draft(), entry())
        async with asyncio.timeout(1):
            await waiting
        await changes.aclose()  # type: ignore[attr-defined] # it is a generator
        await writer.close()
        await watcher.close()

    run(story())


async def _until(changes: AsyncIterator[None], store: RevisionStore, number: int) -> None:
    async for _ in changes:
        head = await store.head("policy")
        if head is not None and head.number == number:
            return


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = 'x'", "DELETE FROM {}"])
@pytest.mark.parametrize(
    ("table", "column"), [("meshwarden_revision", "author"), ("meshwarden_audit", "who")]
)
def test_what_was_stored_is_never_changed(
    build: Callable[[], RevisionStore], statement: str, table: str, column: str
) -> None:
    """The database itself refuses, whoever asks."""

    async def story() -> None:
        store: Any = build()
        await store.commit("policy", 0, draft(), entry())
        with pytest.raises(DBAPIError, match="only grows"):
            async with store._transactions._engine.begin() as connection:
                await connection.execute(text(statement.format(table, column)))
        assert len(await store.audit(9)) == 1
        await store.close()

    run(story())


@pytest.mark.parametrize("table", ["meshwarden_revision", "meshwarden_audit"])
def test_what_was_stored_is_neither_replaced_nor_swept_away(
    build: Callable[[], RevisionStore], table: str
) -> None:
    """Each database has a way around triggers on UPDATE and DELETE."""

    async def story() -> None:
        store: Any = build()
        await store.commit("policy", 0, draft(), entry())
        statement = {
            "sqlite": f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",  # noqa: S608
            "postgresql": f"TRUNCATE {table}",
        }[store._transactions._engine.dialect.name]
        with pytest.raises(DBAPIError, match="only grows"):
            async with store._transactions._engine.begin() as connection:
                await connection.execute(text(statement))
        assert (await store.head("policy")).number == len(await store.audit(9)) == 1
        assert (await store.commit("policy", 1, draft(), entry())).number == 2
        await store.close()

    run(story())


def test_revisions_of_before_they_were_counted_stay_uncounted(
    build: Callable[[], RevisionStore],
) -> None:
    """Tables of the first step are brought on, and nothing in them is changed."""

    async def story() -> None:
        older: Any = build()
        insert = (
            "INSERT INTO meshwarden_revision (stream, number, parent, author, created_ns, message, "
            "digest, origin, row_count, format, body) "
            "VALUES ('policy', 1, 0, 'ann', 7, '', 'd', '', 0, 1, :body)"
        )
        async with older._transactions._engine.begin() as connection:
            await connection.run_sync(up_to("r001"))
            await connection.execute(text(insert), {"body": b""})
        await older.close()
        store = build()
        await store.commit("policy", 1, draft(rules=3), entry())
        made = await store.history("policy", 9)
        assert [(each.added, each.removed) for each in made] == [(3, 0), (None, None)]
        await store.close()

    run(story())


def test_tables_of_a_newer_program_are_left_alone(build: Callable[[], RevisionStore]) -> None:
    """An older program says so instead of guessing."""

    async def story() -> None:
        store: Any = build()
        await store.head("policy")
        async with store._transactions._engine.begin() as connection:
            await connection.execute(text("UPDATE meshwarden_schema SET version_num = 'r999'"))
        await store.close()
        older = build()
        with pytest.raises(NewerFormatError, match="r999"):
            await older.head("policy")
        await older.close()

    run(story())


def test_a_revision_of_a_newer_format_is_named(build: Callable[[], RevisionStore]) -> None:
    """The rest of the history stays readable."""

    async def story() -> None:
        store: Any = build()
        await store.commit("policy", 0, draft(), entry())
        async with store._transactions._engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO meshwarden_revision (stream, number, parent, author, "
                    "created_ns, message, digest, origin, row_count, format, body) SELECT stream, "
                    "2, 1, author, created_ns, message, digest, origin, row_count, 99, body "
                    "FROM meshwarden_revision"
                )
            )
        with pytest.raises(NewerFormatError, match="format 99"):
            await store.read("policy", 2)
        await store.read("policy", 1)
        await store.close()

    run(story())


def test_a_store_that_can_not_be_reached_is_unavailable(tmp_path: Path) -> None:
    """A clear error of ours; nothing hangs."""
    adapter = plugins.load("revisions", "sqlite")
    store = adapter.build(adapter.config(path=tmp_path / "nowhere" / "store.db"))

    async def story() -> None:
        with pytest.raises(StoreUnavailableError):
            await store.head("policy")
        await store.close()
        # The driver's thread tells the loop of its end, which must not be over by then.
        await asyncio.sleep(0.2)

    run(story())


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_a_watcher_goes_on_after_an_outage() -> None:
    """PostgreSQL killed and back: the next commit is noticed without a restart of ours."""
    adapter = plugins.load("revisions", "postgresql")
    with postgresql(free_ports(1)[0]) as running:
        store = adapter.build(adapter.config(url=running.url))

        async def story() -> None:
            await store.commit("policy", 0, draft(), entry())
            changes = store.changes()
            await anext(changes)
            await asyncio.to_thread(running.stop)
            with pytest.raises(StoreUnavailableError):
                await store.head("policy")
            await asyncio.to_thread(running.start)
            waiting = asyncio.ensure_future(_until(changes, store, 2))
            await store.commit("policy", 1, draft(), entry())
            async with asyncio.timeout(5):
                await waiting
            await changes.aclose()
            await store.close()

        run(story())


def replica(name: str, **changed: Any) -> Replica:
    """One that decides by revision 3."""
    return replace(
        Replica(name, f"{name}.example", "0.0.0.0:7000", "0.1.0", 3, "d" * 64, 5, "", 4), **changed
    )


def test_each_replica_sees_every_other_as_it_last_was(build: Callable[[], RevisionStore]) -> None:
    """A second word of one takes the place of its first; ages are the database's to tell."""

    async def story() -> None:
        one, two = build(), build()
        first = replica("a", shadow=ShadowCounts("e" * 64, 1 << 40, 2, 3))
        (alone,) = await one.replicas.beat(first, 60)
        assert replace(alone, seen_s_ago=0.0) == first
        await two.replicas.beat(replica("b"), 60)
        failing = replica("a", revision=4, error="Not \0 good: \N{SNOWMAN}" + "!" * 5000)
        found = await one.replicas.beat(failing, 60)
        assert [(each.id, each.revision) for each in found] == [("a", 4), ("b", 3)]
        assert found[0].error.startswith("Not  good: \N{SNOWMAN}!")
        assert all(0 <= each.seen_s_ago < 20 for each in found)
        await one.close()
        await two.close()

    run(story())


def test_a_replica_that_left_or_fell_silent_is_forgotten(
    build: Callable[[], RevisionStore],
) -> None:
    """One that is back is there again."""

    async def story() -> None:
        store = build()
        for name in "abc":
            await store.replicas.beat(replica(name), 60)
        await store.replicas.leave("b")
        await store.replicas.leave("nobody")
        await asyncio.sleep(0.05)
        assert [each.id for each in await store.replicas.beat(replica("a"), 60)] == ["a", "c"]
        assert [each.id for each in await store.replicas.beat(replica("a"), 0.02)] == ["a"]
        assert [each.id for each in await store.replicas.beat(replica("b"), 60)] == ["a", "b"]
        await store.close()

    run(story())


def token(number: int, *, expires_ns: int = 1000, created_ns: int = 10) -> Token:
    """A token of which nobody knows the secret."""
    made = new_token(number.to_bytes(ID_BYTES + SECRET_BYTES, "little"))
    return Token(made.id, f"ci-{number}", made.digest, created_ns, "local:ann", expires_ns)


def test_a_token_is_kept_until_it_is_forgotten(build: Callable[[], RevisionStore]) -> None:
    """Every replica reads it; revoked and used are times that only others' later ones change."""

    async def story() -> None:
        store, other = build(), build()
        await store.tokens.add(token(1), entry(), 0)
        await other.tokens.add(token(2, created_ns=11), entry(), 0)
        assert list(await store.tokens.all()) == [token(2, created_ns=11), token(1)]
        await store.tokens.used({token(1).id: 50, "no such": 60})
        await other.tokens.used({token(1).id: 40})
        await store.tokens.revoke([token(1).id], AuditEntry(70, "ann", "local", "x", "done"))
        await other.tokens.revoke([token(1).id], AuditEntry(80, "bob", "local", "x", "done"))
        assert list(await other.tokens.all())[1] == replace(token(1), used_ns=50, revoked_ns=70)
        assert [each.who for each in await store.audit(9)] == ["bob", "ann", "ann", "ann"]
        # What ended before some time is forgotten with the next one.
        await store.tokens.add(token(3, created_ns=90), entry(), 75)
        assert [each.name for each in await store.tokens.all()] == ["ci-3", "ci-2"]
        await store.close()
        await other.close()

    run(story())


def test_a_token_and_its_audit_entry_come_together_or_not_at_all(
    build: Callable[[], RevisionStore],
) -> None:
    """One that is there already is refused, and leaves no word that it was made."""

    async def story() -> None:
        store = build()
        await store.tokens.add(token(1), entry(), 0)
        with pytest.raises(Exception):  # noqa: B017, PT011 - the database's own
            await store.tokens.add(token(1), entry(), 0)
        assert len(await store.audit(9)) == 1
        await store.close()

    run(story())


def test_there_is_an_end_to_live_tokens(
    build: Callable[[], RevisionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replica has all of them in memory; ended ones don't count."""
    monkeypatch.setattr("adapters.sql.tokens._MAX_LIVE", 2)

    async def story() -> None:
        store = build()
        await store.tokens.add(token(1, expires_ns=15), entry(), 0)
        await store.tokens.add(token(2), entry(), 0)
        await store.tokens.add(token(3, created_ns=20), entry(), 0)
        with pytest.raises(TokenLimitError):
            await store.tokens.add(token(4, created_ns=20), entry(), 0)
        assert len(await store.audit(9)) == 3
        await store.close()

    run(story())


def test_text_that_the_database_can_not_hold_is_kept_as_far_as_it_goes(
    build: Callable[[], RevisionStore],
) -> None:
    """What was refused must be on record, whatever its caller called himself."""

    async def story() -> None:
        store = build()
        await store.record(entry("a\0b"))
        assert [each.who for each in await store.audit(9)] == ["a\N{REPLACEMENT CHARACTER}b"]
        await store.close()

    run(story())
