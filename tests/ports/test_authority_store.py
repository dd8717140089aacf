"""Authorities and the ledger in every database: the same promises, and one authority for all."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from adapters.identity.authorities import SqlAuthorityStore
from adapters.identity.database import open_database
from adapters.identity.ledger import SqlIssuanceLog, open_ledger
from adapters.keepers.sealed import Config, SealedKeeper
from adapters.sql.authority_tables import LEDGER
from adapters.sql.threaded import ThreadedDatabase
from ca.authority import Authorities, Kind, Plan, first_plan
from ca.errors import (
    ConflictingAuthorityError,
    DamagedError,
    IdentityError,
    IdentityStoreError,
    UnwritableError,
)
from ca.ledger import Entry, Event, Head, Verifier
from deploy.demo.processes import free_ports
from tests.servers.partition import Partition
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

Result = TypeVar("Result")
DOMAIN = "mesh.example"
KEY = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Place:
    """One empty database."""

    url: str
    file: Path

    def store(self) -> tuple[SqlAuthorityStore, Callable[[], Awaitable[None]]]:
        """Open the authorities, as one more process would."""
        database = open_database(self.url, self.file, "meshwarden_authority")
        return SqlAuthorityStore(database), database.close

    def ledger(self) -> SqlIssuanceLog:
        """Open the ledger, as one more process would."""
        return open_ledger(self.url, self.file)

    def do(self, *statements: str) -> None:
        """Change the database behind our back."""
        url = make_url(self.url).set(drivername="postgresql+psycopg") if self.url else None
        engine = create_engine(url or f"sqlite:///{self.file}")
        try:
            with engine.begin() as connection:
                for statement in statements:
                    connection.execute(text(statement))
        finally:
            engine.dispose()

    def unguard(self) -> None:
        """Take the triggers away, as who owns the database can."""
        if self.url:
            self.do("DROP TRIGGER meshwarden_ledger_only_grows ON meshwarden_ledger")
        else:
            self.do(
                "DROP TRIGGER meshwarden_ledger_no_update",
                "DROP TRIGGER meshwarden_ledger_no_delete",
            )


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql", marks=pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
        ),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One empty database of each kind."""
    if request.param == "sqlite":
        return Place("", tmp_path / "store.db")
    running: Postgresql = request.getfixturevalue("server")
    found = Place(running.url, tmp_path)
    found.do("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return found


def run(story: Awaitable[Result]) -> Result:
    """Run one story on a loop of its own."""

    async def within_time() -> Result:
        async with asyncio.timeout(60):
            return await story

    return asyncio.run(within_time())


def plan(folder: Path) -> Callable[[Authorities], object]:
    """What a start does."""
    keeper = SealedKeeper(Config(key_file=folder / "keys" / "sealing.key"))
    return lambda there: first_plan(Plan(DOMAIN), there, keeper, 1_800_000_000 * 10**9, os.urandom)


def test_of_many_that_start_at_once_one_makes_the_authority(place: Place, tmp_path: Path) -> None:
    """Every replica ends with the same root, intermediate and keys."""

    async def story() -> None:
        opened = [place.store() for _ in range(6)]
        found = await asyncio.gather(
            *(store.change(DOMAIN, plan(tmp_path)) for store, _ in opened)  # type: ignore[arg-type]
        )
        assert len({tuple(each.authority_id for each in one.all) for one in found}) == 1
        assert [each.kind.value for each in found[0].all] == [
            "root", "intermediate", "jwt", "ledger",
        ]  # fmt: skip
        assert {each.sequence for each in found} == {1}
        for _, close in opened:
            await close()

    run(story())


def test_what_was_made_is_read_back_whole(place: Place, tmp_path: Path) -> None:
    """Certificates, handles and all, by another process."""

    async def story() -> None:
        store, close = place.store()
        made = await store.change(DOMAIN, plan(tmp_path))  # type: ignore[arg-type]
        await close()
        again, close = place.store()
        assert await again.read(DOMAIN) == made
        assert await again.change(DOMAIN, plan(tmp_path)) == made  # type: ignore[arg-type]
        await close()

    run(story())


def test_a_plan_that_fails_leaves_nothing(place: Place) -> None:
    """All of a first start, or none of it."""

    def broken(_there: Authorities) -> list[object]:
        raise ConflictingAuthorityError("no")

    async def story() -> None:
        store, close = place.store()
        with pytest.raises(ConflictingAuthorityError):
            await store.change(DOMAIN, broken)  # type: ignore[arg-type]
        assert await store.read(DOMAIN) == Authorities(DOMAIN)
        await close()

    run(story())


def test_another_trust_domain_is_refused_by_its_setting(place: Place, tmp_path: Path) -> None:
    """A typing error must not make a second authority beside the first."""

    async def story() -> None:
        store, close = place.store()
        await store.change(DOMAIN, plan(tmp_path))  # type: ignore[arg-type]
        with pytest.raises(ConflictingAuthorityError, match=r"identity\.trust_domain is 'other'"):
            await store.read("other")
        with pytest.raises(ConflictingAuthorityError):
            await store.change("other", plan(tmp_path))  # type: ignore[arg-type]
        await close()

    run(story())


def test_a_change_reaches_another_process_within_seconds(place: Place, tmp_path: Path) -> None:
    """A replica follows what another one takes."""

    async def story() -> None:
        (writer, close), (watcher, close_too) = place.store(), place.store()
        made = await writer.change(DOMAIN, plan(tmp_path))  # type: ignore[arg-type]
        changes = watcher.changes()
        await anext(changes)
        seen = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.5)
        await writer.change(DOMAIN, lambda _: [made.all[0]])
        async with asyncio.timeout(5):
            while (await watcher.read(DOMAIN)).sequence != 2 or not seen.done():
                await asyncio.sleep(0.05)
        await changes.aclose()  # type: ignore[attr-defined] # it is a generator
        await close()
        await close_too()

    run(story())


