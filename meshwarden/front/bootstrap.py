"""The Envoy configuration of a front: one port, Python behind some paths, control behind others.

A front is a stock Envoy with our ASGI app embedded as a dynamic module. Everything here is a
pure function from settings to the JSON that Envoy reads, so that a test can look at each promise:
which paths reach Python, which services reach control, and that nothing else reaches anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshwarden.front.tls import INTERNAL_CLUSTER, TlsFiles, TlsSecrets, transport_socket
from meshwarden.front.typed import typed

__all__ = [
    "AGENT_SERVICES",
    "FRONT_PATHS",
    "PUBLIC_SERVICES",
    "RECEIVED_HEADER",
    "SOURCE_HEADER",
    "TLS_HEADER",
    "FrontBootstrap",
    "bootstrap",
]

FRONT_PATHS = (
    "/envoy.service.auth.v3.Authorization/",
    "/grpc.health.v1.Health/",
    "/healthz",
    "/readyz",
    "/metrics",
)
"""Path prefixes that the front answers itself, from its own Snapshot."""

PUBLIC_SERVICES = (
    "grpc.reflection.v1alpha.ServerReflection",
    "meshwarden.v1.Identity",
)
"""gRPC services of control that the public port routes to. Never "/": admin and internal
services have sockets of their own, and a new service is private until it is named here. Where
`admin.remote` is on, those of control/needs.py come to these, each behind its guard."""

AGENT_SERVICES = (
    "meshwarden.v1.Agent",
    "meshwarden.v1.Attestation",
)
"""gRPC services that agents call, on a socket of their own where anything is issued: whoever comes
may send them something, so control takes small messages only there."""

RECEIVED_HEADER = "x-meshwarden-received"
"""When Envoy received the call, in microseconds since the epoch, over anything a client says: the
time that a call waits for Python counts against its caller's deadline."""

SOURCE_HEADER = "x-meshwarden-source"
"""The address of the connection's other end, for control."""

TLS_HEADER = "x-meshwarden-tls"
"""The connection's TLS version; "" or "-" for plain text."""

_MAX_STREAMS = 10_000  # Envoy's own 1,024 refused the 1,025th stream of a busy client.
# A sidecar that gives up on a check resets its stream, and its time-out is shorter than the second
# under which Envoy calls that premature: at its default of 500, one stall of 250 checks cost all
# others of the connection theirs. A flood of resets is still stopped, by the codec's own limit.
_PREMATURE_RESETS = 2 * _MAX_STREAMS
_MAX_REQUESTS = 100_000  # A circuit breaker for control that a flood of streams doesn't trip.
# What a reader that doesn't read can make us hold, of each stream and in each direction: what one
# end has sent and the other not taken. Streams of agents are many and live for days.
_STREAM_BYTES = 64 * 1024
_CONNECTION_BYTES = 256 * 1024
# Of all streams of a connection together. A stream that nobody reads keeps its share for good, so
# this must be far more than all of them can keep, or they would stop all others of the connection.
_ALL_STREAMS_BYTES = 2**31 - 1  # RFC 9113, section 6.9.1: there is no more.


@dataclass(frozen=True, slots=True)
class FrontBootstrap:
    """What one front's Envoy is told.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; every front of an instance shares it by SO_REUSEPORT.
        module: Path of pyvoy's dynamic module.
        app: The ASGI app, as "module:attribute".
        public_socket: Unix socket of control's public server.
        admin_socket: Unix socket (mode 0600) of this Envoy's own admin interface.
        max_connections: Downstream connections before new ones are closed at once.
        tls: The port's TLS; None serves plain text.
        services: gRPC services of control that may be reached.
        agents_socket: Unix socket of control's server for agents; None where nothing is issued.
    """

    host: str
    port: int
    module: str
    app: str
    public_socket: Path
    admin_socket: Path
    max_connections: int = 10_000
    tls: TlsFiles | TlsSecrets | None = None
    services: tuple[str, ...] = PUBLIC_SERVICES
    agents_socket: Path | None = None


def bootstrap(front: FrontBootstrap) -> dict[str, Any]:
    """Build the bootstrap of one front, ready to be written as JSON."""
    return {
        # Nobody asks who it is, but Envoy takes no secret without it, not even from a file.
        "node": {"id": "front", "cluster": "meshwarden"},
        # A Unix socket that only the owner can open: Envoy's admin interface can stop the
        # process and dump its configuration, and its default is an open TCP port.
        "admin": {"address": {"pipe": {"path": str(front.admin_socket), "mode": 0o600}}},
        "static_resources": {
            "listeners": [_listener(front)],
            "clusters": [*_clusters(front)],
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        "overload.premature_reset_total_stream_count": _PREMATURE_RESETS
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                typed(
                    "envoy.resource_monitors.global_downstream_max_connections",
                    "envoy.extensions.resource_monitors.downstream_connections.v3"
                    ".DownstreamConnectionsConfig",
                    {"max_active_downstream_connections": front.max_connections},
                )
            ]
        },
        # What we measure, we measure in Python; the few that a drain and a limit need stay.
        "stats_config": {
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [
                        {"suffix": "downstream_cx_active"},
                        {"suffix": "downstream_rq_active"},
                        {"suffix": "downstream_cx_overload_reject"},
                    ]
                }
            }
        },
    }


def _listener(front: FrontBootstrap) -> dict[str, Any]:
    chain: dict[str, Any] = {"filters": [_connection_manager(front)]}
    if front.tls is not None:
        chain["transport_socket"] = transport_socket(front.tls)
    return {
        "name": "public",
        "address": {"socket_address": {"address": front.host, "port_value": front.port}},
        "enable_reuse_port": True,
        "per_connection_buffer_limit_bytes": _CONNECTION_BYTES,
        "filter_chains": [chain],
    }


