"""Every metric, one row each, kept in files that outlive the process that counts.

prometheus-client's multi-process mode gives each process a file in PROMETHEUS_MULTIPROC_DIR; any
process answers for all by adding them up. A dead front's file stays, so no sum ever goes back.
The supervisor empties the directory when it starts. Source: prometheus-client's README,
"Multiprocess Mode".
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from authz.check import Counts

__all__ = ["CONTENT_TYPE", "CheckCounts", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_BUCKETS_S = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1, 1.0)

CHECKS = Counter("meshwarden_checks", "Checks answered with a verdict.", ["verdict", "status"])
CHECK_CAUSES = Counter(
    "meshwarden_check_causes",
    "Checks in which something other than a rule's plain match counted.",
    ["cause"],
)
CHECK_ERRORS = Counter("meshwarden_check_errors", "Checks answered with an RPC error.", ["code"])
CHECK_SECONDS = Histogram(
    "meshwarden_check_seconds", "From a CheckRequest's bytes to its answer's.", buckets=_BUCKETS_S
)
SHADOW = Counter(
    "meshwarden_shadow_checks",
    "What the shadow policy would have done with checks, against the policy in force.",
    ["outcome"],
)
RECORDS = Counter(
    "meshwarden_decision_records", "Decision records, by what became of them.", ["outcome"]
)
SINK_RECORDS = Counter(
    "meshwarden_decision_sink_records",
    "Decision records that reached control, by sink and what became of them there.",
    ["sink", "outcome"],
)
POLICY_LOADS = Counter("meshwarden_policy_loads", "Loads of the policy's source.", ["result"])
POLICY_RULES = Gauge(
    "meshwarden_policy_rules", "Rules of the policy in force.", multiprocess_mode="livemax"
)
POLICY_PUBLISHED = Gauge(
    "meshwarden_policy_published_timestamp_seconds",
    "When the oldest policy that any process decides by was published.",
    multiprocess_mode="livemin",
)
ADMIN_REFUSALS = Counter(
    "meshwarden_admin_refusals",
    "Calls of the admin API that were refused; the audit trail says whose.",
)
IDENTITY_REFUSALS = Counter(
    "meshwarden_identity_refusals",
    "What agents, and nodes that attest, were refused, by what they asked for; the audit trail "
    "says who.",
    ["action"],
)
ENTRY_FAULTS = Gauge(
    "meshwarden_declared_entry_faults",
    "Faults of the files that declare entries, as they are; 0 while what they say is in force.",
    multiprocess_mode="livemax",
)
SVIDS = Counter("meshwarden_svids", "SVIDs ordered, by what became of them.", ["kind", "outcome"])
LEDGER_ROWS = Counter("meshwarden_ledger_rows", "Rows written to the ledger of what was issued.")
LEDGER_WRITES = Counter(
    "meshwarden_ledger_writes", "Groups of rows, by whether the ledger took them.", ["result"]
)
LEDGER_DROPPED = Counter(
    "meshwarden_ledger_notes_dropped",
    "Refusals that the ledger has no row of: there were too many.",
)
NOT_AFTER = Gauge(
    "meshwarden_certificate_not_after_timestamp_seconds",
    "When the first of a kind's authorities and certificates in use expires.",
    ["kind"],
    multiprocess_mode="livemin",
)
RESTARTS = Counter("meshwarden_process_restarts", "Processes started again.", ["kind"])


class CheckCounts:
    """Counts checks in plain integers; `flush` moves them to the shared files.

    A counter of prometheus-client costs microseconds for each check; these cost a tenth of one.
    """

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self._buckets = [0] * (len(_BUCKETS_S) + 1)
        self._seconds = 0.0
        self._before = Counts()
        self._shadow_before: dict[str, int] = {}
        self._verdicts_before: dict[tuple[str, int], int] = {}

    def time(self, seconds: float) -> None:
        """Count one check's duration."""
        self._buckets[bisect_left(_BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def error(self, code: str) -> None:
        """Count one RPC error."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def flush(
        self,
        verdicts: Mapping[tuple[str, int], int],
        counts: Counts,
        shadow: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Add what was counted since the last flush to the process's file.

        Args:
            verdicts: The edge's running totals by verdict and HTTP status.
            counts: Its running totals of what was odd.
            shadow: Its running totals of what a shadow policy said. None of them ever goes down.
        """
        before, self._before = self._before, replace(counts)
        for key, total in list(verdicts.items()):
            if new := total - self._verdicts_before.get(key, 0):
                CHECKS.labels(key[0], str(key[1])).inc(new)
                self._verdicts_before[key] = total
        for cause in ("ambiguous", "unreadable", "faults", "invalid"):
            CHECK_CAUSES.labels(cause).inc(getattr(counts, cause) - getattr(before, cause))
        for outcome, total in shadow.items():
            if new := total - self._shadow_before.get(outcome, 0):
                SHADOW.labels(outcome).inc(new)
                self._shadow_before[outcome] = total
        for code, count in self.errors.items():
            CHECK_ERRORS.labels(code).inc(count)
        self.errors.clear()
        # The library has no call to add many observations at once; these two fields are what its
        # own `observe` adds to.
        for index, count in enumerate(self._buckets):
            if count:
                CHECK_SECONDS._buckets[index].inc(count)  # noqa: SLF001
                self._buckets[index] = 0
        if self._seconds:
            CHECK_SECONDS._sum.inc(self._seconds)  # noqa: SLF001
            self._seconds = 0.0


def exposition() -> bytes:
    """Give the sum over all processes, living and dead, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library leaves it so
    return generate_latest(registry)
