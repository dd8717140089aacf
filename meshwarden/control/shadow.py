"""The candidate beside the policy in force: set, kept, shared by replicas, taken away.

With a store it is the newest revision of a stream of its own, which all replicas follow; one
without rows or model says that there is none. Without a store it is what this machine was told.
Either way it is published as the policy is, where nothing but shadows looks.
"""

import asyncio
import logging
from collections.abc import Callable

from authz.errors import AuthzError
from authz.policy.rules import PolicyText
from authz.policy.snapshot import Snapshot
from authz.replicas import ShadowCounts
from authz.revisions import AuditEntry, Draft, Revision, RevisionStore, StoreUnavailableError
from meshwarden import plugins, publication, shadow
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.who import Who
from meshwarden.errors import FunctionModuleError
from meshwarden.files import RuntimeDir
from meshwarden.follower import build_text, shadow_settings
from meshwarden.settings import Settings

__all__ = ["STREAM", "FixedShadowError", "OtherShadowError", "ShadowKeeper"]

STREAM = "shadow"
"""The sequence of candidates."""

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0


class FixedShadowError(AuthzError):
    """The configuration names the candidate; it is changed there, and by nobody else."""

    code = "FAILED_PRECONDITION"


class OtherShadowError(AuthzError):
    """Somebody has set another candidate meanwhile; look at it first."""

    code = "ABORTED"


