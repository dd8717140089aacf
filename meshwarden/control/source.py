"""The way of policy from its source to every process: load, validate, publish.

Nothing is published that doesn't build: validation is building a Snapshot with the very code that
decides. A load that fails changes nothing; it is told, and tried again even if nothing changed,
since what was wrong may have been the disk, a mount or a module.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from authz.errors import AuthzError
from authz.policy.rules import PolicyText
from authz.policy_source import PolicySource
from meshwarden import clock, metrics, publication, status
from meshwarden.errors import FunctionModuleError
from meshwarden.faults import fault_id
from meshwarden.follower import build_policy
from meshwarden.settings import Settings

__all__ = ["PolicyPublisher", "Proven"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.2
# A source that takes work to look at is looked at more rarely: a twentieth of a core at most. To
# wait for a server is no work.
_LOOK_SHARE = 20
# An editor writes a file in several steps, a checkout many files: two looks alike are awaited. But
# something that changes without end must not keep a new policy out.
_SETTLE_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Proven:
    """A policy that has built here, by the settings in force.

    Attributes:
        text: The policy.
        digest: Of the Snapshot that it built.
        rules: How many that has.
    """

    text: PolicyText
    digest: str
    rules: int


class PolicyPublisher:
    """Brings one policy source's content to one state directory."""

    def __init__(
        self,
        settings: Settings,
        source: PolicySource,
        runtime_dir: Path,
        now_ns: Callable[[], int],
        *,
        is_shadow: bool = False,
    ) -> None:
        self._is_shadow = is_shadow
        self._settings = settings
        self._state_dir = settings.runtime.state_dir
        self._source = source
        self._runtime_dir = runtime_dir
        self._now_ns = now_ns
        self._lock = asyncio.Lock()
        self._failing = asyncio.Event()
        self._published: publication.Publication | None = None
        self._stamp: tuple[int, int, int] | None = None
        self._loaded_state = ""
        self.state = self._restored()

    def _restored(self) -> status.LoadState:
        """Begin with what an earlier life left, marked as such."""
        stamp = publication.stamp(self._state_dir)
        try:
            last = publication.load(self._state_dir)
        except FileNotFoundError:
            return status.LoadState()
        except publication.BrokenPublicationError as error:
            _LOG.error("the local copy of the policy is of no use: %s", error)
            return status.LoadState()
        self._published, self._stamp = last, stamp
        before = status.read_load(self._runtime_dir)
        if before.digest == last.digest:
            # Only control died. Since when loads have failed is still true.
            return before
        return status.LoadState(
            digest=last.digest,
            rules=last.rule_count,
            published_ns=last.published_ns,
            revision=last.revision,
            source=last.source,
            restored=True,
        )

    async def load(self, proven: Proven | None = None) -> status.LoadState:
        """Load, validate and publish once; two calls at once do it one after the other.

        Args:
            proven: A policy that was built a moment ago: if that is what the source gives, it need
                not be built again.
        """
        # Who asked may go away in its course. A thread can't be ended, so nobody gets a turn before
        # it has: the older policy, published last, would be the one in force.
        loading = asyncio.create_task(self._load_in_turn(proven))
        return await asyncio.shield(loading)

    async def _load_in_turn(self, proven: Proven | None) -> status.LoadState:
        async with self._lock:
            return await self._load_now(proven)

    async def notice(self) -> None:
        """Load if the source has changed since the last load; told by who has just seen it do so.

        Who changed it may have loaded it by now.
        """
        if self._settings.policy.watch:
            async with self._lock:
                if self._source.state() != self._loaded_state:
                    await self._load_now()

    async def _load_now(self, proven: Proven | None = None) -> status.LoadState:
        begun_ns = clock.monotonic_ns()
        state = await asyncio.to_thread(self._load, proven)
        self.state = msgspec.structs.replace(state, begun_ns=begun_ns)
        if self.state.errors:
            self._failing.set()
        else:
            self._failing.clear()
        status.write_load(self._runtime_dir, self.state)
        return self.state

    def _load(self, proven: Proven | None) -> status.LoadState:
        # Before the load: what changes in its course is then seen as a change.
        self._loaded_state = self._source.state()
        try:
            state = self._publish(proven)
        except (AuthzError, FunctionModuleError, OSError) as error:
            return self._failed(str(error).splitlines())
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end control either
            return self._failed([fault_id(error)])
        if self._is_shadow:
            return state
        metrics.POLICY_LOADS.labels("loaded").inc()
        metrics.POLICY_RULES.set(state.rules)
        metrics.POLICY_PUBLISHED.set(state.published_ns / 1e9)
        return state

    def _publish(self, proven: Proven | None) -> status.LoadState:
        text = self._source.load()
        self._loaded_state = self._source.loaded_state or self._loaded_state
        found = publication.Publication(
            text=text,
            bind=dict(self._settings.policy.bind),
            digest="",
            rule_count=0,
            published_ns=self._now_ns(),
            source=self._source.where,
            revision=self._source.revision,
        )
        if proven is None or proven.text != text:
            snapshot = build_policy(found, self._settings).snapshot
            proven = Proven(text, snapshot.digest, snapshot.rule_count)
        last = self._published
        same = last is not None and last.digest == proven.digest
        if last is not None and same:
            # The same rules on other lines: what is said of a decision must name the new ones.
            is_current = (last.text, last.source) == (found.text, found.source)
            found = msgspec.structs.replace(found, published_ns=last.published_ns)
            if is_current and publication.stamp(self._state_dir) == self._stamp:
                self._source.published()
                return self._good(last)
        found = msgspec.structs.replace(found, digest=proven.digest, rule_count=proven.rules)
        publication.publish(self._state_dir, found)
        self._published, self._stamp = found, publication.stamp(self._state_dir)
        self._source.published()
        if not same:
            _LOG.info("policy %s published from %s", found.digest[:12], found.source)
        return self._good(found)

    def _good(self, published: publication.Publication) -> status.LoadState:
        return status.LoadState(
            digest=published.digest,
            rules=published.rule_count,
            published_ns=published.published_ns,
            revision=published.revision,
            source=published.source,
            version=self._source.version,
        )

    def _failed(self, faults: list[str]) -> status.LoadState:
        metrics.POLICY_LOADS.labels("failed").inc()
        before = self.state
        if tuple(faults) != before.errors:
            for fault in faults:
                _LOG.error("policy not loaded: %s", fault)
        return msgspec.structs.replace(
            before, errors=tuple(faults), failed_ns=before.failed_ns or self._now_ns()
        )

    async def run(self) -> None:
        """Load now, and again on each change and while the last load has failed; for ever."""
        await self.load()
        await asyncio.gather(self._retry(), self._watch())

    async def _retry(self) -> None:
        while True:
            await self._failing.wait()
            await asyncio.sleep(self._source.retry_s)
            if self.state.errors:
                await self.load()

    def _look(self) -> tuple[str, float]:
        """The source's state, and what it took this thread to tell, in seconds of work."""
        begun_s = clock.thread_s()
        return self._source.state(), clock.thread_s() - begun_s

    async def _watch(self) -> None:
        if not self._settings.policy.watch:
            return
        seen = self._loaded_state
        unsettled_s = 0.0
        pause_s = _LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            before = seen
            seen, worked_s = await asyncio.to_thread(self._look)
            unsettled_s += pause_s
            pause_s = max(_LOOK_S, _LOOK_SHARE * worked_s)
            if seen == self._loaded_state:
                unsettled_s = 0.0
            elif seen == before or unsettled_s > _SETTLE_LIMIT_S:
                await self.load()
                unsettled_s = 0.0