def entry(number: int) -> Entry:
    """An intent like any other."""
    return Entry(
        Event.INTENDED, "x509", f"spiffe://mesh.example/w{number % 3}", f"{number:032x}", 9, "a",
        "spiffe://mesh.example/agent", ("unix:uid:1", 'odd"text'), "web.example",
    )  # fmt: skip


async def report(ledger: SqlIssuanceLog, known: tuple[Head, ...] = ()) -> str:
    """Read all of it; give the fault."""
    verifier, after = Verifier([KEY.public_key()], known), 0
    while rows := await ledger.read(after, 7):
        verifier.take(rows)
        after = rows[-1].number
    return verifier.report().fault


def test_rows_are_one_chain_whoever_writes(place: Place) -> None:
    """Replicas take turns; no row is lost, doubled or forked."""

    async def story() -> None:
        ledgers = [place.ledger() for _ in range(4)]
        written = await asyncio.gather(
            *(
                ledgers[index % 4].append([entry(3 * index + each) for each in range(3)], 5, KEY)
                for index in range(20)
            )
        )
        numbers = sorted(row.number for rows in written for row in rows)
        assert numbers == list(range(1, 61))
        assert not await report(ledgers[0])
        assert (await ledgers[1].head()).number == 60
        for each in ledgers:
            await each.close()

    run(story())


def test_what_was_written_is_read_back_whole(place: Place) -> None:
    """Selectors, odd text and hashes."""

    async def story() -> None:
        ledger = place.ledger()
        written = await ledger.append([entry(1), entry(2)], 5, KEY)
        assert list(await ledger.read(0, 99)) == list(written)
        assert not await ledger.read(2, 99)
        assert (await ledger.head()).hash == written[-1].hash
        await ledger.close()

    run(story())


def test_a_serial_is_taken_once(place: Place) -> None:
    """The database itself refuses the second, and all that was to be written with it."""

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(1)], 5, KEY)
        with pytest.raises(UnwritableError):
            await ledger.append([entry(2), entry(1)], 5, KEY)
        await ledger.append([entry(2)], 5, KEY)
        assert [row.number for row in await ledger.read(0, 9)] == [1, 2]
        await ledger.close()

    run(story())


@pytest.mark.parametrize(
    "changes",
    [{"not_after_ns": 1 << 63}, {"detail": "\ud800"}, {"detail": "\0", "serial": f"{1:032x}"}],
)
def test_a_row_that_no_database_takes_is_told_from_a_database_that_is_away(
    place: Place, changes: dict[str, Any]
) -> None:
    """It is no use to try it again, and the next write is none the worse."""

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(1)], 5, KEY)
        with pytest.raises(UnwritableError, match="the store"):
            await ledger.append([entry(2), replace(entry(3), **changes), entry(4)], 5, KEY)
        await ledger.append([entry(2)], 5, KEY)
        assert [row.entry for row in await ledger.read(0, 9)] == [entry(1), entry(2)]
        assert not await report(ledger)
        await ledger.close()

    run(story())


def test_a_full_disk_fails_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    """What was acknowledged stays, and writing goes on as soon as there is room."""
    place = Place("", tmp_path / "store.db")

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(1)], 5, KEY)
        await limit_pages(ledger._database, extra=2)
        taken = 1
        full: IdentityError | None = None
        while full is None and taken < 999:
            try:
                await ledger.append([entry(taken + 1)], 5, KEY)
                taken += 1
            except IdentityError as error:
                full = error
        assert isinstance(full, IdentityStoreError), "it may be tried again"
        assert "full" in str(full)
        assert taken > 1
        assert [row.number for row in await ledger.read(0, 999)] == list(range(1, taken + 1))
        # The limit went with its connection, and so did its lock: though we still have the error,
        # and with that whatever was at hand where it was raised.
        await ledger.append([entry(taken + 1)], 5, KEY)
        assert full.__traceback__ is not None
        assert not await report(ledger)
        await ledger.close()

    run(story())


