"""Sections of what is served, by which processes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from meshwarden.settings.address import Address

__all__ = ["Admin", "Fallback", "Listen", "Server", "Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS of the public port; without a certificate the port speaks plain text."""

    svid: Annotated[
        bool,
        Meta(
            description="Serve with an SVID of the service's own, `/meshwarden/server`, renewed "
            "without a restart; needs `identity.trust_domain`. Clients are asked for a certificate "
            "of the trust domain, unless `client_ca` names other authorities."
        ),
    ] = False

    certificate: Annotated[
        Path | None, Meta(description="PEM file of the serving certificate and its chain.")
    ] = None
    key: Annotated[Path | None, Meta(description="PEM file of its key, unencrypted.")] = None
    client_ca: Annotated[
        Path | None,
        Meta(
            description="PEM file of the authorities whose client certificates are accepted. When "
            "set, clients are asked for a certificate, and one that does not verify is refused."
        ),
    ] = None
    require_client_certificate: Annotated[
        bool,
        Meta(
            description="Refuse clients that show no certificate; needs `client_ca` or `svid`. "
            "Agents can't attest then: they have none yet."
        ),
    ] = False

    @property
    def is_on(self) -> bool:
        """Whether the port speaks TLS."""
        return self.svid or self.certificate is not None


@dataclass(frozen=True, slots=True)
class Listen:
    """The public port."""

    address: Annotated[
        Address,
        Meta(
            description="Where Check, health and the HTTP endpoints are served. `0.0.0.0:9191` is "
            "every IPv4 interface, `[::]:9191` every interface."
        ),
    ] = Address("127.0.0.1", 9191)
    allow_plaintext_beyond_loopback: Annotated[
        bool,
        Meta(
            description="Serve without TLS on an address that other machines can reach. Requests "
            "and verdicts are then readable and forgeable on the network."
        ),
    ] = False
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Open client connections, for each front.")
    ] = 10_000
    tls: Tls = field(default_factory=Tls)


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is different where pyvoy can't run and control serves the public port by grpcio."""

    http_address: Annotated[
        Address,
        Meta(
            description="Where `/healthz`, `/readyz` and `/metrics` are then served: grpcio can't "
            "share its port with HTTP/1.1. Always plain text."
        ),
    ] = Address("127.0.0.1", 9192)


@dataclass(frozen=True, slots=True)
class Server:
    """Processes."""

    names: Annotated[
        tuple[str, ...],
        Meta(
            description="DNS names and IP addresses that clients reach the service by. They stand "
            "in its own SVID, for clients that verify the host; the address listened on does too."
        ),
    ] = ()
    fronts: Annotated[
        int, Meta(ge=1, le=64, description="Front processes that share the public port.")
    ] = 1
    transport: Annotated[
        Literal["auto", "front", "grpcio"],
        Meta(
            description="`front` serves through Envoy with Python inside and fails where that "
            "can't run; `grpcio` serves from control alone; `auto` takes the first that works."
        ),
    ] = "auto"
    drain_s: Annotated[
        float,
        Meta(
            ge=0, le=3600, description="Longest wait of a stop for requests in flight, in seconds."
        ),
    ] = 5.0
    embedded_agent: Annotated[
        bool,
        Meta(
            description="Run an agent for this machine's workloads beside the service, known by "
            "being its child: `[agent]` says where its socket is. Needs `identity.trust_domain`."
        ),
    ] = False
    restart_backoff_max_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Longest pause before a process that died is started again, in seconds. "
            "It starts at 0.1 and doubles.",
        ),
    ] = 30.0
    max_inflight: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Checks being answered at once, for each process; more are refused with "
            "RESOURCE_EXHAUSTED.",
        ),
    ] = 1000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least level of the service's own log lines, on stderr."),
    ] = "info"


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin API beyond this machine; over the admin socket its owner may do everything."""

    remote: Annotated[
        bool,
        Meta(
            description="Serve the admin API through the public port too, to callers whom "
            "`meshwarden admin grant` gave a role and who show a certificate (see "
            "`listen.tls.client_ca`) or a token over TLS. Roles and tokens are kept in the store."
        ),
    ] = False
    token_days: Annotated[
        int,
        Meta(
            ge=1,
            le=3650,
            description="How long a new token lives where nobody says less, in days.",
        ),
    ] = 90
