"""X509-SVIDs: exactly the standard's fields, and a validator that notices anything else."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from ca.authority import Kind, Plan
from ca.csr import check_csr
from ca.errors import CertificateError
from ca.keys import KeyType, PrivateKey, generate
from ca.leaf import read_leaf
from ca.profile import Validity, validity
from ca.verify import Expected, VerifiedChain, spiffe_id_of
from ca.x509 import AuthorityProfile, Signer, authority_extensions, sign_authority
from meshwarden.control.identity.signing import X509Intent
from meshwarden.pem import certificates_pem
from tests.unit.ca.makings import (
    DOMAIN,
    NOW,
    SECOND,
    WEB,
    Extensions,
    certificate,
    names,
    request,
    signing,
)

TIMES = Validity(NOW - 60 * SECOND, NOW + 3600 * SECOND)


def svid(key: PrivateKey | None = None, dns: tuple[str, ...] = (), **plan: Any) -> x509.Certificate:
    """Issue one; give it as the library reads it."""
    made = signing(Plan(DOMAIN, **plan))
    checked = check_csr(request(key), allowed_id=WEB, dns_names=dns)
    issued = made.sign_x509(X509Intent(checked, TIMES, 12345), NOW)
    return x509.load_der_x509_certificate(issued.chain[0])


def value(found: x509.Certificate, oid: x509.ObjectIdentifier) -> Any:
    """Read an extension."""
    return found.extensions.get_extension_for_oid(oid).value


def test_a_leaf_has_the_fields_of_the_standard_and_no_other() -> None:
    """X509-SVID sections 2 to 4 and appendix A."""
    found = svid(dns=("web.shop.example",))
    assert {(each.oid, each.critical) for each in found.extensions} == {
        (ExtensionOID.BASIC_CONSTRAINTS, True),
        (ExtensionOID.KEY_USAGE, True),
        (ExtensionOID.EXTENDED_KEY_USAGE, False),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, False),
        (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, True),
    }
    assert found.version is x509.Version.v3
    assert not found.subject.rdns
    assert value(found, ExtensionOID.BASIC_CONSTRAINTS) == x509.BasicConstraints(
        ca=False, path_length=None
    )
    assert set(value(found, ExtensionOID.EXTENDED_KEY_USAGE)) == {
        ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH,
    }  # fmt: skip
    san = value(found, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    assert [each.value for each in san] == [str(WEB), "web.shop.example"]
    assert found.serial_number == 12345


@pytest.mark.parametrize(("kind", "encipher"), [("ec", False), ("rsa", True)])
def test_key_encipherment_is_for_rsa_alone(kind: str, encipher: bool) -> None:  # noqa: FBT001
    """Section 4.3 permits it, and says that it makes sense there only."""
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
    usage = value(svid(key), ExtensionOID.KEY_USAGE)
    assert usage.digital_signature
    assert usage.key_encipherment is encipher
    assert not any(
        (
            usage.key_cert_sign,
            usage.crl_sign,
            usage.key_agreement,
            usage.content_commitment,
            usage.data_encipherment,
        )
    )


@pytest.mark.parametrize("kind", KeyType)
@pytest.mark.parametrize("leaf", KeyType)
def test_every_kind_of_authority_signs_every_kind_of_leaf(
    tmp_path: Path, kind: KeyType, leaf: KeyType
) -> None:
    """P-256, P-384, RSA-2048 and Ed25519: as our verifier has it, and OpenSSL."""
    made = signing(Plan(DOMAIN, key_type=kind))
    key = generate(leaf)
    checked = check_csr(request(key), allowed_id=WEB)
    issued = made.sign_x509(X509Intent(checked, TIMES, 12345), NOW)
    assert spiffe_id_of(issued.chain[0]) == WEB
    chain, bundle = tmp_path / "chain.pem", tmp_path / "bundle.pem"
    chain.write_text(certificates_pem(issued.chain))
    bundle.write_text(certificates_pem(made.bundle.x509_authorities))
    words = ("openssl", "verify", "-x509_strict", "-attime", str(NOW // SECOND))
    files = ("-CAfile", str(bundle), "-untrusted", str(chain), str(chain))
    subprocess.run([*words, *files], check=True, capture_output=True, timeout=30)


def test_authorities_are_svids_of_their_trust_domain() -> None:
    """Section 3.2: no path, keyCertSign, CA:TRUE; each signed by the one above."""
    made = signing().authorities
    signer = made.active(Kind.INTERMEDIATE)
    assert signer is not None
    intermediate, root = (
        x509.load_der_x509_certificate(each.certificate) for each in made.chain(signer)
    )
    for each, length in ((intermediate, 0), (root, 1)):
        assert value(each, ExtensionOID.BASIC_CONSTRAINTS) == x509.BasicConstraints(
            ca=True, path_length=length
        )
        assert value(each, ExtensionOID.KEY_USAGE).key_cert_sign
        assert not value(each, ExtensionOID.KEY_USAGE).digital_signature
        uris = value(each, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        assert [name.value for name in uris] == ["spiffe://mesh.example"]
    intermediate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


def test_a_name_constraint_is_there_when_asked_for() -> None:
    """Section 4.2; its host is the trust domain, exactly."""
    made = signing(Plan(DOMAIN, name_constraint=True)).authorities
    root = x509.load_der_x509_certificate(made.all[0].certificate)
    constraint = value(root, ExtensionOID.NAME_CONSTRAINTS)
    assert [each.value for each in constraint.permitted_subtrees] == [DOMAIN]


class Forger:
    """Signs whatever it is asked to, as an authority whose key was used wrongly would."""

    def __init__(self) -> None:
        self.root_key = generate(KeyType.EC_P256)
        self.key = generate(KeyType.EC_P256)
        times = validity(NOW, 86_400, ())
        profile = AuthorityProfile(DOMAIN, "root", 1)
        root = sign_authority(self.root_key, profile, self.root_key.public_key(), times, 1)
        self.own = sign_authority(
            Signer(root, self.root_key),
            AuthorityProfile(DOMAIN, "intermediate", 0),
            self.key.public_key(),
            times,
            2,
        )
        self.chain = VerifiedChain([self.own, root], DOMAIN)
        self.name = x509.load_der_x509_certificate(self.own).subject
        self.leaf_key = ec.generate_private_key(ec.SECP256R1())
        key = self.leaf_key.public_key()
        self.expected = Expected(WEB, key, (), 7, NOW - 60 * SECOND, NOW + 600 * SECOND)

    def extensions(self, **changes: x509.ExtensionType | None) -> Extensions:
        """Those of a leaf, with changes by the class's name; None leaves one out."""
        key = self.leaf_key.public_key()
        usual: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (usage(), True),
            (
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                False,
            ),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            (names(str(WEB)), True),
        ]
        found = [(changes.pop(type(each).__name__, each), critical) for each, critical in usual]
        found += [(each, False) for each in changes.values()]
        return [(each, critical) for each, critical in found if each is not None]

    def check(self, leaf: bytes) -> None:
        """Look at it, as is done before publishing."""
        self.chain.check(leaf, self.expected, NOW)

    def made(self, extensions: Extensions, **parts: Any) -> bytes:
        """Sign a leaf."""
        return certificate(self.key, self.name, self.leaf_key, extensions, **parts)

    def wants(self, name: str) -> str:
        """Have a name be ordered."""
        self.expected = replace(self.expected, names=(name,))
        return name

    def written(self, serial: int) -> bytes:
        """Sign with a serial that the library wouldn't write, and have it be ordered."""
        self.expected = replace(self.expected, serial=serial)
        times = Validity(NOW - 60 * SECOND, NOW + 600 * SECOND)
        frame = Signer(self.own, self.key).leaves
        return frame.sign(self.leaf_key.public_key(), WEB, (), times, serial)


