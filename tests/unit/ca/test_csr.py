"""Certificate signing requests: what is signed, what is refused, and with which code."""

import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.csr import MAX_CSR_BYTES, CheckedCsr, check_csr
from ca.errors import CsrError, OrderError
from ca.keys import PrivateKey, key_type
from ca.local_keys import new_request
from tests.unit.ca.makings import OTHER, WEB, Extensions, names, request

INVALID, DENIED = "INVALID_ARGUMENT", "PERMISSION_DENIED"


def usage(*, sign: bool = False, commit: bool = False) -> x509.KeyUsage:
    """A key usage, with what no SVID has."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=commit,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


REFUSED: dict[str, tuple[Extensions, str, str]] = {
    "an authority": (
        [(x509.BasicConstraints(ca=True, path_length=None), True)], INVALID, "CA:TRUE",
    ),
    "signing": ([(usage(sign=True), True)], INVALID, "sign certificates"),
    "commitment": ([(usage(commit=True), True)], INVALID, "key usage"),
    "code signing": (
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)], INVALID, "TLS",
    ),
    "an extension nobody knows": (
        [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), False)],
        INVALID, "1.2.3.4",
    ),
    "name constraints": (
        [(x509.NameConstraints([x509.DNSName("x")], None), True)], INVALID, "2.5.29.30",
    ),
    "somebody else's ID": ([(names(str(OTHER)), False)], DENIED, "somebody else"),
    "another trust domain's ID": (
        [(names("spiffe://other.example/ns/shop/sa/web"), False)], DENIED, "somebody else",
    ),
    "an ID of its trust domain": ([(names("spiffe://mesh.example"), False)], DENIED, "somebody"),
    "two IDs": ([(names(str(WEB), str(WEB)), False)], INVALID, "2 URIs"),
    "its ID and another": ([(names(str(WEB), str(OTHER)), False)], DENIED, "somebody else"),
    "upper case": ([(names("spiffe://MESH.example/ns/shop/sa/web"), False)], INVALID, "lower"),
    "another scheme": ([(names("SPIFFE://mesh.example/ns/shop/sa/web"), False)], INVALID, "begin"),
    "a dot segment": ([(names("spiffe://mesh.example/ns/./shop"), False)], INVALID, "'.'"),
    "a slash at the end": ([(names(f"{WEB}/"), False)], INVALID, "slash"),
    "percent": ([(names("spiffe://mesh.example/ns/%73hop"), False)], INVALID, "only letters"),
    "a port": ([(names("spiffe://mesh.example:80/ns/shop"), False)], INVALID, "lower-case"),
    "somebody else's name": ([(names("bank.example"), False)], DENIED, "bank.example"),
    "an address": (
        [(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]), False)],
        DENIED, "10.0.0.1",
    ),
    "an e-mail address": (
        [(x509.SubjectAlternativeName([x509.RFC822Name("a@b.example")]), False)], INVALID, "no URI",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_nobody_gets_is_invalid_and_what_others_have_is_denied(case: str) -> None:
    """Each request is refused by its own reason."""
    extensions, code, words = REFUSED[case]
    with pytest.raises(CsrError, match=words) as caught:
        check_csr(request(extensions=extensions), allowed_id=WEB, dns_names=["web.shop.example"])
    assert caught.value.code == code


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - that it is refused is the point
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(3, 2048),
    ],
    ids=["rsa-1024", "p-521", "secp256k1", "rsa-e3"],
)
def test_weak_and_unknown_keys_are_refused(key: PrivateKey) -> None:
    """RSA-1024 above all."""
    with pytest.raises(CsrError, match="too weak") as caught:
        check_csr(request(key), allowed_id=WEB)
    assert caught.value.code == INVALID


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p-256", "p-384", "rsa-2048", "ed25519"],
)
def test_keys_that_the_standard_allows_are_taken(key: PrivateKey) -> None:
    """What is signed is the request's own key."""
    checked = check_csr(request(key), allowed_id=WEB)
    assert checked.public_key == key.public_key()
    assert checked.spiffe_id == WEB


