"""Control's servers: each service on those that its callers can reach, and on no other."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from meshwarden.caller import Caller, caller_of
from meshwarden.control.access import AccessInterceptor, Gate, LocalGate
from meshwarden.control.needs import GUARDED_SERVICES
from meshwarden.control.services import IdentityService, InternalService
from meshwarden.files import RuntimeDir
from protos.envoy.service.auth.v3 import external_auth_pb2
from protos.meshwarden.v1 import identity_pb2, identity_pb2_grpc, internal_pb2_grpc

if TYPE_CHECKING:
    # They load what databases need, and most services issue nothing.
    from meshwarden.control.identity.nodes import Nodes
    from meshwarden.control.identity.serving import Serving

__all__ = [
    "AGENTS_OPTIONS",
    "CONTROL_OPTIONS",
    "MAX_MESSAGE_BYTES",
    "REFLECTED",
    "SERVER_OPTIONS",
    "Guarded",
    "caller_behind_front",
    "listen",
    "servers",
]

_MAX_PENDING_CALLS = 100_000
SERVER_OPTIONS = (
    # SO_REUSEPORT would let a second process take part of the calls unseen.
    ("grpc.so_reuseport", 0),
    # From 1,000 calls on that wait for Python, gRPC cancels some at random: a burst of streams is
    # no fault, and limits are ours to set. Source: grpc/grpc#34782.
    ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
)
"""What every gRPC server of ours is told."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message of the admin API: a policy of some hundred thousand rules."""

REFLECTED = (
    external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"].full_name,
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    identity_pb2.DESCRIPTOR.services_by_name["Identity"].full_name,
    reflection.SERVICE_NAME,
)
"""Services that the public port tells of, whoever asks."""

Guarded = tuple[Callable[[Any, grpc.aio.Server], None], Any]
"""A service that has a gate before it: what adds it to a server, and itself."""

# A front looks every 30 s whether control lives. gRPC takes more than one such ping in five minutes
# without data for an attack, and closes the connection: with it the quiet streams of every agent.
_BEHIND_FRONT = (*SERVER_OPTIONS, ("grpc.http2.max_ping_strikes", 0))

AGENTS_OPTIONS = (*_BEHIND_FRONT, ("grpc.max_receive_message_length", 4 * 1024 * 1024))
"""For agents' calls: a batch of requests fits, and strangers can't make control hold more."""

CONTROL_OPTIONS = (*_BEHIND_FRONT, ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))
"""For the other servers behind sockets of our own."""

_Context = grpc.aio.ServicerContext[Any, Any]


def caller_behind_front(context: _Context) -> Caller:
    """Read who calls from what a front says; only on the public socket is that worth anything."""
    return caller_of(context.invocation_metadata() or ())


def servers(  # noqa: PLR0913 - all that is served
    runtime: RuntimeDir,
    guarded: Sequence[Guarded],
    internal: InternalService,
    gate: Gate | None,
    nodes: "Nodes | None" = None,
    *,
    serving: "Serving | None" = None,
) -> tuple[tuple[grpc.aio.Server, Path], ...]:
    """Make the servers, each with the socket it is to listen on.

    Args:
        runtime: Where the sockets are.
        guarded: Services for the owner, and through the gate.
        internal: For the fronts.
        gate: Whom remote callers have to pass; None serves them nothing that is guarded.
        nodes: Serves agents; None where nothing is issued.
        serving: Has the port's own certificate, for the fronts; None where it comes from files.
    """
    interceptors = [AccessInterceptor(gate)] if gate else []
    public_server = grpc.aio.server(interceptors=interceptors, options=CONTROL_OPTIONS)
    admin_server = grpc.aio.server(
        interceptors=[AccessInterceptor(LocalGate())], options=CONTROL_OPTIONS
    )
    internal_server = grpc.aio.server(options=CONTROL_OPTIONS)
    identity_pb2_grpc.add_IdentityServicer_to_server(IdentityService(), public_server)
    internal_pb2_grpc.add_InternalServicer_to_server(internal, internal_server)
    if serving is not None:
        serving.serve_on(internal_server)
    for add, service in guarded:
        add(service, admin_server)
        if gate:
            add(service, public_server)
    told = (*REFLECTED, *GUARDED_SERVICES) if gate else REFLECTED
    reflection.enable_server_reflection(told, public_server)
    reflection.enable_server_reflection((*GUARDED_SERVICES, reflection.SERVICE_NAME), admin_server)
    made = (
        (public_server, runtime.public_socket),
        (admin_server, runtime.admin_socket),
        (internal_server, runtime.internal_socket),
    )
    if nodes is None:
        return made
    agents_server = grpc.aio.server(options=AGENTS_OPTIONS)
    agents_server.add_generic_rpc_handlers(nodes.handlers(caller_behind_front))
    admin_server.add_generic_rpc_handlers(nodes.local_handlers())
    return (*made, (agents_server, runtime.agents_socket))


async def listen(server: grpc.aio.Server, socket: Path) -> None:
    """Serve on a Unix socket that only the owner can open."""
    socket.unlink(missing_ok=True)
    # The directory is 0700 already; the mode says the same once more for the socket itself.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    finally:
        os.umask(before)
