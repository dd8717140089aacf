"""Signs certificates: of workloads for checked requests, and of authorities.

Nothing here decides anything: what may be signed was decided by `check_csr`, and whether the
result is what it should be is found by `ca.verify`, which knows nothing of this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.csr import CheckedCsr
from ca.keys import PrivateKey, PublicKey, hash_for, key_id
from ca.profile import (
    SECOND_NS,
    Validity,
    subject_alternative_names,
)
from ca.spiffe_id import SpiffeId
from ca.tbs import LeafFrame

__all__ = [
    "AuthorityProfile",
    "Signer",
    "authority_extensions",
    "authority_subject",
    "sign",
    "sign_authority",
]

_NAME_CHARACTERS = 64  # ub-organization-name and ub-common-name of RFC 5280, appendix A.1.
_ID_SHOWN = 16


class Signer:
    """An authority's key with its certificate, made ready to sign many.

    Attributes:
        authority_id: Name of its key.
        name: The issuer that its certificates say.
        leaves: Writes and signs X509-SVIDs.
    """

    def __init__(self, certificate: bytes, key: PrivateKey) -> None:
        """Prepare what is the same for every certificate.

        Args:
            certificate: The authority's own, in DER.
            key: Its private key.

        Raises:
            ValueError: They don't belong together.
        """
        own = x509.load_der_x509_certificate(certificate)
        if own.public_key() != key.public_key():
            raise ValueError("the key is not that of the certificate")
        self.authority_id = key_id(key.public_key())
        self.name = own.subject
        identifier = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        self._identifier = _extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        self._key = key
        self.leaves = LeafFrame(own.subject, identifier.digest, key)

    def sign(self, content: "_Content") -> bytes:
        """Sign as this authority; give the certificate in DER."""
        return _signed(content, self.name, self._identifier, self._key)


@dataclass(frozen=True, slots=True)
class _Content:
    """What an authority's certificate says, but for who signs it."""

    subject: x509.Name
    key: PublicKey
    times: Validity
    serial: int
    extensions: "list[x509.Extension[x509.ExtensionType]]"


def sign(signer: Signer, request: CheckedCsr, times: Validity, serial: int) -> bytes:
    """Sign an X509-SVID; give it in DER.

    Args:
        signer: Who signs.
        request: What was checked.
        times: From `validity`, so within those of the signer.
        serial: From `serial_from`, and on the ledger already.
    """
    return signer.leaves.sign(request.public_key, request.spiffe_id, request.names, times, serial)


@dataclass(frozen=True, slots=True)
class AuthorityProfile:
    """What an authority's certificate holds.

    Attributes:
        trust_domain: Its SPIFFE ID is this without a path (X509-SVID standard, section 3.2).
        kind: "root" or "intermediate".
        path_length: How many authorities may follow below it.
        name_constraint: Whether it may sign for its trust domain only (section 4.2).
    """

    trust_domain: str
    kind: str
    path_length: int
    name_constraint: bool = False


def authority_subject(profile: AuthorityProfile, key: PublicKey) -> x509.Name:
    """Give an authority's subject, different for every key.

    Two authorities of one name are told apart by their key identifiers alone, which not every
    validator looks at.
    """
    domain = profile.trust_domain[:_NAME_CHARACTERS]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain),
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"Meshwarden {profile.kind} {key_id(key)[:_ID_SHOWN]}"
            ),
        ]
    )


def sign_authority(
    signer: "Signer | PrivateKey",
    profile: AuthorityProfile,
    key: PublicKey,
    times: Validity,
    serial: int,
) -> bytes:
    """Sign an authority's certificate; give it in DER.

    Args:
        signer: The authority above; or the key's own private key, for a root.
        profile: What it may do.
        key: Its public key.
        times: From when to when it holds.
        serial: From `serial_from`.
    """
    subject = authority_subject(profile, key)
    extensions = [
        _extension(extension, critical=critical)
        for extension, critical in authority_extensions(profile, key)
    ]
    content = _Content(subject, key, times, serial, extensions)
    if isinstance(signer, Signer):
        return signer.sign(content)
    own = _extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key), critical=False)
    return _signed(content, subject, own, signer)


def authority_extensions(
    profile: AuthorityProfile, key: PublicKey
) -> Sequence[tuple[x509.ExtensionType, bool]]:
    """Give an authority's extensions, each with whether it is critical."""
    spiffe_id = SpiffeId(profile.trust_domain, "")
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=profile.path_length), True),
        (_SIGNS, True),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
        (subject_alternative_names(spiffe_id), False),
    ]
    if profile.name_constraint:
        permitted = [x509.UniformResourceIdentifier(profile.trust_domain)]
        extensions.append((x509.NameConstraints(permitted, None), True))
    return extensions


def _signed(
    content: _Content,
    issuer: x509.Name,
    identifier: "x509.Extension[x509.ExtensionType]",
    key: PrivateKey,
) -> bytes:
    builder = x509.CertificateBuilder(
        issuer,
        content.subject,
        content.key,
        content.serial,
        _time(content.times.not_before_ns),
        _time(content.times.not_after_ns),
        [*content.extensions, identifier],
    )
    # The library's types don't know that None goes with Ed25519 alone.
    return builder.sign(key, hash_for(key)).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def _extension(
    value: x509.ExtensionType, *, critical: bool
) -> "x509.Extension[x509.ExtensionType]":
    return x509.Extension(value.oid, critical, value)


def _time(time_ns: int) -> datetime:
    # Without a zone, as the library has times where nothing converts them any more.
    return datetime.fromtimestamp(time_ns // SECOND_NS, UTC).replace(tzinfo=None)


_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
