"""Where the ledger ended, remembered outside its database.

A chain of hashes can't show that its tail was cut off, nor that all of it was replaced by another.
Control remembers on its own disk where the ledger ended: at the end of each day, and now; and each
end that the ledger no longer had when more was written. With an SQLite file that is the same disk,
so an operator who fears its owner keeps a head elsewhere (`meshwarden ca ledger head`) and shows it
to `meshwarden ca ledger verify`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ca.ledger import Head
from meshwarden.files import replace_file

__all__ = ["KnownHeads"]

_LOG = logging.getLogger(__name__)
_SAVE_S = 1.0
_SAVE_NS = 1_000_000_000
_DAY_NS = 86_400 * 1_000_000_000
_KEPT = 400
_KEPT_LOST = 100


class _File(msgspec.Struct):
    """What the file holds.

    Attributes:
        heads: (day, number, hash in hex), the oldest first; of each day the last.
        lost: (number, hash in hex) of those that the ledger no longer had.
    """

    heads: list[tuple[int, int, str]] = []
    lost: list[tuple[int, str]] = []


class KnownHeads:
    """Heads of one ledger, in one file."""

    def __init__(self, file: Path, now_ns: Callable[[], int]) -> None:
        self._file = file
        self._now_ns = now_ns
        self._by_day: dict[int, Head] = {}
        self._lost: list[Head] = []
        self._saved_ns = 0
        self._is_new = False
        self._is_failing = False
        try:
            found = msgspec.json.decode(file.read_bytes(), type=_File)
            self._by_day = {
                day: Head(number, bytes.fromhex(digest)) for day, number, digest in found.heads
            }
            self._lost = [Head(number, bytes.fromhex(digest)) for number, digest in found.lost]
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            _LOG.error("ledger: where it ended before is not known: %s: %s", file, error)
        self._newest = max(self._by_day.values(), key=lambda each: each.number, default=Head())

    @property
    def all(self) -> Sequence[Head]:
        """Those known: of each day, the oldest first, and those that the ledger has lost."""
        return (*self._by_day.values(), *self._lost)

    @property
    def newest(self) -> Head:
        """Where the ledger ended when this process, or the one before it, wrote last."""
        return self._newest

    def wrote(self, head: Head) -> None:
        """Remember a new head; on disk within a second, while `run` goes on, or at the end."""
        now_ns = self._now_ns()
        self._newest = self._by_day[now_ns // _DAY_NS] = head
        self._is_new = True
        if not 0 <= now_ns - self._saved_ns < _SAVE_NS:
            self._saved_ns = now_ns
            self.save()

    def lost(self, head: Head) -> None:
        """Remember for good that the ledger has a head no more: the next one would hide it."""
        if head not in self._lost and len(self._lost) < _KEPT_LOST:
            self._lost.append(head)
        self._is_new = True
        self.save()

    async def run(self) -> None:
        """Write down what is new, for ever."""
        while True:
            await asyncio.sleep(_SAVE_S)
            if self._is_new:
                self.save()

    def save(self) -> None:
        """Write the file anew."""
        if not self.all:
            return
        for day in sorted(self._by_day)[:-_KEPT]:
            del self._by_day[day]
        heads = [(day, head.number, head.hash.hex()) for day, head in self._by_day.items()]
        lost = [(head.number, head.hash.hex()) for head in self._lost]
        self._is_new = False
        try:
            replace_file(self._file, msgspec.json.encode(_File(heads, lost)), durable=False)
        except OSError as error:
            if not self._is_failing:
                _LOG.error("ledger: its head is not remembered: %s", error)
            self._is_failing = self._is_new = True
        else:
            self._is_failing = False
