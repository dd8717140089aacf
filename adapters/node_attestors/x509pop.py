"""A node's own certificate: from the machine's vendor, a cloud, an inventory, a company's PKI.

The node shows its chain and signs a challenge with the key. Its agent is named by the certificate's
digest: a node with a new certificate is a new agent.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import (
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from typing_extensions import override

from adapters.spec import Adapter
from ca.attestation import Attempt, AttestationError, NodeAttestor, NodeIdentity
from ca.der import InvalidDerError, der_value, split_der
from ca.errors import CertificateError
from ca.keys import weakness
from ca.possession import CHALLENGE_BYTES, holds
from ca.selectors import InvalidSelectorError, Selector, parse_selector
from ca.verify import parse_certificate

__all__ = ["ADAPTER", "Config"]

_KIND = "x509pop"
_MAX_PAYLOAD = 64 * 1024
_MAX_CERTIFICATES = 8
_MAX_DEPTH = 6
_MAX_NAME = 100
_SEQUENCE, _BIT_STRING = 0x30, 0x03


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of x509pop.

    Attributes:
        ca: PEM file of the roots that nodes' certificates chain to; read at each attestation, so
            that a new root needs no restart.
    """

    ca: Path | None = None


class X509PopAttestor(NodeAttestor):
    """Believes who has the key of a certificate under the roots."""

    def __init__(self, config: Config) -> None:
        self._ca = config.ca

    @override
    async def attest(self, attempt: Attempt) -> NodeIdentity:
        chain = self._verified(_parsed(attempt.payload), attempt.now_ns)
        leaf = chain[0]
        # Step 1: the chain holds. Step 2: its key is at the other end, now.
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        answer = await attempt.challenge(challenge)
        if not holds(leaf.public_key(), challenge, attempt.key_sha256, answer):
            raise AttestationError("the answer is not by the key of the node's certificate")
        twin = _twin(chain)
        return NodeIdentity(
            f"{_KIND}/{leaf.fingerprint(hashes.SHA256()).hex()}",
            frozenset(_selectors(chain)),
            can_reattest=True,
            twin_path=f"{_KIND}/{hashlib.sha256(twin).hexdigest()}" if twin else "",
        )

    def _verified(
        self, shown: Sequence[x509.Certificate], now_ns: int
    ) -> Sequence[x509.Certificate]:
        leaf = shown[0]
        if reason := weakness(leaf.public_key()):
            raise AttestationError(f"the key of the node's certificate is too weak: {reason}")
        roots = self._roots()
        verifier = (
            PolicyBuilder()
            .store(Store(roots))
            .time(datetime.fromtimestamp(now_ns // 1_000_000_000, UTC).replace(tzinfo=None))
            .max_chain_depth(_MAX_DEPTH)
            # Authorities as strictly as browsers do; a node's certificate as its maker wrote it:
            # what it may be used for is looked at below.
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        try:
            chain = verifier.verify(leaf, [*shown[1:]]).chain
            _check_use(leaf)
        except (VerificationError, ValueError, x509.DuplicateExtension) as error:
            told = _unfit(shown, roots) or " ".join(str(error).split())[:200]
            raise AttestationError(
                f"the node's certificate does not chain to identity.nodes.x509pop.ca: {told}"
            ) from error
        return chain

    def _roots(self) -> list[x509.Certificate]:
        if self._ca is None:
            raise AttestationError("identity.nodes.x509pop.ca is not set", "FAILED_PRECONDITION")
        try:
            return x509.load_pem_x509_certificates(self._ca.read_bytes())
        except (OSError, ValueError) as error:
            raise AttestationError(
                "the file of identity.nodes.x509pop.ca can't be read", "UNAVAILABLE"
            ) from error


def _parsed(payload: bytes) -> Sequence[x509.Certificate]:
    if len(payload) > _MAX_PAYLOAD:
        raise AttestationError("the certificate chain is too long", "INVALID_ARGUMENT")
    try:
        parts = split_der(payload, _MAX_CERTIFICATES)
        return [
            parse_certificate(each, f"certificate {number}") for number, each in enumerate(parts, 1)
        ]
    except (InvalidDerError, CertificateError) as error:
        told = " ".join(str(error).split())[:100]
        raise AttestationError(
            f"the evidence is no chain of certificates in DER: {told}", "INVALID_ARGUMENT"
        ) from error


def _unfit(shown: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> str:
    """Say which authority above a node says nothing of its use; "" for none.

    The library tells an object identifier then, and not of which certificate: OpenSSL's
    "req -x509" makes such roots.
    """
    try:
        issuers = {each.issuer for each in shown}
        for authority in (*shown[1:], *roots):
            if authority.subject in issuers and not _says_its_use(authority):
                name = authority.subject.rfc4514_string()[:_MAX_NAME]
                return f"the authority {name} has no key usage, and needs one with keyCertSign"
    except (ValueError, x509.DuplicateExtension):
        pass  # A name or an extension is none, of which the library said more.
    return ""


def _says_its_use(authority: x509.Certificate) -> bool:
    try:
        authority.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return False
    return True


def _check_use(leaf: x509.Certificate) -> None:
    """Refuse a certificate that is an authority's, or not for signing, or not for clients.

    Raises:
        VerificationError: It is one.
    """
    for extension in leaf.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise VerificationError("it is an authority's own certificate")
            case x509.KeyUsage(digital_signature=False):
                raise VerificationError("its key usage has no digital signature")
            case x509.ExtendedKeyUsage() as uses if not {
                ExtendedKeyUsageOID.CLIENT_AUTH,
                ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
            } & set(uses):
                raise VerificationError("its extended key usage has no client authentication")
            case _:
                pass


def _twin(chain: Sequence[x509.Certificate]) -> bytes:
    """Give the one other way to write the node's certificate, in DER; empty where there is none.

    Of an ECDSA signature (r, s), (r, -s) is one too, and whoever has the one can write the other:
    a banned node would be another by it, and a good one.

    Raises:
        AttestationError: The certificate isn't written as its authority would.
    """
    leaf, *above = chain
    whole = leaf.public_bytes(serialization.Encoding.DER)
    signature = der_value(_BIT_STRING, b"\0" + leaf.signature)
    # The library looks over bits at the end that are said to be unused, and they name another node.
    if not whole.endswith(signature):
        raise AttestationError("the signature of the node's certificate is not in whole bytes")
    key = above[0].public_key() if above else None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return b""
    first, second = decode_dss_signature(leaf.signature)
    other = encode_dss_signature(first, key.curve.group_order - second)
    # What was signed, and the algorithm.
    content = leaf.tbs_certificate_bytes
    content += whole[whole.index(content) + len(content) : -len(signature)]
    return der_value(_SEQUENCE, content + der_value(_BIT_STRING, b"\0" + other))


def _selectors(chain: Sequence[x509.Certificate]) -> Iterator[Selector]:
    leaf, *above = chain
    values = [f"serialnumber:{leaf.serial_number:x}"]
    common_names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    values += [f"subject:cn:{_text(each.value)}" for each in common_names]
    values += [f"ca:fingerprint:{each.fingerprint(hashes.SHA256()).hex()}" for each in above]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        values += [f"san:dns:{each}" for each in names.get_values_for_type(x509.DNSName)]
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        values += [f"san:uri:{each}" for each in uris]
    for value in values:
        try:
            yield parse_selector(f"{_KIND}:{value}")
        except InvalidSelectorError:
            continue  # A name that nobody can write in an entry selects nothing.


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.hex()


ADAPTER: Adapter[NodeAttestor, Config] = Adapter(config=Config, build=X509PopAttestor)