def _connection_manager(front: FrontBootstrap) -> dict[str, Any]:
    return typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": "public",
            "server_name": "meshwarden",
            "generate_request_id": False,
            # The address of a caller is the connection's; what a caller says of itself is removed
            # before Envoy adds to it, so that control reads exactly one address.
            "use_remote_address": True,
            "early_header_mutation_extensions": [
                typed(
                    "envoy.http.early_header_mutation.header_mutation",
                    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    {"mutations": [*_MUTATIONS]},
                )
            ],
            # SANITIZE_SET, never APPEND: with APPEND a client with any certificate could put an
            # administrator's URI in front of its own. Without a certificate the header goes.
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"uri": True},
            # Streams (reflection now; SDS and access logs live for days) must not be reset for
            # being quiet; a dead peer is found by keepalive instead.
            "stream_idle_timeout": "0s",
            "common_http_protocol_options": {
                "idle_timeout": "3600s",
                "max_headers_count": 200,
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            "max_request_headers_kb": 96,
            "http2_protocol_options": {
                "max_concurrent_streams": _MAX_STREAMS,
                "initial_stream_window_size": _STREAM_BYTES,
                # A client's own streams only stop each other.
                "initial_connection_window_size": 16 * 1024 * 1024,
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            },
            "http_filters": [
                _python_filter(front),
                typed(
                    "envoy.filters.http.router",
                    "envoy.extensions.filters.http.router.v3.Router",
                ),
            ],
            "route_config": {
                "name": "public",
                "virtual_hosts": [
                    {"name": "public", "domains": ["*"], "routes": [*_routes(front)]}
                ],
            },
        },
    )


def _overwrite(name: str, value: str) -> dict[str, Any]:
    """A header that we set over whatever a client sent."""
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        "keep_empty_value": True,
    }


# What Envoy or control would believe of itself, and a client may not say. x-envoy-* that steer
# retries, time-outs and upstream choice are stripped by name: Envoy strips them only for callers
# it deems external, and on loopback nobody is.
_FORGEABLE = (
    "x-forwarded-for",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-path",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-decorator-operation",
    "x-envoy-ip-tags",
)

_MUTATIONS = (
    *({"remove": name} for name in _FORGEABLE),
    {"append": _overwrite(RECEIVED_HEADER, "%START_TIME(%s%6f)%")},
)


def _python_filter(front: FrontBootstrap) -> dict[str, Any]:
    """One matcher and one action: an action for each prefix would run an app for each."""
    predicates = [
        {
            "single_predicate": {
                "input": typed(
                    "path",
                    "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                    {"header_name": ":path"},
                ),
                "value_match": {"prefix": prefix},
            }
        }
        for prefix in FRONT_PATHS
    ]
    app = typed(
        "pyvoy",
        "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        {
            "dynamic_module_config": {"module": {"local": {"filename": front.module}}},
            "filter_name": "pyvoy",
            "terminal_filter": True,
            "filter_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": f'{{"app": "{front.app}", "interface": "asgi", "lifespan": true, '
                '"root_path": ""}',
            },
        },
    )
    return typed(
        "envoy.filters.http.composite",
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        {
            "extension_config": typed(
                "envoy.filters.http.composite",
                "envoy.extensions.filters.http.composite.v3.Composite",
            ),
            "xds_matcher": {
                "matcher_list": {
                    "matchers": [
                        {
                            "predicate": {"or_matcher": {"predicate": predicates}},
                            "on_match": {
                                "action": typed(
                                    "composite-action",
                                    "envoy.extensions.filters.http.composite.v3"
                                    ".ExecuteFilterAction",
                                    {"typed_config": app},
                                )
                            },
                        }
                    ]
                }
            },
        },
    )


def _routes(front: FrontBootstrap) -> Iterable[dict[str, Any]]:
    agents = AGENT_SERVICES if front.agents_socket else ()
    for service in (*front.services, *agents):
        cluster = "agents" if service in AGENT_SERVICES else "control"
        yield {
            "match": {"prefix": f"/{service}/", "grpc": {}},
            "route": {"cluster": cluster, "timeout": "0s", "idle_timeout": "0s"},
            # Envoy puts its own interface's address into x-forwarded-for for a peer on loopback.
            "request_headers_to_add": [
                _overwrite(SOURCE_HEADER, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
                _overwrite(TLS_HEADER, "%DOWNSTREAM_TLS_VERSION%"),
            ],
        }
    # A gRPC client reads 404 as UNIMPLEMENTED, which is what an unknown service is.
    yield {"match": {"prefix": "/"}, "direct_response": {"status": 404}}


def _clusters(front: FrontBootstrap) -> Iterable[dict[str, Any]]:
    yield _control_cluster("control", front.public_socket)
    if front.agents_socket:
        yield _control_cluster("agents", front.agents_socket)
    # No route leads there: it is for Envoy itself.
    if isinstance(front.tls, TlsSecrets) and front.tls.internal_socket:
        yield _control_cluster(INTERNAL_CLUSTER, front.tls.internal_socket)


def _control_cluster(name: str, socket: Path) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": _CONNECTION_BYTES,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MAX_REQUESTS,
                    "max_pending_requests": _MAX_REQUESTS,
                    "max_requests": _MAX_REQUESTS,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/"
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "max_concurrent_streams": _MAX_STREAMS,
                        "initial_stream_window_size": _STREAM_BYTES,
                        "initial_connection_window_size": _ALL_STREAMS_BYTES,
                        "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                    }
                },
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"pipe": {"path": str(socket)}}}},
                    ]
                }
            ],
        },
    }