class ShadowKeeper:
    """Keeps the candidate of one instance.

    Attributes:
        errors: Why the candidate that was set can't be judged by; empty when it is.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDir,
        store: RevisionStore | None,
        now_ns: Callable[[], int],
    ) -> None:
        """Keep what an earlier life left, unless the configuration says otherwise.

        Args:
            settings: How policy is built; `policy.shadow` is the candidate's folder, if set.
            runtime: Where processes say what they have seen.
            store: Where revisions are kept; None when policy comes from elsewhere.
            now_ns: The time.
        """
        self._settings = settings
        self._runtime = runtime
        self._store = store
        self._now_ns = now_ns
        self._apart = shadow_settings(settings)
        self._dir = self._apart.runtime.state_dir
        self._tally = shadow.Tally(self._dir, runtime.path)
        self._lock = asyncio.Lock()
        self._publisher: PolicyPublisher | None = None
        self._candidate = shadow.read_candidate(self._dir)
        self.errors: tuple[str, ...] = ()
        try:
            for folder in (self._dir, runtime.path / "shadow"):
                folder.mkdir(mode=0o700, exist_ok=True)
            if settings.policy.shadow is not None:
                self._forget()
            elif self._candidate is None:
                publication.withdraw(self._dir)
        except OSError as error:
            # Nobody obeys a candidate: a disk that takes nothing must not keep control from policy.
            _LOG.error("what was left of a candidate stays: %s: %s", self._dir, error.strerror)
        if settings.policy.shadow is not None:
            self._publisher = self._folder_publisher()

    def _folder_publisher(self) -> PolicyPublisher:
        adapter = plugins.load("policies", "folder")
        source = adapter.build(adapter.config(path=self._apart.policy.path))
        runtime_dir = self._runtime.path / "shadow"
        return PolicyPublisher(self._apart, source, runtime_dir, self._now_ns, is_shadow=True)

    @property
    def candidate(self) -> shadow.Candidate | None:
        """What is judged beside the policy in force; None for nothing."""
        if self._publisher is None:
            return self._candidate
        state = self._publisher.state
        self.errors = state.errors
        if not state.digest:
            return None
        where = str(self._settings.policy.shadow)
        return shadow.Candidate(
            state.digest, state.rules, "policy.shadow", where, "", state.published_ns, is_fixed=True
        )

    @property
    def counts(self) -> ShadowCounts:
        """What was seen of it on this machine, as of a second ago."""
        found = self.candidate
        return ShadowCounts() if found is None else self._tally.counts(found.digest)

    def text(self) -> PolicyText | None:
        """Read the candidate; None where there is none."""
        try:
            return publication.load(self._dir).text if self.candidate else None
        except FileNotFoundError:
            return None

    async def set(self, text: PolicyText, origin: str, message: str, who: Who) -> shadow.Candidate:
        """Put a candidate beside the policy in force.

        Raises:
            AuthzError: It has faults, or can't be set; nothing was changed.
            FunctionModuleError: A function of its isn't installed here; likewise.
        """
        self._check_free()
        # Who asked may go away in its course; its thread goes on, and nobody gets a turn before it
        # has ended.
        setting = asyncio.create_task(self._set_in_turn(text, origin, message, who))
        return await asyncio.shield(setting)

    async def _set_in_turn(
        self, text: PolicyText, origin: str, message: str, who: Who
    ) -> shadow.Candidate:
        async with self._lock:
            snapshot = await asyncio.to_thread(self._built, text)
            candidate = shadow.Candidate(
                snapshot.digest, snapshot.rule_count, who.name, origin, message, self._now_ns()
            )
            if self._store is not None:
                made = await self._commit(self._store, text, candidate, "shadow.set", who)
                candidate = _candidate(made, snapshot.rule_count)
            await asyncio.to_thread(self._publish, text, candidate)
        _LOG.info("candidate %s set by %s", candidate.digest[:12], who.name)
        return candidate

    async def stop(self, digest: str, who: Who) -> shadow.Candidate | None:
        """Take the candidate away; give what it was.

        Args:
            digest: Only if it is still this one; "" for whichever it is.
            who: Who says so.

        Raises:
            AuthzError: It is another one, or can't be taken away; nothing was changed.
        """
        self._check_free()
        async with self._lock:
            before = self._candidate
            if before is None:
                return None
            if digest and digest != before.digest:
                raise OtherShadowError(
                    f"{before.author} has set another candidate meanwhile, from {before.origin}; "
                    "look at it by 'meshwarden policy shadow show'"
                )
            if self._store is not None:
                none = shadow.Candidate("", 0, who.name, "", "", self._now_ns())
                await self._commit(self._store, PolicyText("", ()), none, "shadow.stop", who)
            self._withdraw()
        _LOG.info("candidate %s taken away by %s", before.digest[:12], who.name)
        return before

    async def run(self) -> None:
        """Follow what other replicas set, and add up what is seen, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count())
            if self._publisher is not None:
                group.create_task(self._publisher.run())
            elif self._store is not None:
                group.create_task(self._follow(self._store))

    def _check_free(self) -> None:
        if self._publisher is not None:
            raise FixedShadowError(
                f"policy.shadow of the configuration names the candidate: "
                f"{self._settings.policy.shadow}; change it there, or take the setting out"
            )

    def _built(self, text: PolicyText) -> Snapshot:
        return build_text(text, self._settings.policy.bind, self._apart).snapshot

    def _publish(self, text: PolicyText, candidate: shadow.Candidate) -> None:
        found = publication.Publication(
            text=text,
            bind=dict(self._settings.policy.bind),
            digest=candidate.digest,
            published_ns=candidate.set_ns,
            source=candidate.origin,
            rule_count=candidate.rules,
            revision=candidate.number,
        )
        try:
            publication.publish(self._dir, found)
            shadow.write_candidate(self._dir, candidate)
        except OSError as error:
            raise StoreUnavailableError(
                f"the candidate can't be kept: {self._dir}: {error.strerror}"
            ) from error
        self._candidate, self.errors = candidate, ()

    def _withdraw(self) -> None:
        try:
            publication.withdraw(self._dir)
            self._forget()
        except OSError as error:
            raise StoreUnavailableError(
                f"the candidate can't be taken away: {self._dir}: {error.strerror}"
            ) from error

    def _forget(self) -> None:
        shadow.write_candidate(self._dir, None)
        self._candidate, self.errors = None, ()

    async def _commit(
        self,
        store: RevisionStore,
        text: PolicyText,
        candidate: shadow.Candidate,
        action: str,
        who: Who,
    ) -> Revision:
        head = await store.head(STREAM)
        draft = Draft(
            text=text,
            digest=candidate.digest,
            author=who.name,
            message=candidate.message,
            origin=candidate.origin,
            bind=self._settings.policy.bind,
        )
        detail = candidate.message or candidate.origin
        audit = AuditEntry(candidate.set_ns, who.name, who.source, action, "done", "", detail)
        return await store.commit(STREAM, head.number if head else 0, draft, audit)

    async def _follow(self, store: RevisionStore) -> None:
        async for _ in store.changes():
            try:
                async with self._lock:
                    await self._take_newest(store)
            except StoreUnavailableError as error:
                _LOG.debug("no look for a candidate: %s", error)
            except (AuthzError, FunctionModuleError) as error:
                if (told := tuple(str(error).splitlines())) != self.errors:
                    self.errors = told
                    _LOG.error("the candidate can't be judged by: %s", error)

    async def _take_newest(self, store: RevisionStore) -> None:
        head = await store.head(STREAM)
        known = self._candidate.number if self._candidate else 0
        if head is None or not head.digest:
            if self._candidate is not None:
                self._withdraw()
            return
        if head.number == known:
            return
        revision, draft = await store.read(STREAM, head.number)
        snapshot = await asyncio.to_thread(self._built, draft.text)
        candidate = _candidate(revision, snapshot.rule_count)
        await asyncio.to_thread(self._publish, draft.text, candidate)

    async def _count(self) -> None:
        is_failing = False
        while True:
            found = self.candidate
            if found is not None:
                try:
                    self._tally.look(found.set_ns)
                    is_failing = False
                except OSError as error:
                    if not is_failing:
                        _LOG.warning("the shadow's counts can't be kept: %s", error.strerror)
                    is_failing = True
            await asyncio.sleep(_LOOK_S)


def _candidate(revision: Revision, rules: int) -> shadow.Candidate:
    return shadow.Candidate(
        digest=revision.digest,
        rules=rules,
        author=revision.author,
        origin=revision.origin,
        message=revision.message,
        set_ns=revision.created_ns,
        number=revision.number,
    )
