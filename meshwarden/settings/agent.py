"""Settings of the agent, one section of meshwarden/settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from meshwarden.settings.address import Address

__all__ = ["Agent"]

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class Agent:
    """`meshwarden agent`: gives the workloads of one machine their identities."""

    server: Annotated[
        str,
        Meta(
            description="HOST:PORT of the service's public port, which must speak TLS. It is known "
            "by its SPIFFE ID; a certificate without one must have this host's name."
        ),
    ] = ""
    trust_bundle: Annotated[
        Path | None,
        Meta(
            description="PEM file of the authorities that the service's certificate may chain to. "
            "Not needed with a join token that holds their hash, nor once the agent has attested."
        ),
    ] = None
    insecure_bootstrap: Annotated[
        bool,
        Meta(
            description="Believe the first server there is, where nothing is known to prove it by. "
            "Whoever is in between then gets the join token, and all identities of this machine."
        ),
    ] = False
    attestor: Annotated[
        Literal["join_token", "x509pop", "k8s_psat"],
        Meta(description="How this machine proves which one it is."),
    ] = "join_token"
    join_token_file: Annotated[
        Path | None,
        Meta(
            description="File of the join token, mode 0600: one that others can read is refused. "
            "On a command line, `--join-token` shows it to every user of the machine."
        ),
    ] = None
    x509pop_certificate: Annotated[
        Path | None, Meta(description="With `x509pop`: PEM file of the machine's own certificate.")
    ] = None
    x509pop_key: Annotated[
        Path | None, Meta(description="With `x509pop`: PEM file of its key, unencrypted.")
    ] = None
    k8s_psat_token: Annotated[
        Path,
        Meta(description="With `k8s_psat`: file of the projected service account token."),
    ] = Path("/var/run/secrets/tokens/meshwarden-agent")
    state_dir: Annotated[
        Path | None,
        Meta(
            description="Kept over restarts, mode 0700: the agent's own certificate and key, the "
            "bundle, and with `keep_identities` those of the workloads.",
            extra={
                "default": "`agent` in `runtime.state_dir`",
                "example": "/var/lib/meshwarden/agent",
            },
        ),
    ] = None
    runtime_dir: Annotated[
        Path | None,
        Meta(
            description="Holds the socket, and others in a folder of mode 0700. At most 66 bytes "
            "long.",
            extra={
                "default": "`runtime.runtime_dir` with `-agent` after it",
                "example": "/run/meshwarden-agent",
            },
        ),
    ] = None
    socket: Annotated[
        Path | None,
        Meta(
            description="The Unix socket of the SPIFFE Workload API. Every process of the machine "
            "that reaches it may connect: what it gets depends on what is found on it.",
            extra={
                "default": "`api.sock` in `agent.runtime_dir`",
                "example": "/run/meshwarden-agent/api.sock",
            },
        ),
    ] = None
    metrics: Annotated[
        Address | None,
        Meta(
            description="Where `/metrics` and `/healthz` of the agent are served: in plain text, "
            "to whoever gets there, as every user of this machine gets to 127.0.0.1. Neither has "
            "a secret or a SPIFFE ID.",
            extra={"default": "none", "example": "127.0.0.1:9193"},
        ),
    ] = None
    allow_plaintext_beyond_loopback: Annotated[
        bool,
        Meta(description="Serve `agent.metrics` on an address that other machines can reach."),
    ] = False
    attestors: Annotated[
        tuple[str, ...],
        Meta(
            description="Who tells what is true of a workload: files in "
            "adapters/workload_attestors. `k8s` asks the kubelet."
        ),
    ] = ("unix", "systemd")
    keep_identities: Annotated[
        bool,
        Meta(
            description="Keep the workloads' certificates and keys on disk as well, beside the "
            "agent's own: a restart then serves them again, also while the service is away."
        ),
    ] = True
    ahead: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="Identities that are signed before a workload asks, at most; those of "
            "entries with templates are always signed on demand.",
        ),
    ] = 1000
    tokens_per_s: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000_000,
            description="JWT-SVIDs a second that are signed for one SPIFFE ID of this machine, and "
            "ten times as many for one user; ten seconds' worth may come at once. Those that the "
            "agent still has don't count.",
        ),
    ] = 10.0
    identities_per_s: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000_000,
            description="Identities a second that processes of one user may be the first to ask "
            "for, of entries with templates; 300 seconds' worth may come at once, as when a "
            "machine starts. What is found on a process fills those, and he may run any program: "
            "`unix:sha256` is his to choose.",
        ),
    ] = 1.0
    max_connections: Annotated[
        int,
        Meta(
            ge=2,
            le=100_000,
            description="Open connections of workloads; no user may have more than half of them, "
            "and, over all of his, twice as many calls at a time.",
        ),
    ] = 2000
    max_program_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="Size above which a program gets no selector `unix:sha256`, in bytes.",
        ),
    ] = 1_073_741_824
    kubelet_url: Annotated[
        str, Meta(description="With the attestor `k8s`: where this machine's kubelet serves.")
    ] = "https://127.0.0.1:10250"
    kubelet_ca: Annotated[
        Path, Meta(description="PEM file of the authorities of the kubelet's certificate.")
    ] = Path(f"{_ACCOUNT}/ca.crt")
    kubelet_token: Annotated[
        Path, Meta(description="File of the token that the kubelet is shown.")
    ] = Path(f"{_ACCOUNT}/token")
    kubelet_unverified: Annotated[
        bool,
        Meta(
            description="Don't check the kubelet's certificate, where it signed its own. Whoever "
            "takes its port then says which pod is which."
        ),
    ] = False
    kubelet_wait_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="How long a container may be unknown to the kubelet, in seconds.",
        ),
    ] = 5.0
