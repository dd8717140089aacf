"""The baseline of issuing: `cryptography` alone, on the same requests, in one process.

For each it verifies the request, builds the same certificate as the authority does, signs it, and
parses and verifies what came out. No message, no check of names, no ledger, no disk.

Run as `python -m benchmarks.x509_baseline FILE SECONDS`, where FILE holds requests in PEM; it tells
how many it did in a second, and how many in a second of CPU time.
"""

import re
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["SPIFFE_ID", "main", "requests_in"]

SPIFFE_ID = "spiffe://bench.example/ns/shop/sa/orders"
_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_PURPOSES = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)


class _Authority:
    """What signs: a key with a name."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public = self.key.public_key()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench.example")])
        self.identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.public)

    def issue(self, request: bytes) -> bytes:
        """Do for one request what an authority has to."""
        csr = x509.load_der_x509_csr(request)
        if not csr.is_signature_valid:
            raise ValueError("the request's signature is wrong")
        key = csr.public_key()
        now = datetime.now(UTC)  # noqa: TID251 - as anybody would
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(SPIFFE_ID)])
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(int.from_bytes(secrets.token_bytes(16)))
            .not_valid_before(now - timedelta(seconds=60))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(_PURPOSES, critical=False)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key),
                critical=False,
            )
            .add_extension(self.identifier, critical=False)
            .add_extension(san, critical=True)
            .sign(self.key, SHA256())
        )
        der = made.public_bytes(Encoding.DER)
        found = x509.load_der_x509_certificate(der)
        self.public.verify(found.signature, found.tbs_certificate_bytes, ec.ECDSA(SHA256()))
        return der


def requests_in(file: Path) -> Sequence[bytes]:
    """Read requests from PEM as DER."""
    text = file.read_text()
    blocks = re.findall(r"-----BEGIN [^-]+-----[^-]+-----END [^-]+-----\n", text)
    return [x509.load_pem_x509_csr(block.encode()).public_bytes(Encoding.DER) for block in blocks]


def main(arguments: list[str]) -> None:
    """Issue for so many seconds."""
    requests, seconds = requests_in(Path(arguments[0])), float(arguments[1])
    authority = _Authority()
    for request in requests[:50]:
        authority.issue(request)
    count, started, cpu = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        for request in requests[:20]:
            authority.issue(request)
        count += 20
    print(count / elapsed, count / (time.process_time() - cpu))


if __name__ == "__main__":
    main(sys.argv[1:])
