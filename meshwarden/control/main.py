"""The control process: three gRPC servers on three Unix sockets, and the tasks that need one home.

Read `_serve` to see all of it. Where pyvoy can't run, control also serves Check itself
(`grpcio_edge.py`); nothing else about it changes.
"""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from meshwarden import clock, metrics, plugins, status
from meshwarden.config import restore
from meshwarden.control.access import AccessInterceptor, LocalGate
from meshwarden.control.decision_log import DecisionLog
from meshwarden.control.grpcio_edge import SERVER_OPTIONS, GrpcioEdge
from meshwarden.control.live_service import LiveService, ShadowService
from meshwarden.control.policy_service import PolicyService
from meshwarden.control.replicas import ReplicaReporter
from meshwarden.control.services import AdminService, IdentityService, InternalService
from meshwarden.control.shadow import ShadowKeeper
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.store_source import StoreSource
from meshwarden.files import (
    EDGE_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    RuntimeDir,
)
from meshwarden.logs import configure_logging
from meshwarden.settings import STORE, Settings
from protos.envoy.service.auth.v3 import external_auth_pb2
from protos.meshwarden.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    internal_pb2_grpc,
    live_pb2,
    live_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    shadow_pb2,
    shadow_pb2_grpc,
)

__all__ = ["main"]

_LOG = logging.getLogger(__name__)
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (*SERVER_OPTIONS, ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES))
_REFLECTED = (
    external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    identity_pb2.DESCRIPTOR.services_by_name["Identity"].full_name,
    reflection.SERVICE_NAME,
)

_REFLECTED_TO_OWNER = (
    admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
    live_pb2.DESCRIPTOR.services_by_name["Live"].full_name,
    policy_pb2.DESCRIPTOR.services_by_name["Policy"].full_name,
    shadow_pb2.DESCRIPTOR.services_by_name["Shadow"].full_name,
    reflection.SERVICE_NAME,
)


def main() -> int:
    """Run control until SIGTERM; SIGHUP loads the policy again."""
    runtime = RuntimeDir(Path(os.environ[RUNTIME_VARIABLE]))
    # From the supervisor alone: the file that fronts read has no secrets in it.
    settings = restore(sys.stdin.buffer.read())
    configure_logging(settings.server.log_level, os.environ.get(NAME_VARIABLE, "control"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, runtime))


async def _serve(  # noqa: C901, PLR0915 - the whole program, in order
    settings: Settings, runtime: RuntimeDir
) -> int:
    started_ns = clock.now_ns()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)

    store = plugins.revision_store(settings) if settings.policy.source == STORE else None
    source = StoreSource(store, loop) if store else plugins.policy_source(settings)
    publisher = PolicyPublisher(settings, source, runtime.path, clock.now_ns)
    reloads: set[asyncio.Task[status.LoadState]] = set()

    def reload_soon() -> None:
        task = loop.create_task(publisher.load())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload_soon)

    log = DecisionLog(
        plugins.decision_sinks(settings), settings.decisions.queue_records, clock.now_ns
    )
    shadow = ShadowKeeper(settings, runtime, store, clock.now_ns)
    # SQLite has one replica, which need not write down for itself how it is.
    board = store.replicas if store and settings.store.url else None
    replicas = ReplicaReporter(
        settings, runtime, board, lambda: publisher.state, lambda: shadow.counts
    )
    servers = _servers(
        runtime,
        AdminService(publisher, runtime.path, clock.now_ns),
        PolicyService(settings, store, publisher, clock.now_ns),
        InternalService(log),
        LiveService(settings.runtime.state_dir, lambda: replicas.known),
        ShadowService(
            shadow, store, publisher, plugins.decision_archive(settings), lambda: replicas.known
        ),
    )
    for server, socket in servers:
        await _listen(server, socket)

    tasks = [asyncio.create_task(each.run()) for each in (publisher, shadow, replicas)]
    if isinstance(source, StoreSource):
        tasks.append(asyncio.create_task(source.follow()))
    edge = None
    if os.environ.get(EDGE_VARIABLE) == "1":
        edge = GrpcioEdge(settings, runtime, log)
        tasks.append(asyncio.create_task(edge.run(_REFLECTED)))

    def tell(*, ready: bool) -> None:
        status.write(
            runtime.path,
            status.ProcessStatus(
                "control", "control", os.getpid(), 0, started_ns, publisher.state.digest,
                publisher.state.rules, ready,
            ),
        )  # fmt: skip

    tell(ready=True)
    metrics.POLICY_LOADS.labels("failed")  # A series that exists can be alerted on.
    metrics.RESTARTS.labels("control").inc(os.environ.get(RESTARTED_VARIABLE) == "1")
    waiting = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            await asyncio.wait({waiting, *tasks}, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # A task that ends is a fault: end the process with it.
            tell(ready=True)
    finally:
        tell(ready=False)
        # A thread may be waiting for a server that says nothing.
        source.close()
        if edge is not None:
            await edge.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(server.stop(settings.server.drain_s) for server, _ in servers))
        if store is not None:
            await replicas.leave()
            await store.close()
        log.close()
    return 0


def _servers(  # noqa: PLR0913, PLR0917 - each is a service
    runtime: RuntimeDir,
    admin: AdminService,
    policy: PolicyService,
    internal: InternalService,
    live: LiveService,
    shadow: ShadowService,
) -> tuple[tuple[grpc.aio.Server, Path], ...]:
    """Put each service on the server that those who may call it can reach, and on no other."""
    public_server, internal_server = (grpc.aio.server(options=_OPTIONS) for _ in "pi")
    admin_server = grpc.aio.server(interceptors=[AccessInterceptor(LocalGate())], options=_OPTIONS)
    identity_pb2_grpc.add_IdentityServicer_to_server(IdentityService(), public_server)
    reflection.enable_server_reflection(_REFLECTED, public_server)
    admin_pb2_grpc.add_AdminServicer_to_server(admin, admin_server)
    policy_pb2_grpc.add_PolicyServicer_to_server(policy, admin_server)
    live_pb2_grpc.add_LiveServicer_to_server(live, admin_server)
    shadow_pb2_grpc.add_ShadowServicer_to_server(shadow, admin_server)
    reflection.enable_server_reflection(_REFLECTED_TO_OWNER, admin_server)
    internal_pb2_grpc.add_InternalServicer_to_server(internal, internal_server)
    return (
        (public_server, runtime.public_socket),
        (admin_server, runtime.admin_socket),
        (internal_server, runtime.internal_socket),
    )


async def _listen(server: grpc.aio.Server, socket: Path) -> None:
    socket.unlink(missing_ok=True)
    # The directory is 0700 already; the mode says the same once more for the socket itself.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    finally:
        os.umask(before)


if __name__ == "__main__":
    raise SystemExit(main())
