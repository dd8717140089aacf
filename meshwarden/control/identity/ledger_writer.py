"""Puts entries on the ledger in groups: who comes while a write is under way goes with the next.

A write to disk takes milliseconds whether it holds one row or a thousand, and nothing may be signed
before its intent is there. So intents wait for their group; outcomes and refusals wait for nobody,
and go along with the next group or after a short time.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ca.errors import (
    DamagedError,
    IdentityError,
    IdentityStoreError,
    OverloadedError,
    UnwritableError,
)
from ca.ledger import Entry, Event, Head, IssuanceLog, LedgerRow, is_next
from meshwarden import metrics
from meshwarden.faults import fault_id

__all__ = ["Heads", "LedgerWriter"]

_LOG = logging.getLogger(__name__)
# What may wait: some seconds of a full core's work. Beyond that a caller does better to come back.
_MAX_WAITING_ROWS = 20_000
_MAX_NOTES = 10_000
# One transaction: the lock is everybody's.
_GROUP_ROWS = 4_000
_NOTES_WAIT_S = 0.2
# A group lets more callers come, when the one before was of several: as long as one comes in each
# such time, and so many times.
_CROWD_S = 0.004
_CROWD_WAITS = 6
_RETRY_S = 1.0
_ENDED = "the ledger is not written any more: the service stops"


@dataclass(slots=True)
class _Waiting:
    """Intents of one caller, and what tells him where they stand."""

    entries: Sequence[Entry]
    first_number: "asyncio.Future[int]"


@dataclass(slots=True)
class _Group:
    """What is written at once: intents, and behind them what nobody waits for."""

    waiting: Sequence[_Waiting]
    notes: Sequence[Entry]

    def rows(self) -> list[Entry]:
        return [*(entry for each in self.waiting for entry in each.entries), *self.notes]

    def halves(self) -> "list[_Group]":
        """Give two that hold the same; none where it is one caller's, or one note."""
        if self.waiting and self.notes:
            return [_Group(self.waiting, ()), _Group((), self.notes)]
        of_waiting, of_notes = (len(self.waiting) + 1) // 2, (len(self.notes) + 1) // 2
        rest = _Group(self.waiting[of_waiting:], self.notes[of_notes:])
        first = _Group(self.waiting[:of_waiting], self.notes[:of_notes])
        return [first, rest] if rest.waiting or rest.notes else []


class Heads(Protocol):
    """Remembers where the ledger ended, elsewhere than its database."""

    @property
    def newest(self) -> Head:
        """Where it ended after this process wrote last; number 0 for not known."""
        ...

    def wrote(self, head: Head) -> None:
        """Take a new one in its place."""
        ...

    def lost(self, head: Head) -> None:
        """Keep one that the ledger has no more."""
        ...