def test_a_request_signed_by_another_key_is_refused() -> None:
    """Nobody gets a certificate for a key that he doesn't have."""
    der = bytearray(request())
    der[-1] ^= 1
    with pytest.raises(CsrError, match="not by its key") as caught:
        check_csr(bytes(der), allowed_id=WEB)
    assert caught.value.code == INVALID


def test_a_request_signed_with_sha1_is_refused() -> None:
    """Somebody could make a second request with the same signature."""
    # sha256WithRSAEncryption and sha1WithRSAEncryption (RFC 8017, appendix C) differ in one byte.
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    der = request(rsa.generate_private_key(65537, 2048)).replace(sha256, sha1)
    with pytest.raises(CsrError, match="sha1, too weak") as caught:
        check_csr(der, allowed_id=WEB)
    assert caught.value.code == INVALID


def test_a_megabyte_is_refused_before_it_is_read() -> None:
    """Its size alone is told."""
    with pytest.raises(CsrError, match=f"more than {MAX_CSR_BYTES}") as caught:
        check_csr(b"\x30" * (1 << 20), allowed_id=WEB)
    assert caught.value.code == INVALID


@pytest.mark.parametrize(
    "der", [b"", b"\x30\x00", b"no DER at all", request()[:-1], request() + b"x"]
)
def test_what_is_no_request_is_refused(der: bytes) -> None:
    """A clear error, and nothing of OpenSSL's."""
    with pytest.raises(CsrError, match="PKCS#10") as caught:
        check_csr(der, allowed_id=WEB)
    assert caught.value.code == INVALID


def test_names_agree_or_are_left_out_and_the_entry_decides() -> None:
    """A request may repeat its names; it gets those of the entry either way."""
    repeated = request(extensions=[(names(str(WEB), "web.shop.example"), False)])
    for der in (repeated, request()):
        checked = check_csr(der, allowed_id=WEB, dns_names=["web.shop.example", "10.0.0.1"])
        assert checked.names == ("web.shop.example", "10.0.0.1")


def test_what_asks_for_no_more_than_an_svid_has_is_no_reason_to_refuse() -> None:
    """Some clients write down what they expect."""
    extensions: Extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    assert check_csr(request(extensions=extensions), allowed_id=WEB).spiffe_id == WEB


@pytest.mark.parametrize(
    "name", ["", "a b", "-a.example", "a..b", "A.example", "ä.example", "x" * 300]
)
def test_an_entry_with_what_is_no_name_gets_nothing(name: str) -> None:
    """It would end up in a certificate."""
    with pytest.raises(OrderError):
        check_csr(request(), allowed_id=WEB, dns_names=[name])


def test_a_request_may_be_signed_with_either_padding() -> None:
    """PSS is what newer tools have for RSA."""
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    for how in (padding.PKCS1v15(), pss):
        made = builder.sign(key, hashes.SHA256(), rsa_padding=how)
        checked = check_csr(made.public_bytes(Encoding.DER), allowed_id=WEB)
        assert checked.public_key == key.public_key()


def test_a_key_of_our_own_making_is_p256_and_its_request_says_no_name() -> None:
    """What agents, and commands, make."""
    pem, der = new_request()
    checked = check_csr(der, allowed_id=WEB)
    assert key_type(checked.public_key) == "ec-p256"
    assert load_pem_private_key(pem, None).public_key() == checked.public_key
    assert not [*x509.load_der_x509_csr(der).extensions]


def test_a_checked_request_comes_from_the_check_alone() -> None:
    """What is signed was checked, because nothing else has the type."""
    with pytest.raises(TypeError, match="check_csr"):
        CheckedCsr(object(), check_csr(request(), allowed_id=WEB).public_key, WEB, ())
