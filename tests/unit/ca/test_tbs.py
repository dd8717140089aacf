"""A leaf's bytes, against the library's own for the same content."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.keys import KeyType, PrivateKey, generate, hash_for
from ca.profile import (
    EXTENDED_USAGE,
    NO_AUTHORITY,
    RSA_USAGE,
    USAGE,
    Validity,
    subject_alternative_names,
)
from ca.spiffe_id import SpiffeId
from ca.tbs import LeafFrame
from tests.unit.ca.makings import NOW, SECOND, WEB

ISSUER = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ämter & Söhne"),
    ]
)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
YEAR = 366 * 86_400 * SECOND


def by_library(  # noqa: PLR0913, PLR0917 - the parts of one
    signer: PrivateKey, key: PrivateKey, spiffe_id: SpiffeId, names: list[str], times: Validity,
    serial: int,
) -> x509.Certificate:  # fmt: skip
    """Build the same certificate as anybody would."""
    public = key.public_key()
    usage = RSA_USAGE if isinstance(key, rsa.RSAPrivateKey) else USAGE
    identifier = x509.AuthorityKeyIdentifier(b"i" * 20, None, None)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ISSUER)
        .subject_name(x509.Name([]))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(datetime.fromtimestamp(times.not_before_ns // SECOND, UTC))
        .not_valid_after(datetime.fromtimestamp(times.not_after_ns // SECOND, UTC))
        .add_extension(NO_AUTHORITY, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(EXTENDED_USAGE, critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(subject_alternative_names(spiffe_id, names), critical=True)
    )
    return builder.sign(signer, hash_for(signer))  # type: ignore[arg-type]


def ours(  # noqa: PLR0913, PLR0917 - likewise
    signer: PrivateKey, key: PrivateKey, spiffe_id: SpiffeId, names: list[str], times: Validity,
    serial: int,
) -> x509.Certificate:  # fmt: skip
    """Write it."""
    frame = LeafFrame(ISSUER, b"i" * 20, signer)
    return x509.load_der_x509_certificate(
        frame.sign(key.public_key(), spiffe_id, names, times, serial)
    )


SIGNERS, LEAVES = ({kind: generate(kind) for kind in KeyType} for _ in range(2))


@pytest.mark.parametrize("kind", KeyType)
@settings(max_examples=25, deadline=None)
@given(
    leaf=st.sampled_from(KeyType),
    path=st.text("abcXYZ019._-", min_size=1, max_size=300),
    names=st.lists(
        st.sampled_from(["a.example", "x" * 60 + ".example", "10.0.0.1", "2001:db8::1"]),
        unique=True,
    ),
    begin=st.integers(-50, 80),
    life=st.integers(1, 30),
    serial=st.one_of(st.integers(1, 300), st.integers(1, 2**128 - 1)),
)
def test_what_is_written_by_hand_is_what_the_library_writes(  # noqa: PLR0913, PLR0917
    kind: KeyType,
    leaf: KeyType,
    path: str,
    names: list[str],
    begin: int,
    life: int,
    serial: int,
) -> None:
    """Byte for byte before the signature, which then verifies: for lengths of every kind."""
    times = Validity(NOW + begin * YEAR // 2, NOW + (begin + life) * YEAR // 2)
    spiffe_id = SpiffeId("mesh.example", "/" + path)
    content = (SIGNERS[kind], LEAVES[leaf], spiffe_id, names, times, serial)
    found, expected = ours(*content), by_library(*content)
    assert found.tbs_certificate_bytes == expected.tbs_certificate_bytes
    assert found.signature_algorithm_oid == expected.signature_algorithm_oid
    # Not verify_directly_issued_by(): there is no issuer's certificate here.
    root = _root(SIGNERS[kind])
    found.verify_directly_issued_by(root)


def _root(key: PrivateKey) -> x509.Certificate:
    moment = datetime.fromtimestamp(NOW // SECOND, UTC)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ISSUER)
        .subject_name(ISSUER)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(moment)
        .not_valid_after(moment)
    )
    return builder.sign(key, hash_for(key))  # type: ignore[arg-type]


def test_it_is_der_and_nothing_follows() -> None:
    """What was written is what is read."""
    frame = LeafFrame(ISSUER, b"i" * 20, SIGNERS[KeyType.EC_P256])
    der = frame.sign(EC_KEY.public_key(), WEB, [], Validity(NOW, NOW + SECOND), 1 << 127)
    found = x509.load_der_x509_certificate(der)
    assert found.public_bytes(Encoding.DER) == der
    assert found.serial_number == 1 << 127
