"""Puts refusals on the audit trail, and keeps whoever is refused from filling the disk with them.

The first refusal of a caller's is written at once, those like it within the next minute as one
number. Strangers may come from many addresses: beyond some hundred of them, and beyond some hundred
entries an hour, they are counted together. So a flood of any kind adds a few MB a day at most.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from authz.audit import AuditEntry
from authz.revisions import StoreUnavailableError
from meshwarden import metrics
from meshwarden.plain_text import plain, plain_lines

__all__ = ["Refusals"]

_LOG = logging.getLogger(__name__)
_WINDOW_S = 60.0
_MAX_CALLERS = 100
_MAX_AN_HOUR = 600
_HOUR_NS = 3_600_000_000_000
_MAX_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class _Kind:
    """What refusals that are counted together have in common."""

    who: str
    source: str
    action: str


_ALL = _Kind("", "several", "several")


def _of_the_admin_api(_action: str) -> None:
    metrics.ADMIN_REFUSALS.inc()


class Refusals:
    """Every refusal of one process."""

    def __init__(
        self,
        record: Callable[[AuditEntry], Awaitable[None]],
        now_ns: Callable[[], int],
        count: Callable[[str], None] = _of_the_admin_api,
    ) -> None:
        """Keep none yet.

        Args:
            record: Adds an entry to the audit trail; may raise StoreUnavailableError.
            now_ns: The time.
            count: Counts each, by its action, for the metrics.
        """
        self._count = count
        self._record = record
        self._now_ns = now_ns
        self._seen: dict[_Kind, int] = {}
        self._hour_ns = 0
        self._written = 0

    async def note(self, who: str, source: str, action: str, detail: str) -> None:
        """Note one refusal; it is on record when this returns, or counted for the next entry.

        Args:
            who: The caller; "" if nobody knows.
            source: From where.
            action: What was refused.
            detail: Why.
        """
        self._count(action)
        kind = _Kind(who, source, action)
        if kind not in self._seen and (len(self._seen) >= _MAX_CALLERS or not self._has_room()):
            kind = _ALL
            self._seen.setdefault(kind, 0)
        if kind in self._seen:
            self._seen[kind] += 1
            return
        self._seen[kind] = 0
        await self._write(kind, detail)

    async def flush(self) -> None:
        """Write down the numbers of those that were only counted, and begin anew."""
        seen, self._seen = self._seen, {}
        for kind, count in seen.items():
            if count:
                like = "" if kind is _ALL else " like the one before"
                await self._write(kind, f"{count} more{like}")

    async def run(self) -> None:
        """Flush every minute, for ever."""
        while True:
            await asyncio.sleep(_WINDOW_S)
            await self.flush()

    def _has_room(self) -> bool:
        now_ns = self._now_ns()
        # Also when the clock was put back.
        if not 0 <= now_ns - self._hour_ns < _HOUR_NS:
            self._hour_ns, self._written = now_ns, 0
        return self._written < _MAX_AN_HOUR

    async def _write(self, kind: _Kind, detail: str) -> None:
        self._written += 1
        entry = AuditEntry(
            self._now_ns(),
            plain(kind.who[:_MAX_CHARACTERS]),
            kind.source,
            plain(kind.action[:_MAX_CHARACTERS]),
            "refused",
            "",
            # It may quote the caller, who must not keep his refusal off the trail by a character
            # that the database doesn't take.
            plain_lines(detail[:_MAX_CHARACTERS]),
        )
        try:
            await self._record(entry)
        except StoreUnavailableError as error:
            # It is refused all the same; the log has it in place of the trail.
            _LOG.error("refused %s to %r from %s, and the audit trail could not be written: %s",
                entry.action, entry.who, entry.source, error)  # fmt: skip
