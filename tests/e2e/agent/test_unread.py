"""Agents that ask and never read: each holds a little of the service, and nothing of the others."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.crowd import Crowd, attested
from benchmarks.harness import anonymous_bytes
from benchmarks.silent import SilentClient, client_context
from ca.entries import WorkloadEntry
from meshwarden.agent.exchange import as_bundle
from meshwarden.identity_messages import workload_from
from protos.meshwarden.v1 import (
    agent_pb2,
    authority_pb2,
    authority_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
)
from tests.e2e.support.agent import SETTINGS
from tests.e2e.support.instance import Instance, Place

SERVER = "spiffe://td.example/meshwarden/server"
FLEET = "spiffe://td.example/fleet"
AGENTS, STREAMS_OF_EACH = 10, 4
# Of what they don't read there is 1.2 MB for each; memory of its own, TLS and all, is 70 KiB.
ENTRIES, PADDING = 600, "x" * 1000
HELD_BYTES = 256 * 1024
TOLD_S = 5.0


def workload(name: str, *paths: str, entry_id: str = "") -> agent_pb2.WorkloadEntry:
    """Write an entry."""
    selectors = [agent_pb2.Selector(kind="unix", value=f"path:/{path}") for path in paths]
    return agent_pb2.WorkloadEntry(id=entry_id, spiffe_id=f"{FLEET}/{name}", selectors=selectors)


async def put(
    registration: "registration_pb2_grpc.RegistrationAsyncStub",
    parent_id: str,
    workloads: Sequence[agent_pb2.WorkloadEntry],
) -> list[WorkloadEntry]:
    """Register entries."""
    entries = [registration_pb2.Entry(workload=each, parent_id=parent_id) for each in workloads]
    reply = await registration.PutEntries(registration_pb2.PutEntriesRequest(entries=entries))
    return [workload_from(each.workload) for each in reply.entries]


async def play(place: Place, instance: Instance, folder: Path) -> None:
    """Have one agent that reads and forty streams that nobody reads."""
    async with grpc.aio.insecure_channel(f"unix:{place.run_dir / 'admin.sock'}") as channel:
        registration = registration_pb2_grpc.RegistrationStub(channel)
        told = await authority_pb2_grpc.AuthorityStub(channel).GetBundle(
            authority_pb2.GetBundleRequest()
        )
        bundle = as_bundle(told).to_pem().encode()
        node = agent_pb2.Selector(kind="fleet", value="all")
        alias = agent_pb2.WorkloadEntry(spiffe_id=FLEET, selectors=[node])
        await put(registration, SERVER, [alias])
        large = [workload(str(each), f"a{PADDING}", f"b{PADDING}") for each in range(ENTRIES)]
        await put(registration, FLEET, large)
        tokens = [
            await registration.CreateJoinToken(
                registration_pb2.CreateJoinTokenRequest(selectors=[node])
            )
            for _ in range(AGENTS + 1)
        ]
        *silent, reading = await attested(place.port, bundle, [each.token for each in tokens])
        crowd = Crowd(place.port, bundle, [reading], folder)
        crowd.start()
        await crowd.until_served(30)

        def memory() -> int:
            return anonymous_bytes(instance.front()) + anonymous_bytes(instance.control)

        before = memory()
        with ExitStack() as stack:
            for holder in silent * STREAMS_OF_EACH:
                identity = folder / "identity.pem"
                identity.write_bytes(holder.key + holder.chain)
                client = SilentClient(place.port, client_context(bundle, identity))
                stack.enter_context(closing(client))
                client.open()
                client.call("/meshwarden.v1.Agent/Entries", b"")
            await asyncio.sleep(3)
            assert (memory() - before) / (AGENTS * STREAMS_OF_EACH) < HELD_BYTES
            (entry,) = await put(registration, FLEET, [workload("new", "bin/new")])
            await crowd.until_told(entry, TOLD_S)
        await crowd.stop()


def test_who_does_not_read_holds_little_and_stops_nobody(new_folder: Callable[[], Path]) -> None:
    """Forty streams, with 1.2 MB to come for each."""
    folder = new_folder()
    place = Place(
        folder,
        {"policy.csv": "p, *, *, *, /**, allow\n"},
        {**SETTINGS, "identity.key_file": str(folder / "sealing.key")},
    )
    with place.start() as instance:
        instance.wait_ready()
        asyncio.run(play(place, instance, new_folder()))