async def limit_pages(database: ThreadedDatabase, extra: int) -> None:
    """Let the connection that writes have so many pages more: for SQLite that is a full disk."""

    def limit(cursor: Any) -> None:
        (pages,) = cursor.execute("PRAGMA page_count").fetchone()
        cursor.execute(f"PRAGMA max_page_count = {pages + extra}")

    await database.write_by_driver(lambda cursor: cursor.execute("BEGIN IMMEDIATE"), limit)


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_a_commit_whose_fate_is_unknown_issues_nothing_and_doubles_nothing(
    server: Postgresql, tmp_path: Path
) -> None:
    """The answer is lost, whether the rows are there or not: nobody may sign for them."""

    async def story(*, reached: bool) -> None:
        with Partition(server.port) as partition:
            url = server.url.replace(f":{server.port}/", f":{partition.port}/")
            ledger = Place(url, tmp_path).ledger()
            await ledger.append([entry(1)], 5, KEY)
            if reached:
                partition.begin_after(b"COMMIT")
            else:
                partition.begin_at(b"COMMIT")
            with pytest.raises(IdentityStoreError):
                await ledger.append([entry(2)], 5, KEY)
            partition.end()
            there = [1, 2] if reached else [1]
            await ledger.append([entry(3)], 5, KEY)
            rows = await ledger.read(0, 9)
            assert [row.entry for row in rows] == [*map(entry, there), entry(3)]
            assert not await report(ledger)
            if reached:
                (found,) = await ledger.find("", entry(2).serial, 9)
                assert found.outcome is Event.INTENDED, "it says what is known"
            await ledger.close()

    for reached in (False, True):
        Place(server.url, tmp_path).do("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        run(story(reached=reached))


def test_refusals_are_found_without_reading_what_was_issued(tmp_path: Path) -> None:
    """A ledger has millions of rows, and few of them are refusals."""
    place = Place("", tmp_path / "store.db")

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(1)], 5, KEY)
        await ledger.close()

    run(story())
    engine = create_engine(f"sqlite:///{place.file}")
    with engine.begin() as connection:
        asked = "EXPLAIN QUERY PLAN SELECT * FROM meshwarden_ledger WHERE event = :event"
        wanted = text(f"{asked} ORDER BY number DESC LIMIT 9")
        plans = {
            event: [row.detail for row in connection.execute(wanted, {"event": event})]
            for event in ("refused", "intended")
        }
    engine.dispose()
    assert plans["refused"] == ["SCAN meshwarden_ledger USING INDEX meshwarden_ledger_refused"]
    assert "refused" not in plans["intended"][0]


def test_what_became_of_an_intent_is_found_by_id_and_serial(place: Place) -> None:
    """An intent without an outcome stays one: it may have been handed out."""

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(index) for index in range(6)], 5, KEY)
        await ledger.append([Entry(Event.ISSUED, first=1, last=4)], 5, KEY)
        await ledger.append([Entry(Event.WITHHELD, first=6, last=6, detail="why")], 5, KEY)
        found = await ledger.find("", "", 9)
        assert [(each.row.number, each.outcome) for each in found] == [
            (6, Event.WITHHELD), (5, Event.INTENDED), *((n, Event.ISSUED) for n in (4, 3, 2, 1)),
        ]  # fmt: skip
        of_one = await ledger.find("spiffe://mesh.example/w1", "", 9)
        assert [each.row.number for each in of_one] == [5, 2]
        by_serial = await ledger.find("", f"{2:032x}", 9)
        assert [each.row.number for each in by_serial] == [3]
        web = "spiffe://mesh.example/web"
        refusals = [Entry(Event.REFUSED, "x509", web, detail=why) for why in ("a", "b")]
        await ledger.append([*refusals, Entry(Event.REFUSED, "jwt", f"{web}2")], 5, KEY)
        assert len(await ledger.find("", "", 9)) == 6
        refused = await ledger.find(web, "", 9, refused=True)
        assert [(each.row.entry.detail, each.outcome) for each in refused] == [
            ("b", Event.REFUSED), ("a", Event.REFUSED),
        ]  # fmt: skip
        assert len(await ledger.find("", "", 9, refused=True)) == 3
        await ledger.close()

    run(story())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meshwarden_ledger SET requester = 'x'",
        "DELETE FROM meshwarden_ledger",
        "DELETE FROM meshwarden_ledger WHERE number = 3",
    ],
)
def test_the_database_refuses_any_change_of_the_ledger(place: Place, statement: str) -> None:
    """Whoever asks, by whichever way."""

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(index) for index in range(3)], 5, KEY)
        with pytest.raises(DBAPIError, match="only grows"):
            place.do(statement)
        assert not await report(ledger)
        await ledger.close()

    run(story())