def usage(**changes: bool) -> x509.KeyUsage:
    """A leaf's usage, with changes."""
    parts = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**{"digital_signature": True, **parts, **changes})


def test_an_honest_leaf_passes_the_forgers_own_verifier() -> None:
    """So what fails below fails for what was changed."""
    forger = Forger()
    forger.check(forger.made(forger.extensions()))


Change = Callable[[Forger], bytes]
FORGED: dict[str, tuple[Change, str]] = {
    "an authority": (
        lambda f: f.made(
            f.extensions(BasicConstraints=x509.BasicConstraints(ca=True, path_length=None))
        ),
        "is an authority",
    ),
    "signs": (lambda f: f.made(f.extensions(KeyUsage=usage(key_cert_sign=True))), "key usage"),
    "no usage": (lambda f: f.made(f.extensions(KeyUsage=None)), "other extensions"),
    "encipherment": (
        lambda f: f.made(f.extensions(KeyUsage=usage(key_encipherment=True))), "keyEncipherment",
    ),
    "servers only": (
        lambda f: f.made(
            f.extensions(
                ExtendedKeyUsage=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
            )
        ),
        "TLS servers and clients",
    ),
    "one more extension": (
        lambda f: f.made(f.extensions(more=x509.OCSPNoCheck())), "other extensions",
    ),
    "another's ID": (
        lambda f: f.made(
            f.extensions(SubjectAlternativeName=names("spiffe://mesh.example/ns/shop/sa/root"))
        ),
        "not for spiffe://mesh.example/ns/shop/sa/web",
    ),
    "two IDs": (
        lambda f: f.made(f.extensions(SubjectAlternativeName=names(str(WEB), str(WEB)))), "not for",
    ),
    "a name more": (
        lambda f: f.made(f.extensions(SubjectAlternativeName=names(str(WEB), "x.example"))),
        "DNS names",
    ),
    "a subject": (
        lambda f: f.made(f.extensions(), subject=f.name), "has a subject",
    ),
    "another serial": (lambda f: f.made(f.extensions(), serial=8), "serial"),
    "too long": (
        lambda f: f.made(f.extensions(), end_ns=NOW + 86_401 * SECOND), "longer than those above",
    ),
    "ends later": (lambda f: f.made(f.extensions(), end_ns=NOW + 601 * SECOND), "another time"),
    "ends sooner": (lambda f: f.made(f.extensions(), end_ns=NOW + 599 * SECOND), "another time"),
    "began earlier": (
        lambda f: f.made(f.extensions(), begin_ns=NOW - 59 * SECOND), "another time",
    ),
    "not yet": (lambda f: f.made(f.extensions(), begin_ns=NOW + SECOND), "not hold now"),
    "over": (
        lambda f: f.made(f.extensions(), begin_ns=NOW - 9 * SECOND, end_ns=NOW - SECOND),
        "not hold",
    ),
    "another key": (
        lambda f: certificate(
            f.key, f.name, ec.generate_private_key(ec.SECP256R1()), f.extensions()
        ),
        "another key",
    ),
    "another signer": (
        lambda f: certificate(
            generate(KeyType.EC_P256), f.name, f.leaf_key, f.extensions()
        ),
        "not signed",
    ),
    "another issuer's name": (
        lambda f: certificate(
            f.key, x509.Name([]), f.leaf_key, f.extensions(), subject=x509.Name([])
        ),
        "not signed",
    ),
    "another key's identifier": (
        lambda f: f.made(
            f.extensions(
                AuthorityKeyIdentifier=x509.AuthorityKeyIdentifier(b"x" * 20, None, None)
            )
        ),
        "another authority's key",
    ),
    "another name of its key": (
        lambda f: f.made(
            f.extensions(SubjectKeyIdentifier=x509.SubjectKeyIdentifier.from_public_key(
                f.key.public_key()
            ))
        ),
        "another name of its key",
    ),
    "an address as a DNS name": (
        lambda f: f.made(f.extensions(SubjectAlternativeName=names(str(WEB), f.wants("10.0.0.1")))),
        "reads as an address",
    ),
    "a serial of 21 bytes": (lambda f: f.written(2**159), "serial"),
    "no certificate": (lambda _: b"\x30\x03\x02\x01\x01", "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGED)
def test_the_validator_notices_whatever_else_was_signed(case: str) -> None:
    """Nothing that differs from what was ordered is published."""
    change, words = FORGED[case]
    forger = Forger()
    with pytest.raises(CertificateError, match=words):
        forger.check(change(forger))


def test_a_chain_whose_links_do_not_hold_together_is_none() -> None:
    """The wrong order, a stranger in between, a leaf as an authority, too many below a root."""
    forger, other = Forger(), Forger()
    own, root = forger.chain.certificates
    leaf = forger.made(forger.extensions())
    for chain in ([root, own], [own], [own, other.chain.certificates[1]], [leaf, own, root], []):
        with pytest.raises(CertificateError):
            VerifiedChain(chain, DOMAIN)
    with pytest.raises(CertificateError, match="not spiffe://other"):
        VerifiedChain([own, root], "other.example")


def test_the_longest_serial_that_is_one_passes() -> None:
    """20 bytes, the sign among them (RFC 5280 section 4.1.2.2)."""
    forger = Forger()
    forger.check(forger.written(2**159 - 1))


def plugged_in(text: bytes) -> tuple[PrivateKey, bytes]:
    """Make an authority whose name is one text, in DER, as others' tools write it."""
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = authority_extensions(AuthorityProfile(DOMAIN, "root", 0), key.public_key())
    # As long as the text, so that putting that in its place changes no length around it.
    usual = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * (len(text) - 2))])
    found = read_leaf(certificate(key, usual, key, extensions, subject=usual))
    signed = found.tbs.replace(usual.public_bytes()[-len(text) :], text)
    signature = key.sign(signed, ec.ECDSA(SHA256()))
    content = signed + found.algorithm + bytes((3, len(signature) + 1, 0)) + signature
    return key, b"\x30\x82" + len(content).to_bytes(2) + content


