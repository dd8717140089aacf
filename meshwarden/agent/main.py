"""The agent's process: read `_serve` to see all of it."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import uvloop
from grpc_reflection.v1alpha import reflection

from ca.workload import WorkloadAttestor
from meshwarden import clock, plugins
from meshwarden.agent.attestation import Attestation
from meshwarden.agent.call_limit import OPTIONS, CallLimit
from meshwarden.agent.door import Door, TlsDoor, TlsDoorSettings
from meshwarden.agent.evidence import Evidence, JoinToken, K8sPsat, X509Pop
from meshwarden.agent.exchange import NotBelievedError
from meshwarden.agent.identities import Identities
from meshwarden.agent.keep import Keep
from meshwarden.agent.link import Link
from meshwarden.agent.listener import open_listener
from meshwarden.agent.local_door import LocalDoor
from meshwarden.agent.metrics_port import MetricsPort, open_port
from meshwarden.agent.places import Places, places
from meshwarden.agent.relay import Relay
from meshwarden.agent.renewer import Renewer
from meshwarden.agent.report import AgentStatus, write_status
from meshwarden.agent.tokens import Tokens
from meshwarden.agent.uplink import ServerAddress
from meshwarden.agent.workload_api import WorkloadApi
from meshwarden.config import restore
from meshwarden.files import RUNTIME_VARIABLE, RuntimeDir
from meshwarden.logs import configure_logging
from meshwarden.sds.secrets import WorkloadSecrets
from meshwarden.sds.service import SecretService
from meshwarden.secrecy import forbid_dumps
from meshwarden.settings import Settings
from meshwarden.supervisor.lifecycle import (
    ForeignPackageError,
    RuntimeDirError,
    check_own_packages,
    lock_dir,
    make_private_dir,
    raise_file_limit,
)
from protos.envoy.service.secret.v3 import sds_pb2, sds_pb2_grpc
from protos.spiffe.workload import workload_pb2, workload_pb2_grpc

__all__ = ["main", "run"]

_LOG = logging.getLogger(__name__)
_FAILED_START = 2
_SAVE_PAUSE_S = 0.5
_STATUS_S = 0.25
_STOP_S = 1.0
_REFUSALS_TOLD = 20
_REFLECTED = (
    sds_pb2.DESCRIPTOR.services_by_name["SecretDiscoveryService"].full_name,
    workload_pb2.DESCRIPTOR.services_by_name["SpiffeWorkloadAPI"].full_name,
)
# As random as anybody's: agents that start together must not draw alike.
_draw = random.SystemRandom().random


def run(settings: Settings, join_token: str = "", internal: Path | None = None) -> int:
    """Serve workloads until SIGTERM or SIGINT.

    Args:
        settings: Whole and checked.
        join_token: In place of the file that settings name.
        internal: Control's own socket, for an agent that is its service's child.

    Returns:
        The exit code: 0 after a stop, 2 where the agent can't start.
    """
    configure_logging(settings.server.log_level, "agent")
    os.umask(0o077)
    where = places(settings)
    is_ours = False
    try:
        forbid_dumps()
        check_own_packages()
        make_private_dir(where.state, "agent.state_dir")
        with contextlib.ExitStack() as held:
            held.enter_context(lock_dir(where.state, "agent.state_dir"))
            listener = held.enter_context(open_listener(where))
            is_ours = True
            address = settings.agent.metrics
            port = held.enter_context(open_port(address)) if address is not None else None
            raise_file_limit()
            door = _door(settings, where, join_token, internal)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, where, door, listener, port))
    except (ForeignPackageError, NotBelievedError, RuntimeDirError, OSError) as error:
        print(f"meshwarden: {error}", file=sys.stderr)  # noqa: T201 - the user's terminal
        return _FAILED_START
    finally:
        if is_ours:  # Where another agent serves, the status is that one's.
            where.status.unlink(missing_ok=True)
    where.socket.unlink(missing_ok=True)
    return 0


def main() -> int:
    """Run as the service's child: settings come by standard input."""
    settings = restore(sys.stdin.buffer.read())
    return run(settings, internal=RuntimeDir(Path(os.environ[RUNTIME_VARIABLE])).admin_socket)


async def _serve(
    settings: Settings,
    where: Places,
    door: Door,
    listener: socket.socket,
    metrics_port: socket.socket | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)

    keep = Keep(where.state)
    identities = Identities(clock.now_ns, _draw, settings.agent.ahead)
    _recall(settings, keep, door, identities)
    link = Link(door, identities, keep, clock.now_ns, _draw)
    tokens = Tokens(identities, link, clock.now_ns, _draw, settings.agent.tokens_per_s)
    renewer = Renewer(identities, link, clock.now_ns)
    relay = Relay(where.inner, where.private, settings.agent.max_connections)
    attestation = Attestation(relay, _attestors(settings))
    api = WorkloadApi(
        attestation,
        identities,
        tokens,
        clock.now_ns,
        lambda: _why_waiting(link, identities),
        identities_per_s=settings.agent.identities_per_s,
    )
    limit = CallLimit(relay.user, 2 * settings.agent.max_connections, api.note_crowd)
    server = grpc.aio.server(interceptors=(limit,), options=OPTIONS)
    workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(api, server)
    sds_pb2_grpc.add_SecretDiscoveryServiceServicer_to_server(
        SecretService(api.envoy_views, WorkloadSecrets, api.note_envoy, api.note_nack), server
    )
    # Workload Endpoint standard, section 7.
    reflection.enable_server_reflection((*_REFLECTED, reflection.SERVICE_NAME), server)
    where.inner.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{where.inner}")
    await server.start()
    _LOG.info("workloads are served on %s", where.socket)

    tasks = [
        asyncio.create_task(work)
        for work in (
            link.run(),
            renewer.run(),
            relay.serve(listener),
            _save(settings, keep, door, identities),
            _tell(settings, where, door, link, identities, relay),
        )
    ]
    if metrics_port is not None:
        # Only who wants metrics pays for them.
        from meshwarden.agent.metrics import (  # noqa: PLC0415
            CONTENT_TYPE,
            AgentMetrics,
            Parts,
        )

        told = AgentMetrics(Parts(door, link, identities, renewer, tokens, api, relay))
        serving = MetricsPort(told.exposition, CONTENT_TYPE).serve(metrics_port)
        tasks.append(asyncio.create_task(serving))
        _LOG.info("metrics are served on http://%s/metrics", settings.agent.metrics)
    waiting = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # A task that ends is a fault: end the process with it.
    finally:
        waiting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop(_STOP_S)
        await door.close()