class LedgerWriter:
    """The one writer of this process."""

    def __init__(
        self,
        log: IssuanceLog,
        key: Callable[[], Ed25519PrivateKey],
        now_ns: Callable[[], int],
        heads: Heads,
    ) -> None:
        """Write to a ledger.

        Args:
            log: Where rows are kept.
            key: Gives what signs heads now; raises IdentityError while there is none.
            now_ns: The time.
            heads: Told of each new head, and of each that is gone.
        """
        self._key = key
        self._log = log
        self._now_ns = now_ns
        self._heads = heads
        self._waiting: deque[_Waiting] = deque()
        self._waiting_rows = 0
        self._notes: list[Entry] = []
        self._issued: list[tuple[int, int]] = []
        self._is_failing = False
        self._is_crowded = False
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        # The newest write that is still to be remembered: its first row, and where it ended.
        self._unremembered: tuple[LedgerRow, Head] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def intend(self, entries: Sequence[Entry]) -> int:
        """Put intents on the ledger; they are on disk when this returns.

        Returns:
            The number of the first; the others follow without a gap.

        Raises:
            OverloadedError: Too much waits already.
            IdentityStoreError: They can't be written; nothing may be signed.
            UnwritableError: One of them can't be, whenever it is tried; nor may it be signed.
        """
        if self._waiting_rows + len(entries) > _MAX_WAITING_ROWS:
            raise OverloadedError(f"{self._waiting_rows} rows wait for the ledger already")
        waiting = _Waiting(entries, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_rows += len(entries)
        self._write_soon()
        return await waiting.first_number

    def issued(self, first: int, last: int) -> None:
        """Note that these rows were handed out; doesn't wait."""
        # Rows of one group end one after the other: most outcomes grow the one before.
        if self._issued and self._issued[-1][1] + 1 == first:
            self._issued[-1] = (self._issued[-1][0], last)
        else:
            self._issued.append((first, last))
        self._write_later()

    def note(self, entry: Entry) -> None:
        """Note something else; doesn't wait. What is too much is dropped and counted."""
        if len(self._notes) >= _MAX_NOTES:
            metrics.LEDGER_DROPPED.inc()
            return
        self._notes.append(entry)
        self._write_later()

    async def flush(self) -> None:
        """Write what there is now, or try to once; where it ends is remembered then."""
        await self._write_all()
        if self._looking is not None:
            await asyncio.wait({self._looking})

    async def _write_all(self) -> None:
        while self._waiting or self._notes or self._issued:
            is_new = self._task is None
            self._write_soon()
            if self._task is not None:
                await asyncio.wait({self._task})
            if is_new and self._is_failing:
                return
            await asyncio.sleep(0)  # What follows its end comes with the loop's next turn.

    async def close(self) -> None:
        """Write what there is, once."""
        await self.flush()
        if self._later is not None:  # It failed, and won't be tried again.
            self._later.cancel()

    def _write_later(self) -> None:
        if self._task is None and self._later is None:
            delay_s = _RETRY_S if self._is_failing else _NOTES_WAIT_S
            self._later = asyncio.get_running_loop().call_later(delay_s, self._write_soon)

    def _write_soon(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._task is None and (self._waiting or self._notes or self._issued):
            self._task = asyncio.get_running_loop().create_task(self._write())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if task.cancelled():
            self._broke(IdentityStoreError(_ENDED))
            return
        if error := task.exception():
            self._broke(IdentityError(fault_id(error)))
        # Who was told of the end before this line ran may have come with more.
        if self._waiting:
            self._write_soon()
        elif self._notes or self._issued:
            self._write_later()

    def _broke(self, told: IdentityError) -> None:
        """Tell those who wait that the writer itself broke: else they would wait for ever."""
        while self._waiting:
            self._failed(_Group(self._take_waiting(), ()), told)

    async def _write(self) -> None:
        """Write groups as long as somebody waits."""
        while True:
            await self._let_more_come()
            groups = deque([_Group(self._take_waiting(), self._take_notes())])
            try:
                while groups:
                    await self._write_first(groups)
            except BaseException:
                for each in reversed(groups):
                    self._give_back(each)  # `_ended` tells them.
                raise
            if not self._waiting:
                return

    async def _write_first(self, groups: deque[_Group]) -> None:
        """Write the first of some groups; where a row keeps the others of it out, put its halves.

        One caller's row must not be what keeps all others from theirs, nor a note be tried for
        ever.
        """
        group = groups[0]
        try:
            written = await self._append(group.rows())
        except UnwritableError as error:
            groups.popleft()
            halves = group.halves()
            groups.extendleft(reversed(halves))
            if not halves:
                self._unwritable(group, error)
        except IdentityError as error:
            while groups:
                self._failed(groups.popleft(), error)
        else:
            groups.popleft()
            self._succeeded(group.waiting, written)
            self._remember(written)

    async def _let_more_come(self) -> None:
        """Wait for callers who are on their way.

        A write costs nearly the same for one row and for twenty, and so does waking up for one
        caller and for twenty. Who calls alone doesn't wait; in a crowd, callers wait for each
        other, some milliseconds.
        """
        if not self._is_crowded:
            await asyncio.sleep(0)
            return
        for _ in range(_CROWD_WAITS):
            before = len(self._waiting)
            await asyncio.sleep(_CROWD_S)
            if len(self._waiting) == before:
                return

    async def _append(self, rows: Sequence[Entry]) -> Sequence[LedgerRow]:
        try:
            return await self._log.append(rows, self._now_ns(), self._key())
        except IdentityError:
            raise
        except Exception as error:
            # Whoever waits must hear of it, or he waits for ever.
            raise IdentityError(fault_id(error)) from error

    def _succeeded(self, group: Sequence[_Waiting], written: Sequence[LedgerRow]) -> None:
        metrics.LEDGER_WRITES.labels("written").inc()
        metrics.LEDGER_ROWS.inc(len(written))
        if self._is_failing:
            _LOG.warning("ledger: it is written again")
        self._is_failing = False
        # Before anybody else is told: whatever breaks there, these are on the ledger.
        number = written[0].number
        for each in group:
            if not each.first_number.done():  # He may have gone away.
                each.first_number.set_result(number)
            number += len(each.entries)

    def _remember(self, written: Sequence[LedgerRow]) -> None:
        """Remember the new head, if the one before is still what the ledger had.

        What was written now goes behind what is left of a ledger that was cut off or changed at its
        end, is signed with it, and would vouch for it. Issuing goes on: identities must not end
        with a database that lost its last rows.
        """
        known, first = self._heads.newest, written[0]
        head = Head(written[-1].number, written[-1].hash)
        if known.number and first.number > known.number + 1:
            # Others wrote in between. Nobody waits for the look: the database may take its time.
            self._unremembered = first, head
            self._look_soon()
        else:
            self._looked(known, head, is_there=not known.number or is_next(known, first))

    def _look_soon(self) -> None:
        if self._looking is None and self._unremembered is not None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._look_ended)

    async def _look(self) -> None:
        """Look back from the newest write, until there is none that came meanwhile."""
        while self._unremembered is not None:
            (first, head), self._unremembered = self._unremembered, None
            known = self._heads.newest
            try:
                is_there = await self._has(known, first)
            except IdentityStoreError:
                self._unremembered = None  # It is looked at again behind the next write.
                return
            self._looked(known, head, is_there=is_there)

    def _look_ended(self, task: "asyncio.Task[None]") -> None:
        self._looking = None
        if task.cancelled():
            return
        if error := task.exception():
            self._unremembered = None
            _LOG.error("ledger: its head is not remembered: %s", fault_id(error))
        self._look_soon()

    def _looked(self, known: Head, head: Head, *, is_there: bool) -> None:
        if not is_there:
            _LOG.error(
                "ledger: it is not what it was up to row %d: rows were cut off or changed; "
                "'meshwarden ca ledger verify' will say so from now on", known.number
            )  # fmt: skip
            self._heads.lost(known)
        self._heads.wrote(head)

    async def _has(self, known: Head, first: LedgerRow) -> bool:
        """Whether rows were written behind a head that the ledger still has."""
        if first.number <= known.number + 1:
            return is_next(known, first)
        try:  # Others wrote in between.
            found = await self._log.read(known.number - 1, 1)
        except DamagedError:
            return False
        return [(row.number, row.hash) for row in found] == [(known.number, known.hash)]

    def _failed(self, group: _Group, error: IdentityError) -> None:
        metrics.LEDGER_WRITES.labels("failed").inc()
        if not self._is_failing:  # It is said once, and once more when it is over.
            _LOG.error("ledger: nothing is issued: %s", error)
        self._is_failing = True
        for each in group.waiting:
            if not each.first_number.done():
                each.first_number.set_exception(error)
        self._keep(group.notes)

    def _unwritable(self, group: _Group, error: IdentityError) -> None:
        """Tell whose row it is; nobody else is concerned."""
        metrics.LEDGER_WRITES.labels("failed").inc()
        _LOG.error("ledger: a row can't be written: %s", error)
        for each in group.waiting:
            if not each.first_number.done():
                each.first_number.set_exception(error)
        metrics.LEDGER_DROPPED.inc(len(group.notes))

    def _give_back(self, group: _Group) -> None:
        self._waiting.extendleft(reversed(group.waiting))
        self._waiting_rows += sum(len(each.entries) for each in group.waiting)
        self._keep(group.notes)

    def _keep(self, notes: Sequence[Entry]) -> None:
        """Have notes tried again, within bounds: nobody waits for them."""
        kept = notes[: max(0, _MAX_NOTES - len(self._notes))]
        metrics.LEDGER_DROPPED.inc(len(notes) - len(kept))
        self._notes = [*kept, *self._notes]

    def _take_waiting(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        rows = 0
        while self._waiting and rows < _GROUP_ROWS:
            each = self._waiting.popleft()
            rows += len(each.entries)
            group.append(each)
        self._waiting_rows -= rows
        self._is_crowded = len(group) > 1
        return group

    def _take_notes(self) -> list[Entry]:
        noted = [Entry(Event.ISSUED, first=first, last=last) for first, last in self._issued]
        noted += self._notes
        self._issued, self._notes = [], []
        return noted
