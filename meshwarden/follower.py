"""Keeps a process deciding by the policy that was published last.

The new Snapshot is built aside and put in force by one assignment. A publication that can't be
read or built changes nothing: what was in force stays, and the fault is shown until a good one
comes. It is tried again even when the file hasn't changed, since the cause may have been elsewhere.
"""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from authz import masks
from authz.attributes import MESH_BINDING, Binding, reader
from authz.check import ActivePolicy
from authz.errors import AuthzError
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from meshwarden import clock, publication
from meshwarden.errors import FunctionModuleError
from meshwarden.functions import load_functions
from meshwarden.settings import Settings

__all__ = [
    "PolicyFollower",
    "PolicyState",
    "build_policy",
    "build_text",
    "engine_options",
    "shadow_settings",
]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.05  # One stat; a change is in force everywhere well within a second.
_START_POLL_S = 0.02
_ROWS_A_TURN = 500
_RETRY_S = 5.0
# A thread that builds 100,000 rules shares the interpreter lock with the loop that answers
# checks: at the default of 5 ms each answer could wait that long, several times over.
_SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True, slots=True)
class PolicyState:
    """Which policy a process decides by, and what is wrong with the next one.

    Attributes:
        digest: Of the policy in force; empty before the first.
        rules: How many rules it has.
        published_ns: When it was published.
        source: Where it came from.
        error: Why a newer one isn't in force; empty when there is none.
    """

    digest: str = ""
    rules: int = 0
    published_ns: int = 0
    source: str = ""
    error: str = ""


def engine_options(settings: Settings) -> EngineOptions:
    """Translate the config file's [engine] section for the engine."""
    return EngineOptions(
        attribute=reader,
        backtracking_regex=settings.engine.backtracking_regex,
        functions=load_functions(settings.engine.functions),
        now=clock.local_now,
        privacy=lambda attribute: masks.privacy(
            attribute, settings.decisions.headers, settings.decisions.claims
        ),
        masked=masks.masked_text,
    )


def build_policy(found: publication.Publication, settings: Settings) -> ActivePolicy:
    """Build what decides from what was published.

    Raises:
        AuthzError: It doesn't build here, as with a function module that isn't installed.
    """
    return build_text(found.text, found.bind, settings)


def build_text(text: PolicyText, bind: Mapping[str, str], settings: Settings) -> ActivePolicy:
    """Build what decides from a policy, wherever it comes from.

    Args:
        text: The policy.
        bind: Request field of a custom model to attribute.
        settings: How policy is built.

    Raises:
        AuthzError: It doesn't build here, as with a function module that isn't installed.
    """
    snapshot = Snapshot.build(text, bind or None, engine_options(settings))
    # The built-in model comes bound; a model of somebody's own says itself what its fields are.
    own = MESH_BINDING if text.model_file == "mesh" else {}
    return ActivePolicy(snapshot, Binding(snapshot.request_fields, {**own, **bind}))


def shadow_settings(settings: Settings) -> Settings:
    """Give the settings under which the shadow policy is loaded, published and followed."""
    state_dir = settings.runtime.state_dir / "shadow"
    return replace(
        settings,
        runtime=replace(settings.runtime, state_dir=state_dir),
        policy=replace(settings.policy, path=settings.policy.shadow or Path(), shadow=None),
    )


class HoldsPolicy(Protocol):
    """What a policy is put into: a CheckService, or the shadow of one."""

    policy: ActivePolicy | None


class PolicyFollower:
    """Watches one state directory for one CheckService, or for its shadow."""

    def __init__(
        self,
        settings: Settings,
        service: HoldsPolicy,
        changed: Callable[[PolicyState], None] = lambda _: None,
        *,
        may_end: bool = False,
    ) -> None:
        """Watch, once it is started.

        Args:
            settings: Where to look, and how policy is built.
            service: What a policy is put into.
            changed: Told of each change in the same turn of the loop in which it is put in force.
            may_end: Drop the policy when it was withdrawn, as a shadow is.
        """
        self._settings = settings
        self._service = service
        self._changed = changed
        self._may_end = may_end
        self._state_dir: Path = settings.runtime.state_dir
        self._seen: tuple[int, int, int] | None = None
        self._retry_at_s = 0.0
        self.state = PolicyState()

    async def start(self, timeout_s: float) -> None:
        """Wait for the first policy and put it in force.

        Raises:
            TimeoutError: Nothing that builds was published in time.
        """
        async with asyncio.timeout(timeout_s):
            while not self.state.digest:
                await self._look()
                if not self.state.digest:
                    await asyncio.sleep(_START_POLL_S)

    async def follow(self) -> None:
        """Put each new publication in force, for ever."""
        while True:
            await asyncio.sleep(_POLL_S)
            await self._look()

    async def _look(self) -> None:
        stamp = publication.stamp(self._state_dir)
        if stamp is None and self._may_end and self._service.policy is not None:
            self._seen = None
            await self._put(None, PolicyState(), [])
            return
        is_retry = bool(self.state.error) and clock.monotonic_s() >= self._retry_at_s
        if stamp is None or (stamp == self._seen and not is_retry):
            return
        self._seen = stamp
        self._retry_at_s = clock.monotonic_s() + _RETRY_S
        try:
            # One of the same digest too: its rules may stand on other lines.
            state, policy, rows = await asyncio.to_thread(self._build)
        except (
            AuthzError,
            FunctionModuleError,
            OSError,
            publication.BrokenPublicationError,
        ) as error:
            self._report(replace(self.state, error=str(error)))
            return
        await self._put(policy, state, rows)

    async def _put(self, policy: ActivePolicy | None, state: PolicyState, rows: list[Row]) -> None:
        """Put a policy in force by one assignment, and take the one before apart."""
        previous, self._service.policy = self._service.policy, policy
        self._report(state)
        # Dropped at once, 100,000 rules would stop all answers for a tenth of a second.
        while rows:
            del rows[-_ROWS_A_TURN:]
            await asyncio.sleep(0)
        if previous is not None:
            for _ in previous.snapshot.release():
                await asyncio.sleep(0)

    def _build(self) -> tuple[PolicyState, ActivePolicy, list[Row]]:
        """Read and build what was published; its rows come too, to be dropped little by little."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # A collection in the midst of it would walk all that is being built, and stop all answers
        # meanwhile. What was built lives long: later collections need not walk it either.
        collecting = gc.isenabled()
        gc.disable()
        try:
            found = publication.load(self._state_dir)
            policy = build_policy(found, self._settings)
            rules = policy.snapshot.rule_count
            state = PolicyState(found.digest, rules, found.published_ns, found.source)
            return state, policy, list(found.text.rows)
        finally:
            gc.freeze()
            if collecting:
                gc.enable()
            sys.setswitchinterval(before)

    def _report(self, state: PolicyState) -> None:
        if state == self.state:
            return
        self.state = state
        if state.error:
            what = "candidate not judged by" if self._may_end else "policy not put in force"
            _LOG.error("%s: %s", what, state.error)
        elif self._may_end and state.digest:
            _LOG.info("candidate %s beside the policy: %d rules", state.digest[:12], state.rules)
        elif self._may_end:
            _LOG.info("no candidate beside the policy any more")
        else:
            _LOG.info("policy %s in force: %d rules", state.digest[:12], state.rules)
        self._changed(state)