def _door(settings: Settings, where: Places, join_token: str, internal: Path | None) -> Door:
    """Choose the way to the server."""
    if internal is not None:
        return LocalDoor(internal, settings.identity.trust_domain)
    own = settings.agent
    if not own.server:
        raise RuntimeDirError("agent.server: name the service to attest to, or --server HOST:PORT")
    evidence: Evidence
    match own.attestor:
        case "join_token":
            evidence = JoinToken(join_token, own.join_token_file)
        case "x509pop":
            assert own.x509pop_certificate is not None  # noqa: S101 - checked with the settings
            assert own.x509pop_key is not None  # noqa: S101 - likewise
            evidence = X509Pop(own.x509pop_certificate, own.x509pop_key)
        case "k8s_psat":
            evidence = K8sPsat(own.k8s_psat_token)
    return TlsDoor(
        TlsDoorSettings(
            ServerAddress.parse(own.server),
            own.trust_bundle,
            own.insecure_bootstrap,
            evidence,
            where.private,
        ),
        Keep(where.state),
        clock.now_ns,
        _draw,
    )


def _attestors(settings: Settings) -> dict[str, WorkloadAttestor]:
    """Build the workload attestors that settings name, each with its keys of [agent]."""
    known: dict[str, Any] = {
        each.name: getattr(settings.agent, each.name) for each in fields(settings.agent)
    }
    built = {}
    for name in settings.agent.attestors:
        adapter = plugins.load("workload_attestors", name)
        own = {each.name: known[each.name] for each in fields(adapter.config) if each.name in known}
        built[name] = adapter.build(adapter.config(**own))
    return built


def _recall(settings: Settings, keep: Keep, door: Door, identities: Identities) -> None:
    """Take up what an earlier run had."""
    if not settings.agent.keep_identities:
        keep.forget_known()
        return
    known = keep.load_known(door.agent_id)
    if known is None:
        return
    entries, svids = known
    identities.restore(svids)
    identities.set_entries(entries)
    identities.set_bundles(keep.load_bundles())
    _LOG.info("%d identities of the last run are served again", len(identities.svids))


async def _save(settings: Settings, keep: Keep, door: Door, identities: Identities) -> None:
    """Keep on disk what is to be there after a restart."""
    while True:
        await identities.altered.wait()
        identities.altered.clear()
        if settings.agent.keep_identities and identities.entries is not None:
            entries, svids = dict(identities.entries), tuple(identities.svids.values())
            try:
                await asyncio.to_thread(keep.save_known, door.agent_id, entries, svids)
            except OSError as error:
                _LOG.warning("identities can't be kept over a restart: %s", error)
        await asyncio.sleep(_SAVE_PAUSE_S)


async def _tell(  # noqa: PLR0913, PLR0917 - what a status is made of
    settings: Settings, where: Places, door: Door, link: Link, identities: Identities, relay: Relay
) -> None:
    """Say how the agent is doing, when that changes and now and then."""
    started_ns = clock.now_ns()
    said: AgentStatus | None = None
    while True:
        refusals = [f"{claim.spiffe_id}: {why}" for claim, why in identities.refusals.items()]
        ends = [svid.not_after_ns for svid in identities.svids.values()]
        now = AgentStatus(
            pid=os.getpid(),
            started_ns=started_ns,
            told_ns=0,
            agent=door.agent_id,
            server=settings.agent.server,
            connected=link.state.connected,
            since_ns=link.state.since_ns,
            fault=link.state.fault,
            own_expires_ns=door.not_after_ns,
            entries=-1 if identities.entries is None else len(identities.entries),
            identities=len(ends),
            next_expires_ns=min(ends, default=0),
            refusals=sorted(refusals)[:_REFUSALS_TOLD],
            streams=identities.streams,
            connections=relay.count,
            socket=str(where.socket),
        )
        if now != said:
            said = now
            try:
                await asyncio.to_thread(
                    write_status, where.status, msgspec.structs.replace(now, told_ns=clock.now_ns())
                )
            except OSError as error:
                _LOG.warning("the status can't be written: %s", error)
        await asyncio.sleep(_STATUS_S)


def _why_waiting(link: Link, identities: Identities) -> str:
    if not link.state.connected:
        return f"the agent has nothing to serve yet: {link.state.fault}"
    if identities.refusals:
        return "not signed yet: " + "; ".join(sorted(set(identities.refusals.values()))[:3])
    return "the agent is still being told its entries, or having them signed"


if __name__ == "__main__":
    raise SystemExit(main())
