"""Forgets agents that expired long ago: nodes that came and went would fill the registry for ever.

Every replica does it, and whichever comes first has done it.
"""

import asyncio
import logging
from collections.abc import Callable

from ca.errors import IdentityError
from ca.registry import Audit, RegistryStore
from meshwarden.cli.durations import age

__all__ = ["Forgetting", "forget"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 600.0
# What a clock may be set by between two looks.
_STEADY_S = 60.0
_DAY_S = 86_400
_SECOND_NS = 1_000_000_000
_ACTION = "agent.forget"


class Forgetting:
    """Looks for agents to forget, again and again."""

    def __init__(self, store: RegistryStore, days: int, now_ns: Callable[[], int]) -> None:
        """Forget none yet.

        Args:
            store: Where agents are kept.
            days: How long after their expiry.
            now_ns: The time.
        """
        self._store = store
        self._for_s = days * _DAY_S
        self._now_ns = now_ns

    async def run(self) -> None:
        """Look every ten minutes, for ever.

        A machine that boots with a clock of next year would forget everybody: nothing is forgotten
        before it has run for a while without being set.
        """
        elapsed_s = asyncio.get_running_loop().time
        while True:
            began_s, began_ns = elapsed_s(), self._now_ns()
            await asyncio.sleep(_LOOK_S)
            set_s = (self._now_ns() - began_ns) / _SECOND_NS - (elapsed_s() - began_s)
            if abs(set_s) > _STEADY_S:
                _LOG.warning("the clock was set by %.0f s: no agent is forgotten for now", set_s)
                continue
            try:
                await self.look()
            except IdentityError as error:
                _LOG.warning("agents that expired long ago are not forgotten yet: %s", error)

    async def look(self) -> None:
        """Forget those that are due.

        Raises:
            IdentityStoreError: The store can't be reached; the next look tries again.
        """
        gone = await forget(self._store, self._for_s, self._now_ns(), ("service", "local"))
        if gone:
            _LOG.info("%d agents that expired %s ago or more are forgotten", gone, age(self._for_s))


async def forget(
    store: RegistryStore, expired_for_s: int, now_ns: int, who: tuple[str, str]
) -> int:
    """Forget all agents that expired so long ago; give their number.

    Args:
        store: Where they are kept.
        expired_for_s: How long ago, in seconds.
        now_ns: The time.
        who: Has them forgotten, and from where.

    Raises:
        IdentityStoreError: The store can't be reached; some of them may be forgotten.
    """
    name, source = who
    audit = Audit(
        now_ns, name, source, _ACTION, "done", f"expired {age(expired_for_s)} ago or more"
    )
    before_ns = now_ns - expired_for_s * _SECOND_NS
    count = 0
    while gone := await store.forget_agents(before_ns, audit):
        count += len(gone)
    return count
