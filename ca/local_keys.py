"""Keys that are made where they are used, and the requests that go out for them."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca.errors import CsrError

__all__ = ["new_request", "request_der"]


def new_request() -> tuple[bytes, bytes]:
    """Make a P-256 key; give it as PEM (PKCS#8), and a request without names in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, request.sign(key, SHA256()).public_bytes(Encoding.DER)


def request_der(data: bytes) -> bytes:
    """Read a request from PEM.

    Raises:
        CsrError: It is none.
    """
    try:
        return x509.load_pem_x509_csr(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise CsrError("INVALID_ARGUMENT", "there is no PEM certificate request in it") from error
