"""What an Envoy may ask for by name, and the secret that it gets.

A secret is made of one view, and a view is replaced whole: a key never goes out with another's
certificate.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from typing_extensions import override

from ca.bundle import Bundle
from meshwarden.agent.svids import Svid, WorkloadSvids
from protos.envoy.config.core.v3.base_pb2 import DataSource, Node
from protos.envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from protos.envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    TlsCertificate,
)
from protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from protos.envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import (
    SPIFFECertValidatorConfig,
)

__all__ = [
    "ALL",
    "DEFAULT",
    "ROOT",
    "FixedSecrets",
    "Named",
    "Secrets",
    "Wish",
    "WorkloadSecrets",
    "certificate_secret",
    "roots_secret",
    "wish_of",
]

DEFAULT = "default"
"""The workload's first identity."""
ROOT = "ROOTCA"
"""The bundle of the own trust domain."""
ALL = "ALL"
"""Every bundle: the own trust domain's, and those it federates with."""

TYPE_URL = f"type.googleapis.com/{Secret.DESCRIPTOR.full_name}"
_VALIDATOR = "envoy.tls.cert_validator.spiffe"
_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a client wants bundles; it says so in its node's metadata.

    Attributes:
        root_by_validator: `ROOTCA` too by Envoy's SPIFFE validator (`spiffe_cert_validation`).
        no_validator: Never by that validator (`disable_spiffe_cert_validation`, SPIRE's name for
            it): for clients that don't know it.
    """

    root_by_validator: bool = False
    no_validator: bool = False


def wish_of(node: Node) -> Wish:
    """Read a client's metadata; what is no truth value counts as not said."""
    fields = node.metadata.fields
    return Wish(
        root_by_validator=fields["spiffe_cert_validation"].bool_value
        if "spiffe_cert_validation" in fields
        else False,
        no_validator=fields["disable_spiffe_cert_validation"].bool_value
        if "disable_spiffe_cert_validation" in fields
        else False,
    )


@dataclass(frozen=True, slots=True)
class Named:
    """One secret as it goes out.

    Attributes:
        name: What it was asked for by.
        version: Digest of all that is in it.
        secret: The message. Holds a key: never shown or logged.
    """

    name: str
    version: str
    secret: Secret

    @override
    def __repr__(self) -> str:
        """Show everything but the secret."""
        return f"Named({self.name!r}, {self.version!r})"


class Secrets(Protocol):
    """All that a client may ask for at one time."""

    @property
    def every(self) -> tuple[str, ...]:
        """What a client gets that names nothing."""

    def get(self, name: str) -> Named | None:
        """Give a secret; None where there is none of that name."""

    def why_not(self, name: str) -> str:
        """Say why there is no secret of a name, and which names there are."""


