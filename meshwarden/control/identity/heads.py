"""Where the ledger ended, remembered outside its database.

A chain of hashes can't show that its tail was cut off, nor that all of it was replaced by another.
Control remembers on its own disk where the ledger ended: at the start of each day, and now. With an
SQLite file that is the same disk, so an operator who fears its owner keeps a head elsewhere
(`meshwarden ca ledger head`) and shows it to `meshwarden ca ledger verify`.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ca.ledger import Head
from meshwarden.files import replace_file

__all__ = ["KnownHeads"]

_LOG = logging.getLogger(__name__)
_SAVE_NS = 1_000_000_000
_DAY_NS = 86_400 * 1_000_000_000
_KEPT = 400


class _File(msgspec.Struct):
    """What the file holds.

    Attributes:
        heads: (day, number, hash in hex), the oldest first; of each day the last.
    """

    heads: list[tuple[int, int, str]] = []


class KnownHeads:
    """Heads of one ledger, in one file."""

    def __init__(self, file: Path, now_ns: Callable[[], int]) -> None:
        self._file = file
        self._now_ns = now_ns
        self._by_day: dict[int, Head] = {}
        self._saved_ns = 0
        self._is_failing = False
        try:
            found = msgspec.json.decode(file.read_bytes(), type=_File).heads
            self._by_day = {
                day: Head(number, bytes.fromhex(digest)) for day, number, digest in found
            }
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            _LOG.error("ledger: where it ended before is not known: %s: %s", file, error)

    @property
    def all(self) -> Sequence[Head]:
        """Those known, the oldest first."""
        return tuple(self._by_day.values())

    def wrote(self, head: Head) -> None:
        """Remember a new head; on disk within a second, or at the end."""
        now_ns = self._now_ns()
        self._by_day[now_ns // _DAY_NS] = head
        if not 0 <= now_ns - self._saved_ns < _SAVE_NS:
            self._saved_ns = now_ns
            self.save()

    def save(self) -> None:
        """Write the file anew."""
        if not self._by_day:
            return
        for day in sorted(self._by_day)[:-_KEPT]:
            del self._by_day[day]
        heads = [(day, head.number, head.hash.hex()) for day, head in self._by_day.items()]
        try:
            replace_file(self._file, msgspec.json.encode(_File(heads)), durable=False)
        except OSError as error:
            if not self._is_failing:
                _LOG.error("ledger: its head is not remembered: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False
