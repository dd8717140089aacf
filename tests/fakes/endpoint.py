"""A Workload API endpoint in this process: real relay, attestation and service; a fake server."""

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from grpc_reflection.v1alpha import reflection

from adapters.workload_attestors.unix import ADAPTER
from ca.entries import WorkloadEntry
from ca.selectors import Selector
from meshwarden import clock
from meshwarden.agent.attestation import Attestation
from meshwarden.agent.call_limit import OPTIONS, CallLimit
from meshwarden.agent.identities import Identities
from meshwarden.agent.relay import Relay
from meshwarden.agent.renewer import Renewer
from meshwarden.agent.tokens import Tokens
from meshwarden.agent.workload_api import WorkloadApi
from meshwarden.sds.secrets import WorkloadSecrets
from meshwarden.sds.service import SecretService
from protos.envoy.service.secret.v3 import sds_pb2_grpc
from protos.spiffe.workload import workload_pb2_grpc
from tests.fakes.signer import FakeSigner

__all__ = ["HEADER", "Endpoint", "endpoint", "own_entry"]

HEADER = (("workload.spiffe.io", "true"),)


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint.

    Attributes:
        socket: Where workloads connect.
        inner: The gRPC server's own socket.
        signer: The server behind it.
        identities: What it serves.
        relay: Its front.
        api: The service itself.
        tokens: What it has tokens from.
        renewer: What has certificates signed for it.
    """

    socket: Path
    inner: Path
    signer: FakeSigner
    identities: Identities
    relay: Relay
    api: WorkloadApi
    tokens: Tokens
    renewer: Renewer

    def know(self, *entries: WorkloadEntry) -> None:
        """Be told entries and bundle."""
        self.identities.set_entries(entries)
        self.identities.set_bundles((self.signer.bundle(),))

    def channel(self, path: Path | None = None) -> grpc.aio.Channel:
        """Open a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))
        return grpc.aio.insecure_channel(f"unix:{path or self.socket}", options=options)


def own_entry(name: str = "web", **fields: object) -> WorkloadEntry:
    """Make an entry that this very process matches."""
    selectors = (Selector("unix", f"uid:{os.getuid()}"),)
    return WorkloadEntry(name, f"spiffe://td.example/{name}", selectors, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def endpoint(
    folder: Path,
    ttl_s: float = 3600,
    most: int = 200,
    tokens_per_s: float = 10,
    identities_per_s: float = 1,
) -> AsyncIterator[Endpoint]:
    """Serve until the `with` ends."""
    private = folder / "p"
    private.mkdir(mode=0o700)
    signer = FakeSigner(clock.now_ns, ttl_s)
    identities = Identities(clock.now_ns, random.random)
    relay = Relay(private / "inner", private, most)
    attestation = Attestation(relay, {"unix": ADAPTER.build(ADAPTER.config())})
    tokens = Tokens(identities, signer, clock.now_ns, random.random, tokens_per_s)
    api = WorkloadApi(
        attestation,
        identities,
        tokens,
        clock.now_ns,
        lambda: "no server yet",
        identities_per_s=identities_per_s,
    )
    renewer = Renewer(identities, signer, clock.now_ns)
    limit = CallLimit(relay.user, 2 * most, api.note_crowd)
    server = grpc.aio.server(interceptors=(limit,), options=OPTIONS)
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(api, server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(
        SecretService(api.envoy_views, WorkloadSecrets, api.note_envoy, api.note_nack), server
    )
    reflection.enable_server_reflection((reflection.SERVICE_NAME,), server)
    server.add_insecure_port(f"unix:{private / 'inner'}")
    await server.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(folder / "api"))
        listener.listen(500)
        tasks = [
            asyncio.create_task(relay.serve(listener)),
            asyncio.create_task(renewer.run()),
        ]
        try:
            yield Endpoint(
                folder / "api", private / "inner", signer, identities, relay, api, tokens, renewer
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop(0)
