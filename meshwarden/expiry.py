"""What expires, told: as a metric, in the log in time, and in words for health when it is over."""

import logging
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from ca.expiry import Expiring, expired, warning_days
from meshwarden import metrics

__all__ = ["Expiries", "ServingFile"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_HOUR_NS = 3_600 * _SECOND_NS
_DAY_NS = 24 * _HOUR_NS
_LOOK_NS = 5 * _SECOND_NS


class Expiries:
    """Tells of what is in use, again and again."""

    def __init__(self, about: str = "") -> None:
        """Tell of nothing yet.

        Args:
            about: What each line of the log begins with.
        """
        self._about = about
        self._warned: dict[str, int] = {}

    def tell(self, used: Sequence[Expiring], now_ns: int) -> str:
        """Measure, and warn of each once for 30, 7 and 1 days, and once when it is over.

        Returns:
            What has expired, in words; "" for nothing.
        """
        first: dict[str, int] = {}
        for each in used:
            first[each.kind] = min(each.not_after_ns, first.get(each.kind, each.not_after_ns))
            self._warn(each, now_ns)
        for kind, not_after_ns in first.items():
            metrics.NOT_AFTER.labels(kind).set(not_after_ns / 1e9)
        return ", ".join(f"{each.name} has expired" for each in expired(used, now_ns))

    def _warn(self, each: Expiring, now_ns: int) -> None:
        days = 0 if each.not_after_ns <= now_ns else warning_days(each, now_ns) or -1
        if days < 0:
            self._warned.pop(each.name, None)
        elif self._warned.get(each.name) != days:
            self._warned[each.name] = days
            if days:
                left = _left(each.not_after_ns - now_ns)
                _LOG.warning("%s%s expires in %s", self._about, each.name, left)
            else:
                _LOG.error("%s%s has expired, and is accepted nowhere", self._about, each.name)


class ServingFile:
    """The public port's certificate, where it comes from a file that is read at the start alone.

    Attributes:
        trouble: That it has expired, in words; "" while it holds. Of those above it that is told
            in the log alone: whether a client needs each of them, only the client knows.
    """

    def __init__(self, file: Path) -> None:
        """Read it, as whoever serves by it does at the same time."""
        self.trouble = ""
        self._expiries = Expiries()
        self._looked_ns = 0
        self._used: Sequence[Expiring] = ()
        try:
            self._used = _serving(x509.load_pem_x509_certificates(file.read_bytes()), file)
        except (OSError, ValueError) as error:  # Who serves by it says more, or doesn't start.
            _LOG.warning("when %s expires is not known: %s", file, error)

    def look(self, now_ns: int) -> None:
        """Look, every few seconds; cheap in between."""
        if abs(now_ns - self._looked_ns) >= _LOOK_NS:
            self._looked_ns = now_ns
            told = self._expiries.tell(self._used, now_ns)
            self.trouble = told if expired(self._used[:1], now_ns) else ""


def _serving(chain: Sequence[x509.Certificate], file: Path) -> Sequence[Expiring]:
    """Give when a certificate ends, and those above it but for a root, which clients have."""
    used = []
    for place, each in enumerate(chain):
        if place and each.issuer == each.subject:
            continue
        begin_s, end_s = each.not_valid_before_utc.timestamp(), each.not_valid_after_utc.timestamp()
        what = f"certificate {place + 1} of {file}," if place else f"{file},"
        name = f"the certificate of the public port, {what}"
        used.append(Expiring("serving", name, int(begin_s) * _SECOND_NS, int(end_s) * _SECOND_NS))
    return used


def _left(left_ns: int) -> str:
    days, hours = left_ns // _DAY_NS, left_ns // _HOUR_NS
    return f"{days} d" if days else f"{hours} h" if hours else "less than an hour"
