"""Makes expiry visible: as a metric, in the log in time, and as red health when it is too late."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ca.expiry import Expiring, in_use
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.expiry import Expiries
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
        self._expiries = Expiries("identity: ")

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            self.look()
            await asyncio.sleep(self._look_s)

    def look(self) -> None:
        """Look once."""
        used = [each for other in self.others for each in other()]
        if self._current.is_open:
            signing = self._current.signing
            used += in_use(signing.authorities, signing.signer_id)
        self._mark(self._expiries.tell(used, self._now_ns()))

    def _mark(self, over: str) -> None:
        if not over:
            self._marker.unlink(missing_ok=True)
            return
        try:
            replace_file(self._marker, over.encode(), durable=False)
        except OSError as error:
            _LOG.warning("identity: health can't say what has expired: %s", error)
