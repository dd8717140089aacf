"""Sections of the certificate authority."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from meshwarden.settings.folders import sealing_key
from meshwarden.settings.nodes import Nodes

__all__ = ["Identity"]


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
    ] = field(default_factory=sealing_key)
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
