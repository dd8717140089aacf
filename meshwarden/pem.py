"""PEM, as files and people have it, from and to the DER that messages carry."""

import base64
from collections.abc import Iterable, Sequence

from ca.errors import CertificateError

__all__ = ["certificates_of", "certificates_pem", "csr_pem"]

_LINE = 64  # RFC 7468 section 2.


def certificates_of(data: bytes) -> Sequence[bytes]:
    """Read the certificates of a PEM file as DER, in their order.

    Raises:
        CertificateError: There is none, or what is there is no certificate.
    """
    from cryptography import x509  # noqa: PLC0415 - commands that only write need not wait for it
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    try:
        return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(data)]
    except ValueError as error:
        raise CertificateError("there is no PEM certificate in it, or a broken one") from error


def certificates_pem(certificates: Iterable[bytes]) -> str:
    """Write certificates."""
    return "".join(_pem("CERTIFICATE", each) for each in certificates)


def csr_pem(der: bytes) -> str:
    """Write a certificate signing request."""
    return _pem("CERTIFICATE REQUEST", der)


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
