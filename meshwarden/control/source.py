"""The way of policy from its source to every process: load, validate, publish.

Nothing is published that doesn't build: validation is building a Snapshot with the very code that
decides. A load that fails changes nothing; it is told, and tried again even if nothing changed,
since what was wrong may have been the disk, a mount or a module.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from watchfiles import awatch

from authz.errors import AuthzError
from authz.policy_source import PolicySource
from meshwarden import metrics, publication, status
from meshwarden.errors import FunctionModuleError
from meshwarden.follower import build_policy
from meshwarden.settings import Settings

__all__ = ["PolicyPublisher"]

_LOG = logging.getLogger(__name__)
_RETRY_S = 5.0
_SETTLE_MS = 100  # An editor writes a file in several steps; a git checkout writes many files.


class PolicyPublisher:
    """Brings one policy source's content to one state directory."""

    def __init__(
        self,
        settings: Settings,
        source: PolicySource,
        runtime_dir: Path,
        now_ns: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._source = source
        self._runtime_dir = runtime_dir
        self._now_ns = now_ns
        self._lock = asyncio.Lock()
        self._attempts = 0
        self.state = self._restored()

    def _restored(self) -> status.LoadState:
        """Begin with what an earlier run left, marked as such."""
        try:
            last = publication.load(self._settings.runtime.state_dir)
        except (FileNotFoundError, publication.BrokenPublicationError):
            return status.LoadState()
        return status.LoadState(
            digest=last.digest, rules=len(last.text.rows), published_ns=last.published_ns,
            restored=True,
        )  # fmt: skip

    async def load(self) -> status.LoadState:
        """Load, validate and publish once; two calls at once do it one after the other."""
        async with self._lock:
            self._attempts += 1
            state = await asyncio.to_thread(self._load)
            self.state = state
            status.write_load(self._runtime_dir, state)
            return state

    def _load(self) -> status.LoadState:
        before = self.state
        try:
            text = self._source.load()
            found = publication.Publication(
                text=text,
                bind=dict(self._settings.policy.bind),
                digest="",
                published_ns=self._now_ns(),
                source=self._source.where,
            )
            snapshot = build_policy(found, self._settings).snapshot
            if snapshot.digest != before.digest:
                publication.publish(
                    self._settings.runtime.state_dir, _with_digest(found, snapshot.digest)
                )
        except (AuthzError, FunctionModuleError, OSError) as error:
            metrics.POLICY_LOADS.labels("failed").inc()
            faults = tuple(str(error).splitlines())
            if faults != before.errors:
                for fault in faults:
                    _LOG.error("policy not loaded: %s", fault)
            return status.LoadState(
                digest=before.digest,
                rules=before.rules,
                published_ns=before.published_ns,
                restored=before.restored,
                errors=faults,
                failed_ns=before.failed_ns or self._now_ns(),
                attempt=self._attempts,
            )
        metrics.POLICY_LOADS.labels("loaded").inc()
        metrics.POLICY_RULES.set(snapshot.rule_count)
        same = snapshot.digest == before.digest
        if not same:
            _LOG.info("policy %s published from %s", snapshot.digest[:12], self._source.where)
        published_ns = before.published_ns if same else found.published_ns
        metrics.POLICY_PUBLISHED.set(published_ns / 1e9)
        return status.LoadState(
            digest=snapshot.digest,
            rules=snapshot.rule_count,
            published_ns=published_ns,
            attempt=self._attempts,
        )

    async def run(self) -> None:
        """Load now, and again on each change and while the last load has failed; for ever."""
        await self.load()
        await asyncio.gather(self._retry(), self._watch())

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            if self.state.errors:
                await self.load()

    async def _watch(self) -> None:
        watched = self._source.watched
        if watched is None or not self._settings.policy.watch:
            return
        while True:
            try:
                async for _ in awatch(watched, step=_SETTLE_MS, debounce=_SETTLE_MS * 10):
                    await self.load()
            except FileNotFoundError:
                # The folder is gone; the retry above says so, and the watch begins anew with it.
                await self.load()
                await asyncio.sleep(_RETRY_S)


def _with_digest(found: publication.Publication, digest: str) -> publication.Publication:
    return publication.Publication(
        text=found.text,
        bind=found.bind,
        digest=digest,
        published_ns=found.published_ns,
        source=found.source,
    )
