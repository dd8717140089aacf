"""The port for what keeps decision records, and the one for what finds them again.

A sink is slow and may fail: who calls it does so on a thread of its own and bounds what waits
(meshwarden/control/decision_log.py). Neither a front nor control's event loop ever waits for one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from telemetry.record import DecisionRecord

__all__ = [
    "ArchiveUnavailableError",
    "DecisionArchive",
    "DecisionSink",
    "Kept",
    "Search",
    "Written",
]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch.

    Attributes:
        count: How many of it were kept, counted from the first.
        fault: What went wrong, in one clause; "" for nothing. All may be kept in spite of one.
        may_retry: Whether the rest is worth keeping: what is wrong is away and may come back.
    """

    count: int
    fault: str = ""
    may_retry: bool = False


class Search(NamedTuple):
    """What is looked for; what is empty or 0 is not asked about.

    Attributes:
        principal: A caller's SPIFFE ID without its scheme, or a token's "user:ISSUER/SUBJECT"; with
            a final "*", whatever begins so.
        path: What the path begins with.
        service: The service asked for.
        rule: The deciding rule as "file:line", or its file.
        verdict: "allow", "deny", "would_allow" or "would_deny".
        since_ns: The oldest time, in nanoseconds since 1970 UTC.
        limit: How many at most, the newest of them.
    """

    principal: str = ""
    path: str = ""
    service: str = ""
    rule: str = ""
    verdict: str = ""
    since_ns: int = 0
    limit: int = 20


class Kept(NamedTuple):
    """A record as it was found again.

    Attributes:
        position: Where it stands in the order of arrival.
        record: The decision.
    """

    position: int
    record: DecisionRecord


class ArchiveUnavailableError(Exception):
    """What was kept can't be read; the message says what and why. Asking again may help."""


class DecisionArchive(ABC):
    """Reads what a sink keeps, also from another process and while the service is stopped.

    An implementation promises that

    - reading changes nothing, and holds up no writer;
    - results are in the order of their arrival, the oldest first.
    """

    @abstractmethod
    def find(self, id_or_start: str) -> list[Kept]:
        """Give the record of this id, or some of those whose id begins so.

        Raises:
            ArchiveUnavailableError: It can't be read.
        """

    @abstractmethod
    def search(self, wanted: Search, after: int = 0) -> list[Kept]:
        """Give the newest that match.

        Args:
            wanted: What is looked for.
            after: Only what came after this position.

        Raises:
            ArchiveUnavailableError: It can't be read.
        """


class DecisionSink(ABC):
    """Keeps decision records, within bounds of bytes and days.

    An implementation promises that

    - making one opens nothing: a disk that is full or away stops no start;
    - no method raises for what the world does: it says so in its answer;
    - it recovers by itself as soon as the world does;
    - what it keeps can be read by its owner only;
    - a record that comes again soon, since nobody heard that it was kept, spoils nothing.

    All methods but `archive` are called on one thread.
    """

    @abstractmethod
    def write(self, lines: Sequence[bytes]) -> Written:
        """Keep a batch of `record_line`s, in its order."""

    @abstractmethod
    def trim(self, now_ns: int) -> str:
        """Remove some of what is past its days; give what went wrong, or "".

        Args:
            now_ns: Time in nanoseconds since 1970 UTC.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open; the next write opens it again."""

    def archive(self) -> DecisionArchive | None:
        """Give what reads it again; None where nothing does."""
        return None
