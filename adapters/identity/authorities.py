"""Authorities in a database: of replicas that start together, one makes them; the others wait."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict

from sqlalchemy import RowMapping, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from adapters.identity.audit import record
from adapters.identity.database import Database
from adapters.sql.authority_tables import AUTHORITY, TRUST_DOMAIN
from ca.authority import Authorities, Authority, AuthorityStore, Kind, State
from ca.errors import ConflictingAuthorityError, DamagedError
from ca.registry import Audit

__all__ = ["SqlAuthorityStore"]

# Any number will do, so long as nobody else uses it.
_POSTGRESQL_LOCK = 0x61757468
_PROBE = f"SELECT sequence FROM {TRUST_DOMAIN.name}"  # noqa: S608 - a name of ours


class SqlAuthorityStore(AuthorityStore):
    """One database's authorities."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def read(self, trust_domain: str) -> Authorities:
        async def run(connection: AsyncConnection) -> Authorities:
            return await _read(connection, trust_domain)

        return await self._database.read(run)

    @override
    async def change(
        self,
        trust_domain: str,
        plan: Callable[[Authorities], Sequence[Authority]],
        audit: Audit | None = None,
    ) -> Authorities:
        async def run(connection: AsyncConnection) -> Authorities:
            # Step 1: the lock, before anything is read. SQLite's BEGIN IMMEDIATE is one already.
            if not self._database.is_sqlite:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": _POSTGRESQL_LOCK})
            # Step 2: what there is, and what is to be changed about it.
            there = await _read(connection, trust_domain)
            changes = plan(there)
            if not changes:
                return there
            # Step 3: all of it, with a number that tells every replica that something changed.
            await _write(connection, there, changes)
            if audit is not None:
                await record(connection, audit)
            await self._database.notify(connection)
            return await _read(connection, trust_domain)

        return await self._database.run(run)

    @override
    def changes(self) -> AsyncIterator[None]:
        return self._database.watch(_PROBE)


async def _read(connection: AsyncConnection, trust_domain: str) -> Authorities:
    known = (await connection.execute(select(TRUST_DOMAIN))).mappings().first()
    if known is None:
        return Authorities(trust_domain)
    if known["name"] != trust_domain:
        raise ConflictingAuthorityError(
            f"identity.trust_domain is {trust_domain!r}, and the database holds the authorities of "
            f"{known['name']!r}: take that name, or another database"
        )
    rows = await connection.execute(select(AUTHORITY).order_by(AUTHORITY.c.position))
    return Authorities(
        trust_domain, known["sequence"], tuple(_authority(row) for row in rows.mappings())
    )


async def _write(
    connection: AsyncConnection, there: Authorities, changes: Sequence[Authority]
) -> None:
    highest = select(func.coalesce(func.max(AUTHORITY.c.position), 0))
    position = int((await connection.execute(highest)).scalar_one())
    for each in changes:
        place = select(AUTHORITY.c.position).where(AUTHORITY.c.authority_id == each.authority_id)
        old = (await connection.execute(place)).scalar()
        if old is None:
            position += 1
        else:
            await connection.execute(
                delete(AUTHORITY).where(AUTHORITY.c.authority_id == each.authority_id)
            )
        values = {**asdict(each), "kind": each.kind.value, "state": each.state.value}
        await connection.execute(AUTHORITY.insert(), {**values, "position": old or position})
    values = {"name": there.trust_domain, "sequence": there.sequence + 1}
    if there.sequence:
        await connection.execute(TRUST_DOMAIN.update(), values)
    else:
        await connection.execute(TRUST_DOMAIN.insert(), values)


def _authority(row: RowMapping) -> Authority:
    values = {name: value for name, value in row.items() if name != "position"}
    try:
        kind, state = Kind(values.pop("kind")), State(values.pop("state"))
    except ValueError as error:
        raise DamagedError(f"authority {row['authority_id']}: {error}") from error
    return Authority(kind=kind, state=state, **values)
