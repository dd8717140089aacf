"""A ledger in memory, with whatever is to go wrong."""

import asyncio
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typing_extensions import override

from ca.errors import IdentityStoreError, UnwritableError
from ca.ledger import Entry, Event, Head, IssuanceLog, Issued, LedgerRow, chain

__all__ = ["FakeLedger"]


class FakeLedger(IssuanceLog):
    """Keeps rows in a list.

    Attributes:
        rows: What was written.
        groups: How many rows each write had.
        is_down: Whether writes fail.
        is_broken: Whether writes fail in a way that nobody foresaw.
        poison: A detail that no row may have; "" for none.
        gate: Writes wait while it is not set.
        asked: Set once a write was asked for.
    """

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []
        self.groups: list[int] = []
        self.is_down = False
        self.is_broken = False
        self.poison = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    @override
    async def append(
        self, entries: Sequence[Entry], time_ns: int, key: Ed25519PrivateKey
    ) -> Sequence[LedgerRow]:
        self.asked.set()
        await self.gate.wait()
        if self.is_broken:
            raise ZeroDivisionError("nobody foresaw this")
        if self.is_down:
            raise IdentityStoreError("the store: it is down")
        if self.poison and any(each.detail == self.poison for each in entries):
            raise UnwritableError("the store: no such row")
        rows = chain(await self.head(), entries, time_ns, key)
        self.rows += rows
        self.groups.append(len(rows))
        return rows

    @override
    async def head(self) -> Head:
        return Head(self.rows[-1].number, self.rows[-1].hash) if self.rows else Head()

    @override
    async def read(self, after: int, limit: int) -> Sequence[LedgerRow]:
        return self.rows[after : after + limit]

    @override
    async def find(
        self, spiffe_id: str, serial: str, limit: int, *, refused: bool = False
    ) -> Sequence[Issued]:
        del spiffe_id, serial, limit, refused
        return []

    def events(self) -> list[Event]:
        """What the rows tell, in short."""
        return [row.entry.event for row in self.rows]