def test_an_authority_without_a_name_is_none() -> None:
    """What it signs would have no issuer, which RFC 5280 section 4.1.2.4 forbids."""
    key, none = generate(KeyType.EC_P256), x509.Name([])
    extensions = authority_extensions(AuthorityProfile(DOMAIN, "root", 0), key.public_key())
    with pytest.raises(CertificateError, match="has no subject"):
        VerifiedChain([certificate(key, none, key, extensions, subject=none)], DOMAIN)


def constrained(
    permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None
) -> bytes:
    """Make a root that may sign for some names only."""
    key = generate(KeyType.EC_P256)
    extensions = authority_extensions(AuthorityProfile(DOMAIN, "root", 0), key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Acme")])
    limits = (x509.NameConstraints(permitted, excluded), True)
    return certificate(key, name, key, [*extensions, limits], subject=name)


@pytest.mark.parametrize(
    ("permitted", "excluded"),
    [
        (["other.example"], None),
        ([".mesh.example"], None),
        ([".other.example", "sub.mesh.example"], None),
        (None, ["mesh.example"]),
        (["mesh.example"], [".example"]),
    ],
)
def test_an_authority_that_may_not_sign_for_the_trust_domain_is_refused(
    permitted: list[str] | None, excluded: list[str] | None
) -> None:
    """RFC 5280 section 4.2.1.10: nobody would accept what it signs."""
    lists = [
        each and [*map(x509.UniformResourceIdentifier, each)] for each in (permitted, excluded)
    ]
    with pytest.raises(CertificateError, match=r"may not sign for spiffe://mesh\.example"):
        VerifiedChain([constrained(*lists)], DOMAIN)


@pytest.mark.parametrize(
    ("permitted", "excluded"),
    [
        ([x509.UniformResourceIdentifier("Mesh.Example")], None),
        ([x509.UniformResourceIdentifier(".example")], None),
        ([x509.DNSName("corp.example")], None),
        (None, [x509.UniformResourceIdentifier(".mesh.example")]),
    ],
)
def test_an_authority_that_may_sign_for_the_trust_domain_among_others_is_taken(
    permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None
) -> None:
    """A limit on names of one kind is none on those of another."""
    VerifiedChain([constrained(permitted, excluded)], DOMAIN)


# By the tag of a text in DER; what the library can't read it refuses (below).
TEXTS = {
    "UTF8String": b"\x0c\x06Acm\xc3\xa9!",
    "PrintableString": b"\x13\x04Acme",
    "T61String": b"\x14\x04Acme",
    "IA5String": b"\x16\x04a@me",
    "UniversalString": b"\x1c\x08\0\0\0A\0\0\0\xe9",
    "BMPString": b"\x1e\x04\0A\0\xe9",
    "BMPString with an order of bytes": b"\x1e\x04\xfe\xff\0A",
}


@pytest.mark.parametrize("form", TEXTS)
def test_an_issuer_is_named_byte_by_byte_as_it_names_itself(form: str) -> None:
    """Most validators compare the bytes; the library has read and written them in between."""
    key, own = plugged_in(TEXTS[form])
    leaf_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    times = Validity(NOW, NOW + 600 * SECOND)
    leaf = Signer(own, key).leaves.sign(leaf_key, WEB, (), times, 7)
    expected = Expected(WEB, leaf_key, (), 7, times.not_before_ns, times.not_after_ns)
    VerifiedChain([own], DOMAIN).check(leaf, expected, NOW)
    assert read_leaf(leaf).issuer == read_leaf(own).subject
    assert TEXTS[form] in read_leaf(leaf).issuer


def test_an_authority_whose_name_can_not_be_read_is_refused() -> None:
    """A T61String of Latin letters: everybody takes it for something else."""
    _, own = plugged_in(b"\x14\x04Acm\xe9")
    with pytest.raises(CertificateError, match="certificate 1 of the chain can't be read"):
        VerifiedChain([own], DOMAIN)


def test_a_signer_takes_no_key_but_its_own() -> None:
    """A chain beside another's key would sign what nobody can verify."""
    forger = Forger()
    with pytest.raises(ValueError, match="not that of the certificate"):
        Signer(forger.own, forger.root_key)


def test_what_is_signed_with_a_wrong_time_is_withheld() -> None:
    """The signer signs it; the verifier behind it does not let it out."""
    made = signing()
    checked = check_csr(request(), allowed_id=WEB)
    beyond = Validity(NOW, NOW + 40_000 * 86_400 * SECOND)
    with pytest.raises(CertificateError, match="longer"):
        made.sign_x509(X509Intent(checked, beyond, 5), NOW)


def sealed(forger: Forger, tbs: bytes) -> bytes:
    """Sign any bytes as a certificate's."""
    algorithm = read_leaf(forger.made(forger.extensions())).algorithm
    signature = b"\0" + forger.key.sign(tbs, ec.ECDSA(SHA256()))
    content = tbs + algorithm + bytes((3, len(signature))) + signature
    return b"\x30\x82" + len(content).to_bytes(2) + content


def test_no_byte_of_a_certificate_can_be_another_whoever_signs_it() -> None:
    """Each byte in turn, all signed anew: none passes, so none is handed out."""
    forger = Forger()
    names_of_all = ("web.shop.example", "10.0.0.1", "2001:db8::1", "*.x.example")
    forger.expected = replace(forger.expected, names=names_of_all, serial=2**127 + 5)
    times = Validity(forger.expected.begin_ns, forger.expected.end_ns)
    frame = Signer(forger.own, forger.key).leaves
    key = forger.leaf_key.public_key()
    whole = read_leaf(frame.sign(key, WEB, names_of_all, times, 2**127 + 5)).tbs
    forger.check(sealed(forger, whole))
    for at in range(len(whole)):
        for bit in range(8):
            changed = whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :]
            with pytest.raises(CertificateError):
                forger.check(sealed(forger, changed))


def test_no_byte_of_a_certificate_can_be_left_out_or_put_in() -> None:
    """With the length of the whole made right again."""
    forger = Forger()
    whole = read_leaf(forger.made(forger.extensions())).tbs
    forger.check(sealed(forger, whole))
    for at in range(4, len(whole)):
        for changed in (whole[:at] + whole[at + 1 :], whole[:at] + whole[at : at + 1] + whole[at:]):
            body = changed[4:]
            with pytest.raises(CertificateError):
                forger.check(sealed(forger, b"\x30\x82" + len(body).to_bytes(2) + body))
