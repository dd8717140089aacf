"""Thousands of agents at once: what each takes of memory, and how soon a change reaches all.

README.md beside this file says how it is measured.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from benchmarks.crowd import Crowd, Holder, attested
from benchmarks.harness import LOAD_CORE, Options, Result, Scenario, pinned, pss_bytes, run
from benchmarks.servers import Service, service
from benchmarks.silent import SilentClient, client_context
from ca.entries import WorkloadEntry
from ca.selectors import Selector
from meshwarden.agent.exchange import as_bundle
from meshwarden.identity_messages import selector_messages, workload_from
from meshwarden.supervisor.lifecycle import raise_file_limit
from protos.meshwarden.v1 import (
    agent_pb2,
    authority_pb2,
    authority_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
)

if TYPE_CHECKING:
    from protos.meshwarden.v1.registration_pb2_grpc import RegistrationAsyncStub

__all__ = ["main", "measure"]

_MEMORY = Scenario("agents/memory", "KiB", "lower", bar=1)
_CONTROL = Scenario("agents/memory-control", "KiB", "lower", bar=1)
_CHANGE = Scenario("agents/change", "s", "lower", bar=1)
_CHANGE_UNREAD = Scenario("agents/change-unread", "s", "lower", bar=1)
_HELD = Scenario("agents/held-unread", "KiB", "lower", bar=1)
_BACK = Scenario("agents/back", "s", "lower", bar=1)
_TRIES = Scenario("agents/back-tries", "each", "lower", bar=1)
# What is promised is the baseline itself.
_BARS = {
    _MEMORY: 100.0,
    _CONTROL: 30.0,
    _CHANGE: 5.0,
    _CHANGE_UNREAD: 5.0,
    _HELD: 256.0,
    _BACK: 30.0,
    _TRIES: 2.0,
}
_AGENTS, _QUICK_AGENTS = 2_000, 300
_CHANGES = 5
_PATIENCE_S = 120.0
_SETTLED_S = 2.0
_WARM = 20
# Readers that don't read, one to so many that do; each would get 4 MiB.
_TO_ONE_UNREAD = 20
_LARGE_ENTRIES, _LARGE_BYTES, _LARGE_AT_ONCE = 2_000, 2_000, 500

_SERVER_ID = "spiffe://bench.example/meshwarden/server"
_FLEET_ID = "spiffe://bench.example/fleet"
_UNREAD_ID = "spiffe://bench.example/unread"
_CROWD_ID = "spiffe://bench.example/crowd"
_FLEET = Selector("fleet", "bench")
_UNREAD = Selector("fleet", "unread")
_WORKLOAD = Selector("unix", "uid:1000")
_IDENTITY = """\
[identity]
trust_domain = "bench.example"
key_file = "{folder}/keys/sealing.key"

[identity.nodes]
attestations_per_s = 100_000
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What all scenarios play on.

    Attributes:
        ours: The service.
        registration: Its entries.
        bundle: PEM of its roots.
        folder: For files.
    """

    ours: Service
    registration: "RegistrationAsyncStub"
    bundle: bytes
    folder: Path

    async def put(
        self, parent_id: str, *workloads: agent_pb2.WorkloadEntry
    ) -> Sequence[WorkloadEntry]:
        """Make or change entries of one parent."""
        entries = [registration_pb2.Entry(workload=each, parent_id=parent_id) for each in workloads]
        reply = await self.registration.PutEntries(
            registration_pb2.PutEntriesRequest(entries=entries)
        )
        return [workload_from(each.workload) for each in reply.entries]

    async def agents(self, name: str, count: int, selector: Selector) -> list[Holder]:
        """Have agents let in."""
        tokens = []
        for number in range(count):
            reply = await self.registration.CreateJoinToken(
                registration_pb2.CreateJoinTokenRequest(
                    agent_path=f"{name}{number}", selectors=selector_messages([selector])
                )
            )
            tokens.append(reply.token)
        return await attested(self.ours.port, self.bundle, tokens)

    def crowd(self, holders: Sequence[Holder]) -> Crowd:
        """Make agents that aren't connected yet."""
        return Crowd(self.ours.port, self.bundle, holders, self.folder)

    def silent(self, holder: Holder) -> SilentClient:
        """Make an agent that asks and never reads."""
        file = self.folder / "silent.pem"
        file.write_bytes(holder.key + holder.chain)
        client = SilentClient(self.ours.port, client_context(self.bundle, file))
        client.open()
        client.call("/meshwarden.v1.Agent/Entries", b"")
        return client

    def memory(self) -> tuple[int, int]:
        """Give the bytes of front and control."""
        return pss_bytes(self.ours.front), pss_bytes(self.ours.control)


