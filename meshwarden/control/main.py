"""The control process: gRPC servers, a Unix socket each, and the tasks that need one home.

Read `_serve` to see all of it. Where pyvoy can't run, control also serves Check itself
(`grpcio_edge.py`); nothing else about it changes.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from authz.revisions import NewerFormatError
from ca.errors import (
    CertificateError,
    ConflictingAuthorityError,
    IdentityError,
    IdentityStoreError,
    KeyNotOpenedError,
)
from meshwarden import clock, metrics, plugins, status
from meshwarden.caller import Caller
from meshwarden.config import restore
from meshwarden.control.access_gate import RemoteGate
from meshwarden.control.access_service import AccessService
from meshwarden.control.administration import Administration
from meshwarden.control.decision_log import DecisionLog
from meshwarden.control.grpcio_edge import GrpcioEdge, caller_on_connection
from meshwarden.control.identity.authority_service import AuthorityService
from meshwarden.control.live_service import LiveService, ShadowService
from meshwarden.control.policy_service import PolicyService
from meshwarden.control.replicas import ReplicaReporter
from meshwarden.control.servers import Guarded, caller_behind_front, listen, servers
from meshwarden.control.services import AdminService, InternalService
from meshwarden.control.shadow import ShadowKeeper
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.store_source import StoreSource
from meshwarden.files import (
    EDGE_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    START_REFUSED,
    RuntimeDir,
)
from meshwarden.logs import configure_logging
from meshwarden.secrecy import forbid_dumps
from meshwarden.settings import STORE, Settings
from protos.meshwarden.v1 import (
    access_pb2_grpc,
    admin_pb2_grpc,
    authority_pb2_grpc,
    live_pb2_grpc,
    policy_pb2_grpc,
    registration_pb2_grpc,
    shadow_pb2_grpc,
)

if TYPE_CHECKING:
    # It loads what databases need, and most services issue nothing.
    from meshwarden.control.identity.nodes import Nodes
    from meshwarden.control.identity.opening import Identity

__all__ = ["main"]

_LOG = logging.getLogger(__name__)
# Of a start that comes too late.
_REFUSALS = (KeyNotOpenedError, ConflictingAuthorityError, CertificateError, NewerFormatError)


def main() -> int:
    """Run control until SIGTERM; SIGHUP loads the policy again."""
    runtime = RuntimeDir(Path(os.environ[RUNTIME_VARIABLE]))
    # From the supervisor alone: the file that fronts read has no secrets in it.
    settings = restore(sys.stdin.buffer.read())
    configure_logging(settings.server.log_level, os.environ.get(NAME_VARIABLE, "control"))
    if os.environ.get(EDGE_VARIABLE) != "1":  # Then it decides itself.
        _give_way()
    elif settings.listen.tls.is_on:
        forbid_dumps()  # And it has the port's key.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, runtime))


def _give_way() -> None:
    """Run behind whoever else wants the processor; for all threads, so before there is a second.

    Fronts decide while requests wait, control signs and writes while nobody does: waking up, it
    must not take a front's turn. And its own threads, which wake each other several times a call,
    come to do several calls' work each time: issuing takes a tenth to a fifth less.
    """
    with contextlib.suppress(OSError):  # A sandbox may forbid it, and nothing depends on it.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _serve(  # noqa: C901, PLR0912, PLR0915 - the whole program, in order
    settings: Settings, runtime: RuntimeDir
) -> int:
    started_ns = clock.now_ns()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)

    # Before anything answers: who may not open the keys has no service to start.
    try:
        identity = await _opened_identity(settings, runtime)
    except (IdentityError, NewerFormatError) as error:
        print(f"meshwarden: {error}", file=sys.stderr)  # noqa: T201 - the user's terminal
        return START_REFUSED
    nodes = _opened_nodes(settings, identity)

    has_revisions = settings.policy.source == STORE
    kept = plugins.revision_store(settings) if has_revisions or settings.admin.remote else None
    store = kept if has_revisions else None
    # Who issues has a trail wherever policy comes from; it connects when somebody reads it.
    trail = kept or (plugins.revision_store(settings) if identity else None)
    source = (
        StoreSource(store, loop, settings.policy.bind) if store else plugins.policy_source(settings)
    )
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
    board = kept.replicas if kept and settings.store.url else None
    replicas = ReplicaReporter(
        settings, runtime, board, lambda: publisher.state, lambda: shadow.counts
    )
    administration = Administration.on(kept, clock.now_ns) if kept else None
    if administration and nodes:
        administration.state.registered = nodes.registry.admins
    guarded: tuple[Guarded, ...] = (
        (
            access_pb2_grpc.add_AccessServicer_to_server,
            AccessService(
                administration, settings.admin.token_days, secrets.token_bytes, clock.now_ns
            ),
        ),
        (
            admin_pb2_grpc.add_AdminServicer_to_server,
            AdminService(publisher, runtime.path, kept, clock.now_ns),
        ),
        (authority_pb2_grpc.add_AuthorityServicer_to_server, AuthorityService(identity, nodes)),
        *(
            [(registration_pb2_grpc.add_RegistrationServicer_to_server, nodes.registration)]
            if nodes
            else []
        ),
        (
            live_pb2_grpc.add_LiveServicer_to_server,
            LiveService(settings.runtime.state_dir, lambda: replicas.known),
        ),
        (
            policy_pb2_grpc.add_PolicyServicer_to_server,
            PolicyService(settings, store, trail, publisher, clock.now_ns),
        ),
        (
            shadow_pb2_grpc.add_ShadowServicer_to_server,
            ShadowService(
                shadow, store, publisher, plugins.decision_archive(settings), lambda: replicas.known
            ),
        ),
    )

    if settings.admin.remote and not settings.listen.tls.is_on:
        _LOG.warning(
            "admin.remote is on, but listen.tls is not: every remote call of the admin API will be "
            "refused, since over plain text nobody can be known"
        )
    serving = None
    if identity and settings.listen.tls.svid:
        serving = identity.serving(settings, runtime, clock.now_ns)
    made = servers(
        runtime,
        guarded,
        InternalService(log),
        _gate(settings, administration, caller_behind_front),
        nodes,
        serving=serving,
    )
    for server, socket in made:
        await listen(server, socket)

    tasks = [asyncio.create_task(each.run()) for each in (publisher, shadow, replicas)]
    if isinstance(source, StoreSource):
        tasks.append(asyncio.create_task(source.follow(publisher.notice)))
    if administration:
        tasks.append(asyncio.create_task(administration.run()))
    if nodes:
        tasks.append(asyncio.create_task(nodes.run()))
    if identity:
        tasks.append(asyncio.create_task(identity.run()))
    if serving:
        tasks.append(asyncio.create_task(serving.run()))
    edge = None
    if os.environ.get(EDGE_VARIABLE) == "1":
        edge = GrpcioEdge(
            settings,
            runtime,
            log,
            guarded,
            _gate(settings, administration, caller_on_connection),
            serving,
        )
        if nodes:
            edge.add(nodes.handlers(caller_on_connection))
        tasks.append(asyncio.create_task(edge.run()))

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
    code = 0
    try:
        while not stop.is_set():
            await asyncio.wait({waiting, *tasks}, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # A task that ends is a fault: end the process with it.
            tell(ready=True)
    except* _REFUSALS as refusals:
        # As at the start: the database was away then, and what it has doesn't open.
        told = "; ".join(map(str, _leaves(refusals)))
        print(f"meshwarden: {told}", file=sys.stderr)  # noqa: T201 - the user's terminal
        code = START_REFUSED
    finally:
        tell(ready=False)
        # A thread may be waiting for a server that says nothing.
        source.close()
        if edge is not None:
            await edge.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(server.stop(settings.server.drain_s) for server, _ in made))
        if administration:
            await administration.flush()
        if kept is not None:
            await replicas.leave()
        if trail is not None:
            await trail.close()
        if nodes:
            await nodes.close()
        if identity:
            await identity.close()
        log.close()
    return code


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


async def _opened_identity(settings: Settings, runtime: RuntimeDir) -> "Identity | None":
    """Open what issues SVIDs, if anything is issued.

    Raises:
        IdentityError: A key can't be had, or the database is another trust domain's.
        NewerFormatError: A newer version has changed its tables.
    """
    if not settings.identity.is_on:
        return None
    from meshwarden.control.identity.opening import open_identity  # noqa: PLC0415 - see below

    forbid_dumps()
    identity = open_identity(settings, runtime, clock.now_ns)
    try:
        await identity.issuer.start()
    except IdentityStoreError as error:
        _LOG.warning("identity: nothing is issued until the database answers: %s", error)
    except (IdentityError, NewerFormatError):
        await identity.close()
        raise
    return identity


def _opened_nodes(settings: Settings, identity: "Identity | None") -> "Nodes | None":
    """Put together what serves agents, if anything is issued."""
    if identity is None:
        return None
    from meshwarden.control.identity.nodes import Nodes  # noqa: PLC0415 - likewise

    return Nodes(settings, identity.issuer, clock.now_ns)


def _gate(
    settings: Settings,
    administration: Administration | None,
    caller_of: Callable[[Any], Caller],
) -> RemoteGate | None:
    """Give what remote callers have to pass; None where there are none."""
    if administration is None or not settings.admin.remote:
        return None
    return RemoteGate(administration.state, administration.refusals, caller_of, clock.now_ns)


if __name__ == "__main__":
    raise SystemExit(main())
