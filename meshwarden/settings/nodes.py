"""Settings of node attestors, one section each, and of what agents may ask: parts of [identity]."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

__all__ = ["K8sPsat", "Nodes", "X509Pop"]


@dataclass(frozen=True, slots=True)
class X509Pop:
    """Nodes that have a certificate of their own already."""

    ca: Annotated[
        Path | None,
        Meta(description="PEM file of the roots that nodes' certificates chain to."),
    ] = None


@dataclass(frozen=True, slots=True)
class K8sPsat:
    """Nodes of a Kubernetes cluster, by the service account token of the agent on them."""

    cluster: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z0-9._-]+\Z",
            description="What the cluster is called in agents' SPIFFE IDs and selectors.",
        ),
    ] = "kubernetes"
    audiences: Annotated[
        tuple[str, ...], Meta(description="A token has to be for one of these audiences.")
    ] = ("meshwarden",)
    service_accounts: Annotated[
        tuple[str, ...],
        Meta(description="Service accounts that agents run as, each `NAMESPACE:NAME`."),
    ] = ()
    issuer: Annotated[
        str, Meta(description="What a token's `iss` must be; empty takes what the keys sign.")
    ] = ""
    jwks: Annotated[
        str,
        Meta(
            description="The cluster's public keys: an `https://` address, such as the API "
            "server's `/openid/v1/jwks`, or the whole path of a file."
        ),
    ] = ""
    token_review: Annotated[
        str,
        Meta(
            description="In place of `jwks`: the `https://` address of the API server, which is "
            "asked about each token (TokenReview)."
        ),
    ] = ""
    server_ca: Annotated[
        Path | None, Meta(description="PEM file of the authority of either address.")
    ] = None
    token: Annotated[
        Path | None, Meta(description="File of the service account token that is shown there.")
    ] = None


@dataclass(frozen=True, slots=True)
class Nodes:
    """Agents: how a node becomes one, and how much each may ask."""

    attestors: Annotated[
        tuple[str, ...],
        Meta(
            description="How nodes may attest: `join_token`, `x509pop`, `k8s_psat`, and "
            "`expired_svid` for agents whose certificate ran out; any other name is a file in "
            "adapters/node_attestors."
        ),
    ] = ("join_token", "expired_svid")
    reattest_grace_s: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="With `expired_svid`: how long after its expiry the newest certificate of "
            "an agent, with its key, still lets it come back, in seconds; 0 never does.",
        ),
    ] = 86_400
    forget_agents_days: Annotated[
        int,
        Meta(
            ge=0,
            le=3_650,
            description="How many days after the expiry of its newest certificate an agent is "
            "forgotten; 0 never does. With `expired_svid`, no sooner than `reattest_grace_s` ends. "
            "A banned agent stays.",
        ),
    ] = 30
    ttl_s: Annotated[
        int,
        Meta(
            ge=0,
            le=31_536_000,
            description="How long an agent's own certificate holds, in seconds; 0 is "
            "`identity.x509_ttl_s`.",
        ),
    ] = 0
    max_join_token_ttl_s: Annotated[
        int, Meta(ge=1, le=31_536_000, description="The longest that a join token holds.")
    ] = 86_400
    attestations_per_s: Annotated[
        float,
        Meta(
            ge=0.001,
            le=100_000,
            description="Attestations a second from one address (of IPv6, its /64); ten seconds' "
            "worth may come at once.",
        ),
    ] = 10.0
    signatures_per_s: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000_000,
            description="Certificates and tokens a second for one agent, or for one operator who "
            "mints; ten seconds' worth may come at once.",
        ),
    ] = 500.0
    x509pop: X509Pop = field(default_factory=X509Pop)
    k8s_psat: K8sPsat = field(default_factory=K8sPsat)