@pytest.mark.parametrize("number", [2, 9])
def test_no_row_takes_the_place_of_another(tmp_path: Path, number: int) -> None:
    """By its number or by its serial; in SQLite that fires no trigger on DELETE."""
    place = Place("", tmp_path / "store.db")
    columns = ", ".join(
        f"{number}" if each.name == "number" else f'"{each.name}"' for each in LEDGER.c
    )

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(index) for index in range(3)], 5, KEY)
        with pytest.raises(DBAPIError, match="only grows"):
            place.do(
                f"INSERT OR REPLACE INTO {LEDGER.name} "  # noqa: S608 - a name of ours
                f"SELECT {columns} FROM {LEDGER.name} WHERE number = 1"
            )
        assert not await report(ledger)
        assert [row.number for row in await ledger.read(0, 9)] == [1, 2, 3]
        await ledger.close()

    run(story())


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE meshwarden_ledger SET requester = 'x' WHERE number = 2", "row 2 is not"),
        ("UPDATE meshwarden_ledger SET selectors = '[]' WHERE number = 2", "row 2 is not"),
        ("DELETE FROM meshwarden_ledger WHERE number = 2", "row 2 is missing"),
        ("DELETE FROM meshwarden_ledger WHERE number = 1", "row 1 is missing"),
        ("DELETE FROM meshwarden_ledger WHERE number > 2", "its end was cut off"),
        ("DELETE FROM meshwarden_ledger WHERE number > 3", "its end was cut off"),
        ("DELETE FROM meshwarden_ledger", "its end was cut off"),
        ("UPDATE meshwarden_ledger SET number = number + 10 WHERE number > 2", "row 3 is missing"),
    ],
)
def test_what_the_databases_owner_does_all_the_same_is_found(
    place: Place, statement: str, words: str
) -> None:
    """He can take the triggers away; the chain, its signature and a head kept elsewhere remain."""

    async def story() -> None:
        ledger = place.ledger()
        for start in (0, 3):
            await ledger.append([entry(start + index) for index in range(3)], 5, KEY)
        known = (await ledger.head(),)
        place.unguard()
        place.do(statement)
        assert words in await report(ledger, known)
        await ledger.close()

    run(story())


def test_a_row_that_can_not_be_read_is_told_as_damage(place: Place) -> None:
    """Not as an internal fault."""

    async def story() -> None:
        ledger = place.ledger()
        await ledger.append([entry(1)], 5, KEY)
        place.unguard()
        place.do("UPDATE meshwarden_ledger SET selectors = '{'")
        with pytest.raises(DamagedError, match="row 1"):
            await ledger.read(0, 9)
        await ledger.close()

    run(story())


def test_a_database_that_can_not_be_reached_is_unavailable(tmp_path: Path) -> None:
    """A clear error of ours; nothing hangs."""

    async def story() -> None:
        ledger = Place("", tmp_path / "nowhere" / "store.db").ledger()
        with pytest.raises(IdentityStoreError):
            await ledger.append([entry(1)], 5, KEY)
        with pytest.raises(IdentityError):
            await ledger.head()
        await ledger.close()

    run(story())


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_an_outage_loses_nothing_and_ends_by_itself(tmp_path: Path) -> None:
    """PostgreSQL killed and back: what was acknowledged is there, and the chain goes on."""
    with postgresql(free_ports(1)[0]) as running:
        place = Place(running.url, tmp_path)

        async def story() -> None:
            store, close = place.store()
            made = await store.change(DOMAIN, plan(tmp_path))  # type: ignore[arg-type]
            ledger = place.ledger()
            await ledger.append([entry(1)], 5, KEY)
            await asyncio.to_thread(running.stop)
            async with asyncio.timeout(12):
                with pytest.raises(IdentityStoreError):
                    await ledger.append([entry(2)], 5, KEY)
            await asyncio.to_thread(running.start)
            await ledger.append([entry(3)], 5, KEY)
            assert not await report(ledger)
            assert [row.entry.serial for row in await ledger.read(0, 9)] == [
                entry(1).serial, entry(3).serial,
            ]  # fmt: skip
            assert (await store.change(DOMAIN, plan(tmp_path))) == made  # type: ignore[arg-type]
            assert made.active(Kind.INTERMEDIATE)
            await ledger.close()
            await close()

        run(story())
