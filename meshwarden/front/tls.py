"""The TLS of a front's port: where Envoy has certificate and key from, and whom it asks for one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshwarden.files import CLIENTS_SDS, SERVER_SDS
from meshwarden.front.typed import typed

__all__ = ["INTERNAL_CLUSTER", "TlsFiles", "TlsSecrets", "transport_socket"]

INTERNAL_CLUSTER = "internal"
"""The cluster of control's internal server, for Envoy itself."""

_BY_STREAM = {
    "api_type": "GRPC",
    "transport_api_version": "V3",
    "grpc_services": [
        {
            "envoy_grpc": {
                "cluster_name": INTERNAL_CLUSTER,
                # By default Envoy comes to wait for half a minute, which may be a whole life.
                "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "5s"}},
            }
        }
    ],
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the public port's certificate comes from.

    Attributes:
        certificate: PEM file, leaf first.
        key: PEM file of the leaf's private key.
        client_ca: PEM file of the roots that client certificates must chain to; None asks for
            no client certificate.
        require_client_certificate: Whether a handshake without a client certificate fails.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True)
class TlsSecrets:
    """Where the public port's certificate comes from, when it is renewed while the front runs.

    Attributes:
        server: SDS file of the certificate and its key.
        clients: SDS file of what client certificates are verified with.
        internal_socket: Unix socket of control's internal server, which sends both by SDS; None
            has Envoy watch the files.
        client_ca: PEM file that takes the place of `clients`.
        require_client_certificate: Whether a handshake without a client certificate fails.
    """

    server: Path
    clients: Path
    internal_socket: Path | None = None
    client_ca: Path | None = None
    require_client_certificate: bool = False


def transport_socket(tls: TlsFiles | TlsSecrets) -> dict[str, Any]:
    """Give the TLS half of the port's filter chain."""
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
    }
    if isinstance(tls, TlsSecrets):
        common["tls_certificate_sds_secret_configs"] = [_secret(SERVER_SDS, tls.server, tls)]
    else:
        common["tls_certificates"] = [
            {
                "certificate_chain": {"filename": str(tls.certificate)},
                "private_key": {"filename": str(tls.key)},
            }
        ]
    if tls.client_ca is not None:
        common["validation_context"] = {"trusted_ca": {"filename": str(tls.client_ca)}}
    elif isinstance(tls, TlsSecrets):
        common["validation_context_sds_secret_config"] = _secret(CLIENTS_SDS, tls.clients, tls)
    return typed(
        "envoy.transport_sockets.tls",
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        {
            "common_tls_context": common,
            "require_client_certificate": tls.require_client_certificate,
        },
    )


def _secret(name: str, file: Path, tls: TlsSecrets) -> dict[str, Any]:
    """A secret that control sends, or in a file that Envoy reads again when it is replaced."""
    source = (
        {"api_config_source": _BY_STREAM}
        if tls.internal_socket
        else {"path_config_source": {"path": str(file)}}
    )
    return {
        "name": name,
        "sds_config": {
            **source,
            "resource_api_version": "V3",
            # By default a listener whose secret is late opens after 15 s, and then refuses every
            # handshake, taking its share of the port.
            "initial_fetch_timeout": "0s",
        },
    }
