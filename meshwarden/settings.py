"""Every setting there is: one frozen dataclass a section, one field a key.

A key is defined here and nowhere else. Its type, bounds, default and words come from its field;
loading (meshwarden/config.py) and the reference in docs/config.md are read off the same fields.

To add a key, add a field. Never rename or reuse one: files in the field outlive this code.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from msgspec import Meta
from typing_extensions import override

from meshwarden.agent_settings import Agent
from meshwarden.node_settings import Nodes

__all__ = [
    "STORE",
    "Address",
    "Admin",
    "Allowed",
    "Bundle",
    "Check",
    "Decisions",
    "Denied",
    "Engine",
    "Fallback",
    "Identity",
    "Listen",
    "Policy",
    "Runtime",
    "Server",
    "Settings",
    "Store",
    "Tls",
    "default_runtime_dir",
    "default_state_dir",
]

# Placeholders that header values of [check] may hold; authz/decision.py fills them in.
PLACEHOLDERS = ("decision_id", "principal", "user", "rule", "digest", "verdict")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on: an IP address and a port from 1 to 65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "127.0.0.1:9191" or "[::1]:9191".

        Raises:
            ValueError: The text is no such pair; the message says what to write.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            raise ValueError(f"{text!r} is no address; write IP:PORT, such as 127.0.0.1:9191")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
        except ValueError:
            hint = "127.0.0.1" if host == "localhost" else "0.0.0.0 for every interface"
            raise ValueError(f"{host!r} is no IP address; write one, such as {hint}") from None
        if bracketed != (ip.version == 6):  # noqa: PLR2004 - the 6 of IPv6
            raise ValueError(
                f"{text!r}: write brackets around IPv6, as in [::1]:9191, and no other"
            )
        # Port 0 would be a new port at each start, and another one for every front.
        if not 1 <= int(port) <= 65535:  # noqa: PLR2004
            raise ValueError(f"port {port} is outside 1..65535")
        return cls(str(ip), int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface."""
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @override
    def __str__(self) -> str:
        """Give the form that `parse` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def default_state_dir(environ: Mapping[str, str], *, is_root: bool) -> Path:
    """Give /var/lib/meshwarden for root, else the user's XDG state folder."""
    if is_root:
        return Path("/var/lib/meshwarden")
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification says to ignore a relative path.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "meshwarden"


def default_runtime_dir(environ: Mapping[str, str], state_dir: Path, *, is_root: bool) -> Path:
    """Give /run/meshwarden for root, else XDG_RUNTIME_DIR's, else "run" in the state folder."""
    if is_root:
        return Path("/run/meshwarden")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "meshwarden" if runtime.startswith("/") else state_dir / "run"


def _state_dir() -> Path:
    return default_state_dir(os.environ, is_root=os.geteuid() == 0)


def _runtime_dir() -> Path:
    return default_runtime_dir(os.environ, _state_dir(), is_root=os.geteuid() == 0)


def _sealing_key() -> Path:
    # Away from the database on purpose: a copy of the state folder is no copy of the authority.
    if os.geteuid() == 0:
        return Path("/etc/meshwarden/sealing.key")
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "meshwarden" / "sealing.key"


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
class Runtime:
    """Folders that the service writes to. Each instance needs its own."""

    state_dir: Annotated[
        Path,
        Meta(
            description="Kept over restarts: the last good policy and the decision log.",
            extra={
                "default": "`/var/lib/meshwarden` for root, else `$XDG_STATE_HOME/meshwarden`",
                "example": "/var/lib/meshwarden",
            },
        ),
    ] = field(default_factory=_state_dir)
    runtime_dir: Annotated[
        Path,
        Meta(
            description="Sockets, made at start with mode 0700. At most 66 bytes long: the "
            "kernel takes 107 for a socket's whole path.",
            extra={
                "default": "`/run/meshwarden` for root, else `$XDG_RUNTIME_DIR/meshwarden`, else "
                "`run` in the state folder",
                "example": "/run/meshwarden",
            },
        ),
    ] = field(default_factory=_runtime_dir)


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


