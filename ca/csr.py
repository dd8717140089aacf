"""Certificate signing requests: bytes from a stranger in, a checked request out.

A request proves that its sender has the private key, and says what it hopes to be. What it gets to
be is decided elsewhere: by the entry, or by the agent's own identity. So names in a request can
only agree with that, or be refused.

Source: RFC 2986 (PKCS#10); X509-SVID standard, section 2.
"""

from collections.abc import Collection, Iterable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import CsrError
from ca.keys import PublicKey, is_signed_by, weakness
from ca.profile import check_names
from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse

__all__ = ["MAX_CSR_BYTES", "CheckedCsr", "check_csr"]

MAX_CSR_BYTES = 16 * 1024
"""Above any honest request: RSA-4096 and some names take 2 KiB."""

_INVALID, _DENIED = "INVALID_ARGUMENT", "PERMISSION_DENIED"
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_PURPOSES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
_SHOWN = 100
_CHECKED: Final = object()


class CheckedCsr:
    """A request that may be signed; only `check_csr` makes one, and `sign` takes nothing else.

    Attributes:
        public_key: The key that its sender has proved to have.
        spiffe_id: What the certificate will say; from the caller's identity, not from the request.
        names: DNS names and IP addresses that the certificate will say too.
    """

    __slots__ = ("names", "public_key", "spiffe_id")

    def __init__(
        self, proof: object, public_key: PublicKey, spiffe_id: SpiffeId, names: tuple[str, ...]
    ) -> None:
        if proof is not _CHECKED:
            raise TypeError("a CheckedCsr comes from check_csr alone")
        # Nobody puts another one in after the check: types are checked before anything runs.
        self.public_key: Final = public_key
        self.spiffe_id: Final = spiffe_id
        self.names: Final = names


def check_csr(der: bytes, *, allowed_id: SpiffeId, dns_names: Iterable[str] = ()) -> CheckedCsr:
    """Check a request in DER.

    Args:
        der: What the caller sent.
        allowed_id: The one SPIFFE ID that it may have.
        dns_names: DNS names and IP addresses that it may have and will get.

    Raises:
        CsrError: INVALID_ARGUMENT for a request that nobody gets signed, PERMISSION_DENIED for
            one with names that this caller may not have.
        OrderError: `dns_names` has one that is no name.
    """
    if len(der) > MAX_CSR_BYTES:
        raise CsrError(_INVALID, f"the request has {len(der)} bytes, more than {MAX_CSR_BYTES}")
    names = check_names(dns_names)
    try:
        key = _check_request(x509.load_der_x509_csr(der), allowed_id, names)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        # The library quotes what it read; that is a stranger's text and can be long.
        told = " ".join(str(error).split())[:_SHOWN]
        raise CsrError(_INVALID, f"this is no PKCS#10 request in DER: {told}") from error
    return CheckedCsr(_CHECKED, key, allowed_id, names)


def _check_request(
    request: x509.CertificateSigningRequest, allowed_id: SpiffeId, names: Collection[str]
) -> PublicKey:
    key = request.public_key()
    # The key first: verifying by a huge one is what a caller must not make us do.
    if reason := weakness(key):
        raise CsrError(_INVALID, f"the request is too weak: {reason}")
    assert isinstance(key, PublicKey)  # noqa: S101 - no other is without weakness
    algorithm = request.signature_hash_algorithm
    if algorithm is not None and not isinstance(algorithm, _HASHES):
        raise CsrError(_INVALID, f"the request is signed with {algorithm.name}, too weak a hash")
    _check_extensions(request.extensions, allowed_id, names)
    if isinstance(key, rsa.RSAPublicKey):
        # The library also knows the paddings that there are.
        is_signed = request.is_signature_valid
    else:
        signed = request.tbs_certrequest_bytes
        is_signed = is_signed_by(key, request.signature, signed, algorithm)
    if not is_signed:
        raise CsrError(_INVALID, "the request's signature is not by its key")
    return key


def _check_extensions(
    extensions: x509.Extensions, allowed_id: SpiffeId, names: Collection[str]
) -> None:
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName():
                _check_names(extension.value, allowed_id, names)
            case x509.BasicConstraints(ca=True):
                raise CsrError(_INVALID, "the request wants to be an authority (CA:TRUE)")
            case x509.BasicConstraints():
                pass
            case x509.KeyUsage():
                _check_usage(extension.value)
            case x509.ExtendedKeyUsage():
                if not _PURPOSES.issuperset(extension.value):
                    raise CsrError(
                        _INVALID, "the request wants a use other than TLS server and client"
                    )
            case _:
                name = extension.oid.dotted_string
                raise CsrError(_INVALID, f"the request has extension {name}, which no SVID has")


def _check_usage(usage: x509.KeyUsage) -> None:
    if usage.key_cert_sign or usage.crl_sign:
        raise CsrError(_INVALID, "the request wants to sign certificates or revocation lists")
    if usage.content_commitment or usage.data_encipherment:
        raise CsrError(_INVALID, "the request wants a key usage that no SVID has")


def _check_names(
    wanted: x509.SubjectAlternativeName, allowed_id: SpiffeId, names: Collection[str]
) -> None:
    uris = 0
    for name in wanted:
        match name:
            case x509.UniformResourceIdentifier():
                uris += 1
                _check_uri(name.value, allowed_id)
            case x509.DNSName():
                if name.value not in names:
                    raise CsrError(_DENIED, _not_given(_cut(name.value)))
            case x509.IPAddress():
                if str(name.value) not in names:
                    raise CsrError(_DENIED, _not_given(str(name.value)))
            case _:
                raise CsrError(_INVALID, "the request has a name that is no URI, DNS name or IP")
    if uris > 1:
        raise CsrError(_INVALID, f"the request has {uris} URIs; an SVID has one")


def _not_given(name: str) -> str:
    return f"the request asks for {name}, which neither its entry nor --dns gives it"


def _check_uri(uri: str, allowed_id: SpiffeId) -> None:
    try:
        wanted = parse(uri)
    except InvalidSpiffeIdError as error:
        raise CsrError(_INVALID, f"{_cut(uri)} is no SPIFFE ID: {error}") from error
    if wanted != allowed_id:
        raise CsrError(_DENIED, f"{_cut(uri)} is somebody else's SPIFFE ID, not {allowed_id}")


def _cut(text: str) -> str:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return repr(shown)
