"""What every process that answers Check is made of, whichever transport carries the calls.

A CheckService, the policy it follows, its health, its counts and its status file: a front inside
Envoy has one, and control has one where fronts can't run.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshwarden import clock, metrics, shadow, status
from meshwarden.files import RuntimeDir
from meshwarden.follower import PolicyFollower, PolicyState, shadow_settings
from meshwarden.front.asgi import Front, Limits
from meshwarden.health import Health
from meshwarden.service import check_service
from meshwarden.settings import Settings
from telemetry.record import DecisionRecord

if TYPE_CHECKING:
    from meshwarden.expiry import ServingFile

__all__ = ["Decider"]

_TICK_S = 0.2
_START_TIMEOUT_S = 30.0
# Sidecars don't compress. Who does gets gRPC's usual bound: 31 KB that inflate to 32 MiB would hold
# everybody else up for 0.1 s.
_BODIES_BYTES = 64 * 1024 * 1024  # Room for a hundred requests with a body of half a MiB.
_MAX_INFLATED_BYTES = 4 * 1024 * 1024


class Decider:
    """Everything one process needs to answer."""

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDir,
        name: str,
        epoch: int,
        offer: Callable[[DecisionRecord], None],
    ) -> None:
        self._runtime = runtime
        self._issues = settings.identity.is_on
        self._name = name
        self._epoch = epoch
        self._started_ns = clock.now_ns()
        self.service = check_service(settings, offer)
        self._follower = PolicyFollower(settings, self.service, self._policy_changed)
        self._shadow = PolicyFollower(
            shadow_settings(settings), self.service.shadow, self._shadow_changed, may_end=True
        )
        self._serving = _serving_file(settings.listen.tls.certificate)
        self._shadow_since_ns = 0
        self._shadow_before: Mapping[str, int] = {}
        self._shadow_told: shadow.Seen | None = None
        self.health = Health(
            lambda: self._follower.state,
            runtime.draining,
            self._stale_s,
            settings.policy.max_stale_s,
            self._expired,
        )
        self.counts = metrics.CheckCounts()
        # Past `max_request_bytes` a request is judged closed, not refused: only a body that no
        # sidecar sends, twice as long, is cut off unread.
        most_bytes = 2 * settings.check.max_request_bytes
        self.app = Front(
            self.service,
            self.health,
            Limits(
                settings.server.max_inflight,
                most_bytes,
                min(most_bytes, _MAX_INFLATED_BYTES),
                max(_BODIES_BYTES, 2 * most_bytes),
            ),
            self.counts,
            clock.now_ns,
        )

    async def start(self) -> None:
        """Put the first policy in force.

        Raises:
            TimeoutError: None was published in time.
        """
        await self._follower.start(_START_TIMEOUT_S)
        # What was loaded so far lives as long as the process: the collector need not walk it.
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Follow the policy and keep health, counts and status fresh, until cancelled.

        Ready is said from here on: begin when calls can come in.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follower.follow())
            group.create_task(self._tick())
            group.create_task(self._shadow.follow())

    def flush(self) -> None:
        """Put what was counted where every process sees it."""
        service = self.service
        self.counts.flush(service.verdicts, service.counts, service.shadow.outcomes)
        if self._shadow_since_ns:
            self._write_shadow_counts()

    async def _tick(self) -> None:
        told = None
        while True:
            if self._serving is not None:
                self._serving.look(clock.now_ns())
            self.health.refresh()
            if self.health.trouble != told:
                told = self.health.trouble
                self._write_status()
            self.flush()
            await asyncio.sleep(_TICK_S)

    def _expired(self) -> str:
        """Say what of the service's or of this process' own has expired."""
        told = ""
        if self._issues:
            with contextlib.suppress(FileNotFoundError):
                told = self._runtime.expired.read_text()
        return told or (self._serving.trouble if self._serving else "")

    def _policy_changed(self, state: PolicyState) -> None:
        metrics.POLICY_RULES.set(state.rules)
        metrics.POLICY_PUBLISHED.set(state.published_ns / 1e9)
        self._write_status()

    def _shadow_changed(self, state: PolicyState) -> None:
        """Count from here on for this candidate; not one check lies between it and the last."""
        if state.published_ns != self._shadow_since_ns:
            self._shadow_since_ns = state.published_ns
            self._shadow_before = dict(self.service.shadow.outcomes)

    def _write_shadow_counts(self) -> None:
        since = {
            name: total - self._shadow_before.get(name, 0)
            for name, total in self.service.shadow.outcomes.items()
        }
        seen = shadow.Seen(self._shadow_since_ns, os.getpid(), **since)
        if seen != self._shadow_told:
            self._shadow_told = seen
            name = f"{self._name}-{os.getpid()}-{self._started_ns}"
            shadow.write_counts(self._runtime.path, name, seen)

    def _write_status(self) -> None:
        state = self._follower.state
        status.write(
            self._runtime.path,
            status.ProcessStatus(
                kind="front",
                name=self._name,
                pid=os.getpid(),
                epoch=self._epoch,
                started_ns=self._started_ns,
                digest=state.digest,
                rules=state.rules,
                ready=not self.health.trouble,
                error=state.error or self.health.trouble,
            ),
        )

    def _stale_s(self) -> float:
        failed_ns = status.read_load(self._runtime.path).failed_ns
        return (clock.now_ns() - failed_ns) / 1e9 if failed_ns else 0.0


def _serving_file(certificate: Path | None) -> "ServingFile | None":
    if certificate is None:
        return None
    from meshwarden.expiry import ServingFile  # noqa: PLC0415 - it loads what authorities need

    return ServingFile(certificate)