STORE = "store"
"""The policy source that is no adapter: the revision store."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where policy revisions are kept, when `policy.source` is `store`; roles and tokens too."""

    url: Annotated[
        str,
        Meta(
            description="`postgresql://USER@HOST:PORT/DATABASE` for a store that replicas share "
            "(needs the extra `postgresql`); empty for an SQLite file in the state folder. Keep a "
            "password in a passfile, not here.",
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A policy bundle on an HTTP server, when `policy.source` is `bundle`.

    `meshwarden policy bundle build` makes one.
    """

    url: Annotated[
        str,
        Meta(
            description="Where it is: `https://`, or `http://` on this machine or with `digest` or "
            "`public_key`. A redirect is followed from https to https, or to the same server."
        ),
    ] = ""
    public_key: Annotated[
        Path | None,
        Meta(
            description="PEM file of Ed25519 or P-256 keys: a bundle that none of them has signed "
            "is refused. Without, whoever can write to the server can write the policy."
        ),
    ] = None
    digest: Annotated[
        str,
        Meta(description="`sha256:HEX` of the one file to be taken; empty takes any."),
    ] = ""
    allow_older: Annotated[
        bool,
        Meta(
            description="Take a bundle whose revision is lower than that of the last one in force: "
            "to go back on purpose. Otherwise whoever sits at the server could bring back an old "
            "one, which is signed as well."
        ),
    ] = False
    ca: Annotated[
        Path | None,
        Meta(
            description="PEM file of the authorities that may vouch for the server, in place of "
            "the system's."
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Meta(
            description="File with a secret for the server, sent as `Bearer` unless it is two "
            "words; read anew each time, never logged, never sent to where a redirect leads."
        ),
    ] = None
    header: Annotated[
        str, Meta(min_length=1, description="The header that carries it, such as `private-token`.")
    ] = "authorization"
    poll_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86_400,
            description="Longest time until a new bundle is noticed, in seconds. Each look comes "
            "up to a quarter earlier, by chance. What has the same ETag is not sent again.",
        ),
    ] = 5.0
    timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="For a whole download, in seconds.")
    ] = 10.0
    max_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 30, description="Largest bundle, in bytes.")
    ] = 33_554_432
    max_unpacked_bytes: Annotated[
        int, Meta(ge=1024, le=1 << 32, description="Most that it may unpack to, in bytes.")
    ] = 134_217_728


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


@dataclass(frozen=True, slots=True)
class Policy:
    """Where policy comes from."""

    source: Annotated[
        str,
        Meta(
            min_length=1,
            description="`folder`; `bundle` for a file from an HTTP server; `store` for revisions "
            "that `meshwarden policy apply` makes; any other name is a file in adapters/policies.",
        ),
    ] = "folder"
    path: Annotated[
        Path,
        Meta(
            description="Folder of `*.csv` and `*.yaml`, and of a `model.conf` for a model of your "
            "own.",
        ),
    ] = Path("policy")
    shadow: Annotated[
        Path | None,
        Meta(
            description="Folder of a candidate policy that is judged beside the one in force and "
            "never obeyed: where it differs, `meshwarden_shadow_checks_total` and records of "
            "their own say what it would have done.",
        ),
    ] = None
    watch: Annotated[
        bool, Meta(description="Reload when the source changes, without `meshwarden reload`.")
    ] = True
    max_stale_s: Annotated[
        float,
        Meta(
            ge=0,
            le=31_536_000,
            description="Readiness turns red when loading has failed for this long, in seconds; "
            "0 never does. The last good policy goes on deciding either way.",
        ),
    ] = 0.0
    bind: Annotated[
        Mapping[str, str],
        Meta(
            description="For a model of your own: request field to attribute, such as "
            '`sub = "source.principal"`. The built-in mesh model is bound already.'
        ),
    ] = field(default_factory=dict)
    bundle: Bundle = field(default_factory=Bundle)

    @property
    def own_folder(self) -> Path | None:
        """The folder whose lines can be shown; None where policy comes from elsewhere."""
        return self.path if self.source == "folder" else None


@dataclass(frozen=True, slots=True)
class Engine:
    """How policy is executed."""

    backtracking_regex: Annotated[
        bool,
        Meta(
            description="Let patterns that need backtracking run on Python's `re`. A caller can "
            "then choose a value that holds a front for seconds."
        ),
    ] = False
    functions: Annotated[
        tuple[str, ...],
        Meta(description="Installed modules whose functions matchers and conditions may call."),
    ] = ()


@dataclass(frozen=True, slots=True)
class Denied:
    """The answer to a denied request."""

    body: Annotated[
        Literal["json", "text", "none"], Meta(description="The body that the caller gets.")
    ] = "json"
    reveal_rule: Annotated[
        bool,
        Meta(
            description="Name the deciding rule in the body. The caller then learns how your "
            "policy is written; the decision log and metadata name it always."
        ),
    ] = False
    challenge: Annotated[
        str,
        Meta(
            min_length=1,
            description="The `www-authenticate` header of a 401 (RFC 9110 section 11.6.1), which "
            "is the answer where a credential could have made a rule match.",
        ),
    ] = "Bearer"
    response_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the response to the caller.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is done to an allowed request."""

    request_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the request to the upstream.")
    ] = field(default_factory=dict)
    remove_request_headers: Annotated[
        tuple[str, ...], Meta(description="Headers taken off the request to the upstream.")
    ] = ()
    response_headers: Annotated[
        Mapping[str, str], Meta(description="Headers set on the response to the caller.")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """How a CheckRequest is read and answered.

    The value of a header set below may hold {decision_id}, {principal}, {user}, {rule}, {digest}
    and {verdict}.
    """

    ambiguous_paths: Annotated[
        Literal["deny", "normalise"],
        Meta(
            description="What is done with a path that servers read in different ways (`%2F`, a "
            "backslash, a NUL, a broken encoding): `deny` it, or decide on its normal form. The "
            "upstream gets the path as it was."
        ),
    ] = "deny"
    error_response: Annotated[
        bool,
        Meta(
            description="Answer a fault of ours (no policy yet, an internal fault) with "
            "CheckResponse `error_response` in place of an "
            "RPC error. Only for sidecars whose Envoy knows that field."
        ),
    ] = False
    max_request_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=268_435_456,
            description="Largest CheckRequest, in bytes. Above the sidecars' "
            "`with_request_body.max_request_bytes`, or large bodies fail to be judged.",
        ),
    ] = 16_777_216
    trusted_hops: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None,
        Meta(
            description="Proxies before the sidecar that append to `x-forwarded-for`: `remote.ip` "
            "is then read from that header, this many from its right. Without, it is the "
            "connection's address, and the header is not believed.",
            extra={"default": "none", "example": "1"},
        ),
    ] = None
    allowed: Allowed = field(default_factory=Allowed)
    denied: Denied = field(default_factory=Denied)


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decision log: JSON lines, and a database to be searched."""

    sample_allows: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of allowed requests that is logged. Denials all are."),
    ] = 0.01
    headers: Annotated[
        tuple[str, ...],
        Meta(
            description="Request headers whose values records keep and near misses tell; none is "
            "otherwise. `authorization`, `cookie` and whatever else may open doors (by its name or "
            "its form) is kept as `[masked]` only, also when it is listed."
        ),
    ] = ()
    claims: Annotated[
        tuple[str, ...],
        Meta(
            description="Claims of end users' tokens that records keep, likewise. Issuer and "
            "subject are kept always, as `user`."
        ),
    ] = ()
    queue_records: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Records a front holds for control, and control for each sink; more are "
            "dropped and counted.",
        ),
    ] = 10_000
    sinks: Annotated[
        tuple[str, ...],
        Meta(
            description="Where records are kept: `jsonl` and `sqlite`, under the state folder, and "
            "`postgresql`, which replicas share. `meshwarden decisions` reads the first of them "
            "that is a database. Any other name is a file in adapters/decisions."
        ),
    ] = ("jsonl", "sqlite")
    url: Annotated[
        str,
        Meta(
            description="`postgresql://USER@HOST:PORT/DATABASE` of the sink `postgresql` (needs "
            "the extra `postgresql`); empty is that of `store.url`. Keep a password in a passfile, "
            "not here."
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=63,
            description="The schema of its tables, for records alone; made if it isn't there.",
        ),
    ] = "meshwarden_decisions"
    days: Annotated[
        int, Meta(ge=1, le=36_500, description="Age at which a record is removed, in days.")
    ] = 30
    database_bytes: Annotated[
        int,
        Meta(
            ge=1_048_576,
            le=1 << 40,
            description="Size at which a database gives up its oldest records, in bytes. The "
            "write-ahead log of `decisions.db`, some MB, comes on top.",
        ),
    ] = 536_870_912
    file_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1 << 40,
            description="Size at which a new file of JSON lines is begun, in bytes.",
        ),
    ] = 67_108_864
    files: Annotated[
        int, Meta(ge=1, le=10_000, description="Files of JSON lines kept; the oldest is removed.")
    ] = 8


@dataclass(frozen=True, slots=True)
class Identity:
    """The certificate authority; off unless `trust_domain` names one."""

    trust_domain: Annotated[
        str,
        Meta(
            description="Such as `mesh.example`: the first part of every SPIFFE ID that is issued. "
            "It can't be changed later. Empty issues nothing."
        ),
    ] = ""
    ca: Annotated[
        Literal["self-signed", "offline", "files"],
        Meta(
            description="`self-signed` makes a root and an intermediate at the first start; "
            "`offline` awaits an intermediate that a root elsewhere signs (`meshwarden ca csr`, "
            "`ca import`); `files` takes `ca_chain` and `ca_key`."
        ),
    ] = "self-signed"
    ca_chain: Annotated[
        Path | None,
        Meta(
            description="With `files`: PEM file of the signing certificate, what is above it, and "
            "the root at last. Read again when it changes."
        ),
    ] = None
    ca_key: Annotated[
        Path | None,
        Meta(description="With `files`: PEM file of its key, unencrypted, with mode 0600."),
    ] = None
    keeper: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where private keys are: `sealed` in the database, or `memory`, which a "
            "restart loses; any other name is a file in adapters/keepers.",
        ),
    ] = "sealed"
    key_file: Annotated[
        Path,
        Meta(
            description="What seals the private keys; made at the first start, with mode 0600. "
            "Replicas need the same. Keep a copy: without it the authority is lost.",
            extra={
                "default": "`/etc/meshwarden/sealing.key` for root, else "
                "`$XDG_CONFIG_HOME/meshwarden/sealing.key`",
                "example": "/etc/meshwarden/sealing.key",
            },
        ),
    ] = field(default_factory=_sealing_key)
    passphrase_file: Annotated[
        Path | None,
        Meta(
            description="File with a passphrase of 12 characters or more that takes the place of "
            "`key_file`; mode 0600."
        ),
    ] = None
    key_type: Annotated[
        Literal["ec-p256", "ec-p384", "rsa-2048", "ed25519"],
        Meta(
            description="Of authorities that are made here. Envoy verifies no chain with Ed25519."
        ),
    ] = "ec-p256"
    jwt_key_type: Annotated[
        Literal["ec-p256", "ec-p384", "rsa-2048"],
        Meta(description="Of the key that signs tokens: ES256, ES384 or RS256."),
    ] = "ec-p256"
    root_days: Annotated[
        int, Meta(ge=1, le=36_500, description="How long a root that is made here holds, in days.")
    ] = 3_650
    signer_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_500,
            description="How long an intermediate that is made here holds, and the key of tokens, "
            "in days.",
        ),
    ] = 1_825
    name_constraint: Annotated[
        bool,
        Meta(
            description="Let a root that is made here say that it is good for its trust domain "
            "only. Envoy, OpenSSL and Go obey it; rustls and Python's `cryptography` refuse every "
            "chain that has it."
        ),
    ] = False
    x509_ttl_s: Annotated[
        int,
        Meta(
            ge=1, le=31_536_000, description="How long a certificate holds by default, in seconds."
        ),
    ] = 3_600
    max_x509_ttl_s: Annotated[
        int,
        Meta(ge=1, le=31_536_000, description="The most that an entry can get, in seconds."),
    ] = 86_400
    jwt_ttl_s: Annotated[
        int, Meta(ge=1, le=31_536_000, description="How long a token holds by default, in seconds.")
    ] = 300
    max_jwt_ttl_s: Annotated[
        int, Meta(ge=1, le=31_536_000, description="The most that an entry can get, in seconds.")
    ] = 3_600
    refresh_hint_s: Annotated[
        int,
        Meta(
            ge=1,
            le=31_536_000,
            description="How often who has a copy of the bundle should look for a new one, in "
            "seconds.",
        ),
    ] = 300

    entries: Annotated[
        Path | None,
        Meta(
            description="YAML file of entries, or folder of `*.yaml`, that is obeyed as it "
            "changes: what leaves it is removed. Such entries can't be changed by commands."
        ),
    ] = None
    nodes: Nodes = field(default_factory=Nodes)

    @property
    def is_on(self) -> bool:
        """Whether anything is issued."""
        return bool(self.trust_domain)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, validated: paths are absolute, and what depends fits together.

    `meshwarden.config.load` makes one from a file; fields given by hand are not checked.
    """

    listen: Listen = field(default_factory=Listen)
    fallback: Fallback = field(default_factory=Fallback)
    runtime: Runtime = field(default_factory=Runtime)
    server: Server = field(default_factory=Server)
    policy: Policy = field(default_factory=Policy)
    store: Store = field(default_factory=Store)
    admin: Admin = field(default_factory=Admin)
    engine: Engine = field(default_factory=Engine)
    check: Check = field(default_factory=Check)
    decisions: Decisions = field(default_factory=Decisions)
    identity: Identity = field(default_factory=Identity)
    agent: Agent = field(default_factory=Agent)
