"""Makes expiry visible: as a metric, in the log in time, and as red health when it is too late."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ca.expiry import Expiring, expired, in_use, warning_days
from meshwarden import metrics
from meshwarden.cli.durations import age
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.files import replace_file

__all__ = ["ExpiryWatch"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 5.0


class ExpiryWatch:
    """Looks at what expires, again and again.

    Attributes:
        others: Give what else is in use here and expires, such as a serving certificate.
    """

    def __init__(
        self,
        current: CurrentAuthorities,
        marker: Path,
        now_ns: Callable[[], int],
        look_s: float = _LOOK_S,
    ) -> None:
        """Watch.

        Args:
            current: The authorities.
            marker: Says to every process what has expired; there only while something has.
            now_ns: The time.
            look_s: How often.
        """
        self.others: list[Callable[[], Sequence[Expiring]]] = []
        self._current = current
        self._marker = marker
        self._now_ns = now_ns
        self._look_s = look_s
        self._warned: dict[str, int] = {}

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            await asyncio.sleep(self._look_s)

    def look(self) -> None:
        """Look once."""
        used = [each for other in self.others for each in other()]
        if self._current.is_open:
            used += in_use(self._current.signing.authorities)
        now_ns = self._now_ns()
        first: dict[str, int] = {}
        for each in used:
            first[each.kind] = min(each.not_after_ns, first.get(each.kind, each.not_after_ns))
            self._warn(each, now_ns)
        for kind, not_after_ns in first.items():
            metrics.NOT_AFTER.labels(kind).set(not_after_ns / 1e9)
        self._mark(expired(used, now_ns))

    def _warn(self, each: Expiring, now_ns: int) -> None:
        """Say once for each of 30, 7 and 1 days, and once when it is over."""
        days = 0 if each.not_after_ns <= now_ns else warning_days(each, now_ns) or -1
        if days < 0:
            self._warned.pop(each.name, None)
        elif self._warned.get(each.name) != days:
            self._warned[each.name] = days
            left = age((each.not_after_ns - now_ns) / 1e9)
            if days:
                _LOG.warning("identity: %s expires in %s", each.name, left)
            else:
                _LOG.error("identity: %s has expired, and is accepted nowhere", each.name)

    def _mark(self, over: Sequence[Expiring]) -> None:
        if not over:
            self._marker.unlink(missing_ok=True)
            return
        text = ", ".join(f"{each.name} has expired" for each in over)
        try:
            replace_file(self._marker, text.encode(), durable=False)
        except OSError as error:
            _LOG.warning("identity: health can't say what has expired: %s", error)
