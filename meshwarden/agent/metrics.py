"""What the agent's metrics are: one row each, read off its parts when somebody asks.

Labels have few values, all of them written here or in the part that counts: no SPIFFE ID, user,
path or audience is one. Names that control has too mean the same and have the same labels; it
counts SVIDs as the one who signs, so orders have a name of their own, or sums would count twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from typing_extensions import override

from meshwarden.agent.door import Door
from meshwarden.agent.identities import Identities
from meshwarden.agent.link import Link
from meshwarden.agent.relay import Relay
from meshwarden.agent.renewer import Renewer
from meshwarden.agent.tokens import Tokens
from meshwarden.agent.workload_api import WorkloadApi

__all__ = ["CONTENT_TYPE", "AgentMetrics", "Parts"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an agent that have something to tell."""

    door: Door
    link: Link
    identities: Identities
    renewer: Renewer
    tokens: Tokens
    api: WorkloadApi
    relay: Relay


class AgentMetrics(Collector):
    """Reads an agent's parts, in its own thread: they are not locked."""

    def __init__(self, parts: Parts) -> None:
        """Read nothing yet."""
        self._parts = parts
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """Give everything in Prometheus' text format; O(certificates kept)."""
        return generate_latest(self._registry)

    @override
    def collect(self) -> Iterator[Metric]:
        parts = self._parts
        state, identities = parts.link.state, parts.identities
        ends_ns = [svid.not_after_ns for svid in identities.svids.values()]
        yield _gauges(
            "meshwarden_certificate_not_after_timestamp_seconds",
            "When the first of a kind's authorities and certificates in use expires.",
            "kind",
            {
                kind: at_ns / _SECOND_NS
                for kind, at_ns in (
                    ("agent", parts.door.not_after_ns),
                    ("workload", min(ends_ns, default=0)),
                )
                if at_ns  # A time of 0 would be one that has passed.
            },
        )
        yield _gauges(
            "meshwarden_agent_svids",
            "SVIDs that the agent has for workloads.",
            "kind",
            {"x509": len(ends_ns), "jwt": parts.tokens.kept},
        )
        orders = CounterMetricFamily(
            "meshwarden_agent_orders",
            "SVIDs that the agent ordered from the service, by what became of them.",
            labels=["kind", "outcome"],
        )
        for kind, outcomes in (("x509", parts.renewer.outcomes), ("jwt", parts.tokens.outcomes)):
            for outcome, total in outcomes.items():
                orders.add_metric([kind, outcome], total)
        yield orders
        yield _gauge(
            "meshwarden_agent_connected",
            "Whether the agent follows the service: 1 or 0.",
            int(state.connected),
        )
        yield _gauge(
            "meshwarden_agent_synced_timestamp_seconds",
            "When entries were last taken from the service, changed or not: at each connection, "
            "and when they change.",
            state.synced_ns / _SECOND_NS if state.synced_ns else None,
        )
        yield CounterMetricFamily(
            "meshwarden_agent_sessions",
            "Sessions with the service that were begun, those that came to nothing included.",
            value=state.sessions,
        )
        yield _gauge(
            "meshwarden_agent_entries",
            "Entries that the agent follows.",
            None if identities.entries is None else len(identities.entries),
        )
        yield _gauges(
            "meshwarden_agent_streams",
            "Calls of workloads that go on, by the API they are of.",
            "api",
            parts.api.streams,
        )
        yield _gauge(
            "meshwarden_agent_connections", "Open connections of workloads.", parts.relay.count
        )
        refusals = CounterMetricFamily(
            "meshwarden_agent_refusals",
            "Calls and connections of workloads that were refused, or ended, by reason.",
            labels=["reason"],
        )
        reasons = {**parts.api.refusals, "connection": parts.relay.refused}
        for reason, total in reasons.items():
            refusals.add_metric([reason], total)
        yield refusals


def _gauge(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    """Make a gauge; without a sample where there is no value yet."""
    family = GaugeMetricFamily(name, words)
    if value is not None:
        family.add_metric([], value)
    return family


def _gauges(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
