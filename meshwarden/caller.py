"""Who calls: as our own front saw it, or as a certificate says where there is no front.

The header that crosses the hop is read here alone, for control's public server alone: only on its
socket can it be believed, since the front overwrites it on each request (SANITIZE_SET) or removes
it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.spiffe_id import InvalidSpiffeIdError, parse
from meshwarden.front.bootstrap import SOURCE_HEADER, TLS_HEADER

__all__ = ["Caller", "caller_of", "certificate_sha256", "only_spiffe_id"]

_CERTIFICATE_HEADER = "x-forwarded-client-cert"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a public call.

    Attributes:
        spiffe_id: From the client's certificate; empty without exactly one valid SPIFFE ID.
        source_ip: The connection's peer; empty when the front didn't say.
        tls: Whether the connection is TLS.
        certificate_sha256: Digest of the client's certificate in DER; empty without an identity.
    """

    spiffe_id: str
    source_ip: str
    tls: bool
    certificate_sha256: bytes = b""

    @property
    def principal(self) -> str:
        """The identity as policies write it, without the scheme."""
        return self.spiffe_id.removeprefix("spiffe://")


def caller_of(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """Read a call's metadata.

    Anything but exactly one element with exactly one URI is nobody: a front of ours never sends
    it, so it is a forgery or a fault, and neither gets an identity.
    """
    certificates, address, tls = [], "", False
    for name, value in metadata:
        text = value if isinstance(value, str) else ""
        if name == _CERTIFICATE_HEADER:
            certificates.append(text)
        elif name == SOURCE_HEADER:
            address = text
        elif name == TLS_HEADER:
            tls = text not in {"", "-"}
    spiffe_id, digest = _one_identity(certificates)
    return Caller(spiffe_id, address, tls, digest)


def only_spiffe_id(certificate: bytes) -> str:
    """Give the SPIFFE ID of a PEM certificate, if that is its one URI; else ""."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        parse(uri)
    except Exception:  # noqa: BLE001 - whatever a certificate holds, one we can't read is nobody's
        return ""
    return uri


def certificate_sha256(certificate: bytes) -> bytes:
    """Digest a PEM certificate that `only_spiffe_id` could read, as Envoy does: in DER."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())


def _one_identity(headers: list[str]) -> tuple[str, bytes]:
    """Give the SPIFFE ID, and the digest that Envoy always adds ("Hash")."""
    if len(headers) != 1 or "," in headers[0] or '"' in headers[0]:
        return "", b""
    pairs = [pair.partition("=") for pair in headers[0].split(";")]
    uris, hashes = (
        [value for key, _, value in pairs if key.upper() == wanted] for wanted in ("URI", "HASH")
    )
    if len(uris) != 1:
        return "", b""
    try:
        parse(uris[0])
        return uris[0], bytes.fromhex(hashes[0]) if len(hashes) == 1 else b""
    except (InvalidSpiffeIdError, ValueError):
        return "", b""