class FixedSecrets(Secrets):
    """Secrets by their own names, the same for everybody who may ask."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._named = {each.name: _named(each) for each in secrets}

    @property
    @override
    def every(self) -> tuple[str, ...]:
        return tuple(self._named)

    @override
    def get(self, name: str) -> Named | None:
        return self._named.get(name)

    @override
    def why_not(self, name: str) -> str:
        return f"there is no secret {name[:200]!r}; there are: {', '.join(self._named) or 'none'}"


class WorkloadSecrets(Secrets):
    """The secrets of one view, each made when it is first asked for."""

    def __init__(self, view: WorkloadSvids, wish: Wish = Wish()) -> None:
        self._view = view
        self._wish = wish
        self._made: dict[str, Named | None] = {}

    @override
    def get(self, name: str) -> Named | None:
        if name not in self._made:
            secret = self._secret(name)
            if secret is not None:
                secret.name = name
            self._made[name] = None if secret is None else _named(secret)
        return self._made[name]

    @override
    def why_not(self, name: str) -> str:
        if name == ALL and self._wish.no_validator:
            return (
                f"{ALL!r} has the roots of several trust domains, which only Envoy's SPIFFE "
                "validator tells apart, and the node's metadata says not to use it; ask for a "
                "bundle by its trust domain"
            )
        if not self._view.svids and self._view.why:
            return self._view.why
        return f"there is no secret {name[:200]!r} for this workload; there are: {self.names}"

    @cached_property
    def names(self) -> str:
        """Every name that there is a secret for."""
        domains = [_SCHEME + each.trust_domain for each in self._view.bundles]
        identities = [each.spiffe_id for each in self._view.svids]
        known = [DEFAULT, *identities, ROOT, ALL, *domains] if identities else ["none"]
        return ", ".join(dict.fromkeys(known))

    @property
    @override
    def every(self) -> tuple[str, ...]:
        """Each identity, and the own bundle."""
        return (*(each.spiffe_id for each in self._view.svids), ROOT)

    def _secret(self, name: str) -> Secret | None:
        # Who has no identity here has no business with its bundles either.
        if not self._view.svids:
            return None
        if name in {ROOT, ALL}:
            return self._bundles(name)
        for svid in self._view.svids:
            if name in {DEFAULT, svid.spiffe_id}:
                return _certificate(svid)
        domain = name.removeprefix(_SCHEME)
        for bundle in self._view.bundles:
            if name.startswith(_SCHEME) and bundle.trust_domain == domain:
                pem = bundle.to_pem()
                if self._wish.no_validator:
                    return _plain(pem)
                return _validated({domain: pem})
        return None

    def _bundles(self, name: str) -> Secret | None:
        bundles = self._view.bundles
        if not bundles:
            return None
        if name == ALL:
            if self._wish.no_validator:
                return None
            return _validated({each.trust_domain: each.to_pem() for each in bundles})
        own = bundles[0]
        if self._wish.root_by_validator and not self._wish.no_validator:
            return _validated({own.trust_domain: own.to_pem()})
        return _plain(own.to_pem())


def certificate_secret(name: str, chain: Sequence[bytes], key_pem: str) -> Secret:
    """Write a certificate with its key.

    Args:
        name: What it is asked for by.
        chain: DER, the leaf first.
        key_pem: PKCS#8.
    """
    text = "".join(_pem("CERTIFICATE", each) for each in chain)
    certificate = TlsCertificate(certificate_chain=_inline(text), private_key=_inline(key_pem))
    return Secret(name=name, tls_certificate=certificate)


def roots_secret(name: str, bundle: Bundle) -> Secret:
    """Write a trust domain's authorities, to verify those who show a certificate.

    Not by Envoy's SPIFFE validator: it also refuses who shows none.
    """
    secret = _plain(bundle.to_pem())
    secret.name = name
    return secret


def _named(secret: Secret) -> Named:
    text = secret.SerializeToString(deterministic=True)
    return Named(secret.name, hashlib.sha256(text).hexdigest()[:32], secret)


def _certificate(svid: Svid) -> Secret:
    return certificate_secret(svid.spiffe_id, svid.chain, _pem("PRIVATE KEY", svid.key))


def _plain(pem: str) -> Secret:
    return Secret(validation_context=CertificateValidationContext(trusted_ca=_inline(pem)))


def _validated(pems: dict[str, str]) -> Secret:
    """A context by which a trust domain's authorities vouch for IDs of that domain alone."""
    config = SPIFFECertValidatorConfig(
        trust_domains=[
            SPIFFECertValidatorConfig.TrustDomain(name=domain, trust_bundle=_inline(pem))
            for domain, pem in sorted(pems.items())
        ]
    )
    extension = TypedExtensionConfig(name=_VALIDATOR)
    extension.typed_config.Pack(config, deterministic=True)
    return Secret(
        validation_context=CertificateValidationContext(custom_validator_config=extension)
    )


def _inline(text: str) -> DataSource:
    return DataSource(inline_bytes=text.encode())


def _pem(label: str, der: bytes) -> str:
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