def measure(options: Options) -> Iterator[Result]:
    """Connect agents; measure memory, changes, readers that don't read, and the way back.

    Raises:
        LoadError: Not all agents get what they should.
        DemoError: The service does not start.
    """
    if not options.wants(*(each.name for each in _BARS)):
        return
    # A warning for each outage is what an agent has to say; thousands of agents say too much.
    logging.getLogger("meshwarden.agent").setLevel(logging.ERROR)
    raise_file_limit()
    agents = _QUICK_AGENTS if options.quick else _AGENTS
    with tempfile.TemporaryDirectory(prefix="mwb-") as name:
        folder = Path(name)
        identity = _IDENTITY.format(folder=folder)
        with service(folder / "s", has_own_tls=True, more=identity) as ours, pinned(LOAD_CORE):
            # All of it, whatever is asked for: each scenario begins where another one ended.
            found = asyncio.run(_measured(ours, agents, folder))
    for scenario, value in found.items():
        if options.wants(scenario.name):
            yield scenario.compare([value], [_BARS[scenario]])


async def _measured(ours: Service, agents: int, folder: Path) -> dict[Scenario, float]:
    found = {}
    async with _stage(ours, folder) as stage:
        await stage.put(_SERVER_ID, _entry(_FLEET_ID, _FLEET))
        (entry,) = await stage.put(_FLEET_ID, _entry(_CROWD_ID, _WORKLOAD))
        holders = await stage.agents("agent", agents, _FLEET)
        unread = await stage.agents("unread", agents // _TO_ONE_UNREAD, _UNREAD)
        async with _connected(stage.crowd(holders[:_WARM])):
            pass
        before = stage.memory()
        async with _connected(stage.crowd(holders)) as crowd:
            front, control = (
                (now - then) / 1024 / agents
                for now, then in zip(stage.memory(), before, strict=True)
            )
            found[_MEMORY], found[_CONTROL] = front + control, control
            found[_CHANGE] = await _changes(stage, crowd, entry)
            await _put_large(stage, unread[0])
            then = sum(stage.memory())
            silent = [stage.silent(each) for each in unread]
            await asyncio.sleep(_SETTLED_S)
            found[_HELD] = (sum(stage.memory()) - then) / 1024 / len(silent)
            found[_CHANGE_UNREAD] = await _changes(stage, crowd, entry)
            for each in silent:
                each.close()
            found[_BACK], found[_TRIES] = await _back(ours, crowd, agents)
    return found


async def _changes(stage: _Stage, crowd: Crowd, entry: WorkloadEntry) -> float:
    """Give the median time from asking for a change until the last agent knows it."""
    times = []
    for _ in range(_CHANGES):
        started_s = monotonic()
        workload = _entry(_CROWD_ID, _WORKLOAD)
        workload.id, workload.hint = entry.id, str(started_s)
        (changed,) = await stage.put(_FLEET_ID, workload)
        await crowd.until_told(changed, _PATIENCE_S)
        times.append(monotonic() - started_s)
    return median(times)


async def _put_large(stage: _Stage, reader: Holder) -> None:
    """Register what nobody will read, and have it read once: what is shared is held by then."""
    await stage.put(_SERVER_ID, _entry(_UNREAD_ID, _UNREAD))
    padding = "x" * (_LARGE_BYTES // 4)
    large = [
        _entry(
            f"{_UNREAD_ID}/{number}",
            *(Selector("unix", f"path:/{part}{padding}") for part in range(4)),
        )
        for number in range(_LARGE_ENTRIES)
    ]
    for start in range(0, len(large), _LARGE_AT_ONCE):
        await stage.put(_UNREAD_ID, *large[start : start + _LARGE_AT_ONCE])
    async with _connected(stage.crowd([reader])):
        pass


async def _back(ours: Service, crowd: Crowd, agents: int) -> tuple[float, float]:
    """Kill the front; give the time until all are served again, and how often each tried."""
    tries = crowd.sessions
    started_s = monotonic()
    os.kill(ours.front, signal.SIGKILL)
    await crowd.until_lost(_PATIENCE_S)
    await crowd.until_served(_PATIENCE_S)
    return monotonic() - started_s, (crowd.sessions - tries) / agents


@asynccontextmanager
async def _connected(crowd: Crowd) -> AsyncIterator[Crowd]:
    crowd.start()
    try:
        await crowd.until_served(_PATIENCE_S)
        await asyncio.sleep(_SETTLED_S)
        yield crowd
    finally:
        await crowd.stop()
    await asyncio.sleep(_SETTLED_S)


@asynccontextmanager
async def _stage(ours: Service, folder: Path) -> AsyncIterator[_Stage]:
    address = f"unix:{ours.folder / 'run' / 'admin.sock'}"
    async with grpc.aio.insecure_channel(address) as channel:
        bundle = await authority_pb2_grpc.AuthorityStub(channel).GetBundle(
            authority_pb2.GetBundleRequest()
        )
        registration = registration_pb2_grpc.RegistrationStub(channel)
        yield _Stage(ours, registration, as_bundle(bundle).to_pem().encode(), folder)


def _entry(identity: str, *selectors: Selector) -> agent_pb2.WorkloadEntry:
    return agent_pb2.WorkloadEntry(spiffe_id=identity, selectors=selector_messages(selectors))


def main() -> int:
    """Run as a program; give the exit code."""
    return run(__doc__.splitlines()[0], measure)


if __name__ == "__main__":
    sys.exit(main())
