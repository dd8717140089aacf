"""The ledger in a database: one chain, whoever writes.

Replicas share one chain and not one each: each write takes a lock, reads the head and puts its rows
behind it. Writes are groups, so the lock costs a group of one replica the wait for one group of
another, and a reader has one ledger to prove.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Column, Connection, RowMapping, select
from typing_extensions import override

from adapters.sql.authority_tables import LEDGER
from adapters.sql.threaded import ThreadedDatabase, open_threaded
from ca.errors import DamagedError
from ca.ledger import Entry, Event, Head, IssuanceLog, Issued, LedgerRow, chain

__all__ = ["SqlIssuanceLog", "open_ledger"]

# Any number will do, so long as nobody else uses it.
_POSTGRESQL_LOCK = 0x6C656467
_HEAD = select(LEDGER.c.number, LEDGER.c.hash).order_by(LEDGER.c.number.desc()).limit(1)
_HEAD_TEXT = f"SELECT number, hash FROM {LEDGER.name} ORDER BY number DESC LIMIT 1"  # noqa: S608
_OUTCOMES = select(LEDGER.c.event, LEDGER.c.first, LEDGER.c.last).where(LEDGER.c["last"] > 0)


class SqlIssuanceLog(IssuanceLog):
    """One database's ledger."""

    def __init__(self, database: ThreadedDatabase) -> None:
        self._database = database
        columns = ", ".join(f'"{column.name}"' for column in LEDGER.c)
        values = f"VALUES ({', '.join('?' for _ in LEDGER.c)})"
        if not database.is_sqlite:
            # One statement, whatever their number: a column is an array.
            arrays = ", ".join(f"%b::{_type(column)}[]" for column in LEDGER.c)
            values = f"SELECT * FROM unnest({arrays})"  # noqa: S608 - names of ours
        self._insert = f"INSERT INTO {LEDGER.name} ({columns}) {values}"

    @override
    async def append(
        self, entries: Sequence[Entry], time_ns: int, key: Ed25519PrivateKey
    ) -> Sequence[LedgerRow]:
        def write(cursor: Any) -> Sequence[LedgerRow]:
            cursor.execute(_HEAD_TEXT)
            found = cursor.fetchone()
            head = Head(found[0], bytes(found[1])) if found else Head()
            rows = chain(head, entries, time_ns, key)
            values = [_values(row) for row in rows]
            if self._database.is_sqlite:
                cursor.executemany(self._insert, values)
            else:
                cursor.execute(self._insert, [*map(list, zip(*values, strict=True))])
            return rows

        return await self._database.write_by_driver(self._begin, write)

    def _begin(self, cursor: Any) -> None:
        if self._database.is_sqlite:
            cursor.execute("BEGIN IMMEDIATE")  # Takes the write lock at once.
        else:
            cursor.execute(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_LOCK})")

    @override
    async def head(self) -> Head:
        return await self._database.read(_head)

    @override
    async def read(self, after: int, limit: int) -> Sequence[LedgerRow]:
        wanted = select(LEDGER).where(LEDGER.c.number > after).order_by(LEDGER.c.number)

        def read(connection: Connection) -> Sequence[LedgerRow]:
            found = connection.execute(wanted.limit(limit)).mappings()
            return [_row(each) for each in found]

        return await self._database.read(read)

    @override
    async def find(
        self, spiffe_id: str, serial: str, limit: int, *, refused: bool = False
    ) -> Sequence[Issued]:
        event = Event.REFUSED if refused else Event.INTENDED
        wanted = select(LEDGER).where(LEDGER.c.event == event)
        if spiffe_id:
            wanted = wanted.where(LEDGER.c.spiffe_id == spiffe_id)
        if serial:
            wanted = wanted.where(LEDGER.c.serial == serial)
        wanted = wanted.order_by(LEDGER.c.number.desc()).limit(limit)

        def read(connection: Connection) -> Sequence[Issued]:
            rows = [_row(each) for each in connection.execute(wanted).mappings()]
            if refused:
                return [Issued(row, event) for row in rows]
            return [Issued(row, _outcome(connection, row.number)) for row in rows]

        return await self._database.read(read)

    async def close(self) -> None:
        """Release the connections; a second call does nothing."""
        await self._database.close()


def open_ledger(url: str, file: Path) -> SqlIssuanceLog:
    """Open one; nothing is connected before it is used.

    Args:
        url: Of a PostgreSQL; "" for SQLite.
        file: Of SQLite; its folder has to exist.
    """
    return SqlIssuanceLog(open_threaded(url, file))


def _type(column: Column[Any]) -> str:
    from sqlalchemy.dialects.postgresql import dialect  # noqa: PLC0415 - SQLite needs none

    return column.type.compile(dialect=dialect())  # type: ignore[no-untyped-call] # SQLAlchemy's


def _head(connection: Connection) -> Head:
    found = connection.execute(_HEAD).first()
    return Head(found[0], bytes(found[1])) if found else Head()


def _outcome(connection: Connection, number: int) -> Event:
    covering = _OUTCOMES.where(LEDGER.c["last"] >= number, LEDGER.c["first"] <= number)
    found = connection.execute(covering.order_by(LEDGER.c["last"]).limit(1)).first()
    return Event(found[0]) if found else Event.INTENDED


def _values(row: LedgerRow) -> tuple[object, ...]:
    """In the order of the table's columns."""
    entry = row.entry
    return (
        row.number,
        row.time_ns,
        entry.event.value,
        entry.kind,
        entry.spiffe_id,
        entry.serial,
        entry.not_after_ns,
        entry.authority_id,
        entry.requester,
        json.dumps(entry.selectors) if entry.selectors else "[]",
        entry.detail,
        entry.first,
        entry.last,
        row.hash,
        row.signature,
    )


def _row(found: RowMapping) -> LedgerRow:
    try:
        event, selectors = Event(found["event"]), tuple(json.loads(found["selectors"]))
    except (ValueError, TypeError) as error:
        raise DamagedError(f"row {found['number']} can't be read: it was changed") from error
    entry = Entry(
        event=event,
        kind=found["kind"],
        spiffe_id=found["spiffe_id"],
        serial=found["serial"],
        not_after_ns=found["not_after_ns"],
        authority_id=found["authority_id"],
        requester=found["requester"],
        selectors=selectors,
        detail=found["detail"],
        first=found["first"],
        last=found["last"],
    )
    return LedgerRow(
        found["number"], found["time_ns"], entry, bytes(found["hash"]), bytes(found["signature"])
    )
