"""The registry as one process of control has it in memory: no call of an agent's asks the store.

It follows the store, whoever changes it, and tells whoever waits for a change by one event.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from ca.entry_index import AgentEntries, EntryIndex
from ca.errors import IdentityError, IdentityStoreError
from ca.registry import AgentRecord, Changes, RegistryStore

__all__ = ["Registry"]

_LOG = logging.getLogger(__name__)
# Entries taken in between two turns of others: a hundred thousand would hold the loop for a second.
_TURN = 500
_RETRY_S = 0.5
_Item = TypeVar("_Item")


class Registry:
    """Entries and agents, followed.

    Attributes:
        store: Where they are kept.
        changed: Is set at the next change of anything; then another one takes its place.
        fault: Why what is here may be out of date; "" where it is not.
    """

    def __init__(self, store: RegistryStore, trust_domain: str) -> None:
        self.store = store
        self.changed = asyncio.Event()
        self.fault = "it was not read yet"
        self._entries = EntryIndex(trust_domain)
        self._agents: dict[str, AgentRecord] = {}
        # Up to which version agents were read, and which are here from a later one.
        self._agents_version = 0
        self._noted: dict[str, int] = {}
        self._is_read = False
        self._admins: frozenset[str] | None = None
        self._version = 0
        self._refreshing = asyncio.Lock()

    @property
    def entries(self) -> EntryIndex:
        """All entries."""
        return self._entries

    @property
    def agents(self) -> Iterable[AgentRecord]:
        """All agents."""
        return self._agents.values()

    def agent(self, spiffe_id: str) -> AgentRecord | None:
        """Give an agent, as far as this process knows."""
        return self._agents.get(spiffe_id)

    def entries_of(self, agent: AgentRecord) -> AgentEntries:
        """Give the entries that an agent may issue for; see `EntryIndex.for_agent`.

        Raises:
            IdentityStoreError: They were not read yet: none is not what the agent should be told.
        """
        if not self._is_read:
            raise IdentityStoreError(f"entries can't be told yet: {self.fault}")
        return self._entries.for_agent(agent.spiffe_id, agent.selectors)

    def admins(self) -> frozenset[str]:
        """Give the SPIFFE IDs of workloads that may administer the service."""
        if self._admins is None:
            # Once for each change: every call of the admin API asks.
            found = (each.workload.spiffe_id for each in self._entries.all() if each.admin)
            self._admins = frozenset(found)
        return self._admins

    def note(self, agent: AgentRecord, version: int) -> None:
        """Take an agent that this process has just written, before the store tells of it.

        Args:
            agent: As it was written.
            version: Of that change. What came after it, such as a ban, may be known here already.
        """
        if version > self._agents_version:
            self._agents[agent.spiffe_id] = agent
            self._noted[agent.spiffe_id] = version

    async def refresh(self) -> None:
        """Read what changed in the store.

        Raises:
            IdentityStoreError: It can't be read; what was there stays.
        """
        async with self._refreshing:
            changes = await self.store.changes(self._version)
            if changes.version != self._version or changes.whole:
                await self._take(changes)
            self._is_read = True
            self.fault = ""

    async def run(self) -> None:
        """Follow the store, for ever."""
        async with contextlib.aclosing(self.store.watch()) as looks:
            async for _ in looks:
                # The store tells of a change once: a ban that can't be read now is read soon, and
                # not with the next change.
                while not await self._is_refreshed():
                    await asyncio.sleep(_RETRY_S)

    async def _is_refreshed(self) -> bool:
        try:
            await self.refresh()
        except IdentityError as error:
            if not self.fault:
                _LOG.warning("entries and agents may be out of date: %s", error)
            self.fault = str(error)
            return False
        return True

    def pulse(self) -> None:
        """Wake all who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def _take(self, changes: Changes) -> None:
        noted = dict(self._agents) if changes.whole else self._agents
        if changes.whole:
            self._agents.clear()
        # Whoever lost its identity loses it before anything else happens.
        for gone in changes.removed_agents:
            self._agents.pop(gone, None)
        for agent in changes.agents:
            known = noted.get(agent.spiffe_id)
            # What was read may be older than what this process has written since. Versions say so,
            # and no clock: replicas have several.
            if known is None or agent.banned or not self._is_later(agent, changes.version):
                self._agents[agent.spiffe_id] = agent
            else:
                self._agents[agent.spiffe_id] = known
        self._agents_version = changes.version
        self._noted = {name: at for name, at in self._noted.items() if at > changes.version}
        # Others look in between. What takes an entry's place is there before that goes: an agent
        # drops what it is told is gone.
        await _in_turns(changes.entries, self._entries.put)
        gone_entries: Iterable[str] = changes.removed_entries
        if changes.whole:
            kept = {each.workload.id for each in changes.entries}
            gone_entries = [
                each.workload.id for each in self._entries.all() if each.workload.id not in kept
            ]
        await _in_turns(gone_entries, self._entries.remove)
        self._admins = None
        self._version = changes.version
        self.pulse()

    def _is_later(self, agent: AgentRecord, version: int) -> bool:
        """Whether an agent is here from a later version than one that was read."""
        return self._noted.get(agent.spiffe_id, 0) > version


async def _in_turns(items: Iterable[_Item], take: Callable[[_Item], None]) -> None:
    for index, item in enumerate(items, 1):
        take(item)
        if index % _TURN == 0:
            await asyncio.sleep(0)
