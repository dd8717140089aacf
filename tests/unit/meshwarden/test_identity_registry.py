"""The registry in memory: nothing is told before it is known, and nothing is missing in between."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.identity.entries import open_registry
from ca.entries import Entry, WorkloadEntry
from ca.errors import IdentityStoreError
from ca.registry import AgentRecord, Audit, Changes
from ca.selectors import Selector
from meshwarden.control.identity.registry import Registry

AGENT = AgentRecord("spiffe://td/meshwarden/agent/t/a", "t", frozenset(), 1, 2, "ab", b"c" * 32)


def entry(number: int, name: str = "") -> Entry:
    """One of many."""
    selectors = (Selector("unix", f"uid:{number}"),)
    workload = WorkloadEntry(name or f"e{number}", f"spiffe://td/w{number}", selectors)
    return Entry(workload, AGENT.spiffe_id)


def test_an_agent_is_never_told_of_no_entries_before_they_were_read(tmp_path: Path) -> None:
    """It would drop the identities of all its workloads."""

    async def story() -> None:
        store = open_registry("", tmp_path / "store.db")
        registry = Registry(store, "td")
        with pytest.raises(IdentityStoreError, match="not read yet"):
            registry.entries_of(AGENT)
        await registry.refresh()
        assert not registry.entries_of(AGENT).entries
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("whole", [True, False])
def test_what_takes_an_entrys_place_is_there_before_that_goes(*, whole: bool) -> None:
    """Whoever looks while a large change is taken finds the old, the new, or both."""

    async def story() -> None:
        registry = Registry(open_registry("", Path("unused.db")), "td")
        registry._is_read = True
        await registry._take(Changes(1, whole=True, entries=[entry(n) for n in range(2000)]))
        renamed = [entry(n, f"f{n}") for n in range(2000)]
        gone = [] if whole else [f"e{n}" for n in range(2000)]
        taking = asyncio.create_task(
            registry._take(Changes(2, whole=whole, entries=renamed, removed_entries=gone))
        )
        looks = 0
        while not taking.done():
            there = {each.spiffe_id for each in registry.entries_of(AGENT).entries.values()}
            assert len(there) == 2000
            looks += 1
            await asyncio.sleep(0)
        assert looks > 3
        assert set(registry.entries_of(AGENT).entries) == {f"f{n}" for n in range(2000)}

    asyncio.run(story())


def test_what_this_process_wrote_is_not_undone_by_an_older_look_into_the_store() -> None:
    """A renewed agent stays renewed; a ban counts, whenever it was read."""

    async def story() -> None:
        registry = Registry(open_registry("", Path("unused.db")), "td")
        renewed = replace(AGENT, svid_expires_ns=9, certificate_sha256=b"d" * 32)
        for whole in (True, False):
            registry.note(renewed, 2)
            await registry._take(Changes(1, whole=whole, agents=[AGENT]))
            assert registry.agent(AGENT.spiffe_id) == renewed
        banned = replace(AGENT, banned=True)
        await registry._take(Changes(3, agents=[banned]))
        assert registry.agent(AGENT.spiffe_id) == banned
        await registry._take(Changes(4, removed_agents=[AGENT.spiffe_id]))
        assert registry.agent(AGENT.spiffe_id) is None

    asyncio.run(story())


def test_what_was_read_already_is_not_undone_by_what_this_process_wrote_before_it() -> None:
    """A ban or an eviction is often known before the answer to who attested is on its way."""

    async def story() -> None:
        registry = Registry(open_registry("", Path("unused.db")), "td")
        banned = replace(AGENT, banned=True)
        await registry._take(Changes(2, agents=[banned]))
        registry.note(AGENT, 1)
        assert registry.agent(AGENT.spiffe_id) == banned
        await registry._take(Changes(4, removed_agents=[AGENT.spiffe_id]))
        registry.note(AGENT, 3)
        assert registry.agent(AGENT.spiffe_id) is None
        registry.note(AGENT, 5)
        assert registry.agent(AGENT.spiffe_id) == AGENT

    asyncio.run(story())


def test_an_agent_that_attested_where_the_clock_is_behind_is_taken_as_it_is_now() -> None:
    """The certificate that it had before is good no more, here either."""

    async def story() -> None:
        registry = Registry(open_registry("", Path("unused.db")), "td")
        registry.note(replace(AGENT, attested_ns=100, svid_expires_ns=200), 1)
        anew = replace(AGENT, attested_ns=50, svid_expires_ns=150, certificate_sha256=b"d" * 32)
        await registry._take(Changes(2, agents=[anew]))
        assert registry.agent(AGENT.spiffe_id) == anew

    asyncio.run(story())


def test_a_ban_that_can_not_be_read_at_once_is_read_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store tells of it once: the next change may be days away."""

    async def story() -> None:
        store, other = (open_registry("", tmp_path / "store.db") for _ in range(2))
        audit = Audit(1, "local:ann", "local", "agent.ban", "done")
        await other.put_agent(AGENT, audit)
        registry = Registry(store, "td")
        following = asyncio.create_task(registry.run())
        while registry.agent(AGENT.spiffe_id) is None:
            await asyncio.sleep(0.01)
        read, asked = store.changes, asyncio.Event()

        async def dropped(version: int) -> Changes:
            asked.set()
            raise IdentityStoreError(f"the store did not answer; {version} was the last")

        monkeypatch.setattr(store, "changes", dropped)
        await other.ban_agent(AGENT.spiffe_id, banned=True, audit=audit)
        await asked.wait()
        monkeypatch.setattr(store, "changes", read)
        async with asyncio.timeout(5):
            while not (known := registry.agent(AGENT.spiffe_id)) or not known.banned:
                await asyncio.sleep(0.01)
        assert not registry.fault
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()
        await other.close()

    asyncio.run(story())
