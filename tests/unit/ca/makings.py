"""Authorities, requests and certificates for tests, made with the library itself."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from adapters.keepers.memory import Config, MemoryKeeper
from ca.authority import Authorities, Plan, first_plan
from ca.keys import PrivateKey
from ca.spiffe_id import parse
from meshwarden.control.identity.signing import Signing, make_signing

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
WEB = parse("spiffe://mesh.example/ns/shop/sa/web")
OTHER = parse("spiffe://mesh.example/ns/shop/sa/orders")
DOMAIN = "mesh.example"

Extensions = Sequence[tuple[x509.ExtensionType, bool]]


class Randomness:
    """Different bytes at each call, the same in each run."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        """Give so many bytes."""
        found = b""
        while len(found) < count:
            self.calls += 1
            found += self.calls.to_bytes(16)
        return found[:count]


def names(*values: str) -> x509.SubjectAlternativeName:
    """Make a SAN of URIs (with a colon) and DNS names."""
    return x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(value) if ":" in value else x509.DNSName(value)
            for value in values
        ]
    )


def request(
    key: PrivateKey | None = None,
    extensions: Extensions = (),
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    """Make a request with any key and extensions, in DER."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = algorithm or hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def authorities(plan: Plan | None = None, now_ns: int = NOW) -> tuple[Authorities, MemoryKeeper]:
    """Make those of a first start."""
    plan = plan or Plan(DOMAIN)
    keeper = MemoryKeeper(Config())
    made = first_plan(plan, Authorities(plan.trust_domain), keeper, now_ns, Randomness())
    return Authorities(plan.trust_domain, 1, tuple(made)), keeper


def signing(plan: Plan | None = None, now_ns: int = NOW) -> Signing:
    """Make what it takes to sign."""
    made, keeper = authorities(plan, now_ns)
    return make_signing(made, lambda each: keeper.get(each.authority_id, each.handle), 300)


def certificate(  # noqa: PLR0913 - the parts of one
    issuer_key: PrivateKey,
    issuer: x509.Name,
    key: PrivateKey,
    extensions: Extensions,
    *,
    serial: int = 7,
    subject: x509.Name | None = None,
    begin_ns: int = NOW - 60 * SECOND,
    end_ns: int = NOW + 600 * SECOND,
    algorithm: hashes.HashAlgorithm | None = None,
) -> bytes:
    """Make a certificate of any content, in DER."""
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject if subject is not None else x509.Name([]))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(begin_ns // SECOND, UTC))
        .not_valid_after(datetime.fromtimestamp(end_ns // SECOND, UTC))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)
