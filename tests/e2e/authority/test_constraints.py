"""Authorities with constraints of their own: nothing is signed that OpenSSL would refuse."""

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ca.errors import CertificateError, IdentityError, OrderError
from ca.issue import X509Order, X509Svid
from ca.profile import BACKDATE_S, SECOND_NS, Validity
from ca.x509 import AuthorityProfile, Signer, authority_extensions
from meshwarden import clock
from meshwarden.control.identity.opening import Identity, open_identity
from meshwarden.control.identity.plugged import PluggedAuthority
from meshwarden.files import RuntimeDir
from meshwarden.pem import certificates_pem
from tests.e2e.authority.test_chains import WEB, openssl, request, settings, verify
from tests.unit.ca.makings import DOMAIN, Extensions, certificate

pytestmark = pytest.mark.requires_debian_package("openssl", command="openssl")

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
PURPOSES = ("sslserver", "sslclient")
NAMES = ("web.example", "10.1.2.3")
OID = x509.ObjectIdentifier("1.2.3.4")


class Chain:
    """A root and an intermediate in files, as somebody else made them."""

    def __init__(
        self, folder: Path, below: Extensions = (), above: Extensions = (), **parts: Any
    ) -> None:
        root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        now_ns = clock.now_ns()
        times = {"begin_ns": now_ns - BACKDATE_S * SECOND_NS, "end_ns": now_ns + 3600 * SECOND_NS}
        root_name, name = map(named, ("Company root", "Company mesh"))
        usual = authority_extensions(AuthorityProfile(DOMAIN, "", 1), root_key.public_key())
        both = merged(usual, above)
        root = certificate(root_key, root_name, root_key, both, subject=root_name, **times)
        usual = authority_extensions(AuthorityProfile(DOMAIN, "", 0), key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        both = merged([*usual, (issuer, False)], below)
        own = certificate(root_key, root_name, key, both, subject=name, **{**times, **parts})
        self.root, self.own, self.key = root, own, key
        self.chain_file, self.key_file = folder / "chain.pem", folder / "mesh.key"
        self.write()

    def write(self) -> None:
        """Put it where the settings say."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key_file.write_bytes(pem)
        self.key_file.chmod(0o600)
        self.chain_file.write_text(certificates_pem([self.own, self.root]))

    def signed(self, names: Sequence[str] = ()) -> X509Svid:
        """Sign a leaf below, whether anybody would take it or not."""
        now_ns = clock.now_ns() // SECOND_NS * SECOND_NS
        times = Validity(now_ns, now_ns + 600 * SECOND_NS)
        leaf_key = ec.generate_private_key(ec.SECP256R1()).public_key()
        leaf = Signer(self.own, self.key).leaves.sign(leaf_key, WEB, names, times, 7)
        return X509Svid(WEB, (leaf, self.own), times.not_before_ns, times.not_after_ns, "7")

    def open(self, folder: Path) -> Identity:
        """Open an issuer that signs by it."""
        given = settings(folder, ca="files", ca_chain=self.chain_file, ca_key=self.key_file)
        return open_identity(given, RuntimeDir(folder), clock.now_ns)


def merged(usual: Extensions, changes: Extensions) -> Extensions:
    """Put extensions in the place of others of their kind."""
    kinds = {each.oid for each, _ in changes}
    return [*((each, critical) for each, critical in usual if each.oid not in kinds), *changes]


def named(text: str) -> x509.Name:
    """Make a name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def purposes(*oids: x509.ObjectIdentifier) -> Extensions:
    """An extended key usage."""
    return [(x509.ExtendedKeyUsage(oids), False)]


def limits(
    permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None = None
) -> Extensions:
    """Name constraints."""
    return [(x509.NameConstraints(permitted, excluded), True)]


def network(text: str) -> x509.IPAddress:
    """A range of addresses."""
    return x509.IPAddress(ipaddress.ip_network(text))


def strange(*, critical: bool) -> Extensions:
    """An extension that nobody knows."""
    return [(x509.UnrecognizedExtension(OID, b"\x05\x00"), critical)]


def other_key(number: int | None = None) -> Extensions:
    """The name of a key that is not the root's, or of another certificate of it."""
    issuer = [x509.DirectoryName(named("Company root"))] if number else None
    name = None if number else b"x" * 20
    return [(x509.AuthorityKeyIdentifier(name, issuer, number), False)]


URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
POLICY = x509.CertificatePolicies([x509.PolicyInformation(OID, None)])

# What is below and above; the words of the refusal; whether OpenSSL refuses it too. What it takes,
# Go refuses (checked by hand with its crypto/x509): the stricter one counts.
REFUSED: dict[str, tuple[dict[str, Any], str, bool]] = {
    "servers only": ({"below": purposes(SERVER)}, "certificate 1 .* servers and clients", True),
    "clients only": ({"above": purposes(CLIENT)}, "certificate 2 .* servers and clients", True),
    "any use": ({"below": purposes(ANY)}, "servers and clients both", True),
    "a strange extension": ({"below": strange(critical=True)}, r"certificate 1 .*1\.2\.3\.4", True),
    "a strange root": ({"above": strange(critical=True)}, r"certificate 2 .*1\.2\.3\.4", True),
    "another key": ({"below": other_key()}, "names another key or certificate", True),
    "another serial": ({"below": other_key(8)}, "names another key or certificate", True),
    "a policy": (
        {"below": [(x509.PolicyConstraints(0, None), True)]}, "certificate policy", False,
    ),
    "a weak hash": ({"algorithm": hashes.SHA224()}, "certificate 1 .*sha224", False),
    "directories": (
        {"below": limits([x509.DirectoryName(named("x"))])}, "certificate 1 .*DirectoryName", False,
    ),
    "another host": ({"below": limits([URI("other.example")])}, "not sign for spiffe", True),
    "another host above": ({"above": limits([URI("other.example")])}, "certificate 2 .*not", True),
    "a host's parent": ({"below": limits([URI("example")])}, "not sign for spiffe", True),
    "without a parent": ({"below": limits(None, [URI("example")])}, "not sign for spiffe", False),
    "without any host": ({"below": limits(None, [URI("")])}, "not sign for spiffe", False),
}  # fmt: skip
TAKEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "both uses": {"below": purposes(CLIENT, SERVER), "above": purposes(SERVER, CLIENT, ANY)},
    "what nobody needs to know": {"below": strange(critical=False)},
    "policies": {"below": [(POLICY, True), (x509.InhibitAnyPolicy(0), True)]},
    "its host": {"below": limits([URI("Mesh.Example"), URI("x.example")])},
    "hosts": {"below": limits([URI(".example")], [URI(".mesh.example"), URI("x.example")])},
    "no mail": {"below": limits([x509.RFC822Name("corp.example")])},
}
LIMITED: dict[str, tuple[Extensions, Sequence[str], Sequence[str]]] = {
    # Constraints, names that hold, and those of which none does.
    "below a domain": (
        limits([DNS("corp.example")]),
        ("corp.example", "a.corp.example", "*.corp.example", "10.1.2.3"),
        ("example", "xcorp.example", "*.example", "corp.example.org"),
    ),
    "below a dot": (limits([DNS(".corp.example")]), ("a.corp.example",), ("corp.example",)),
    "no domain": (limits(None, [DNS("")]), ("10.1.2.3",), ("web.example",)),
    "not below": (
        limits(None, [DNS("corp.example")]), ("example", "xcorp.example"), ("a.corp.example",),
    ),
    "in a network": (
        limits([network("10.0.0.0/8")]), ("10.1.2.3", "web.example"), ("11.1.2.3", "2001:db8::1"),
    ),
    "no address": (
        limits(None, [network("0.0.0.0/0"), network("::/0")]),
        ("web.example",), ("10.1.2.3", "2001:db8::1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_authority_below_which_nothing_would_hold_is_refused_at_the_start(
    tmp_path: Path, case: str
) -> None:
    """With the file and the certificate in it that is at fault."""
    parts, words, by_openssl = REFUSED[case]
    chain = Chain(tmp_path, **parts)
    svid, roots = chain.signed(), certificates_pem([chain.root])
    assert any(verify(tmp_path, svid, roots, each) for each in PURPOSES) == by_openssl

    async def story() -> None:
        identity = chain.open(tmp_path)
        try:
            with pytest.raises(CertificateError, match=words) as told:
                await identity.issuer.start()
            assert f"identity.ca_chain: {chain.chain_file}" in str(told.value)
        finally:
            await identity.close()

    asyncio.run(story())


def test_an_authority_signed_by_sha1_is_refused_for_that(tmp_path: Path) -> None:
    """OpenSSL still makes one; Go takes none, and Python's library verifies none."""
    made = openssl(
        "req", "-x509", "-sha1", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Old root",
        "-addext", "keyUsage=critical,keyCertSign",
        "-keyout", tmp_path / "key", "-out", tmp_path / "root.pem",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (tmp_path / "key").chmod(0o600)
    authority = PluggedAuthority(tmp_path / "root.pem", tmp_path / "key")
    with pytest.raises(CertificateError, match=r"root\.pem: certificate 1 .*Unsupported signature"):
        authority.load("mesh.example", clock.now_ns())


@pytest.mark.parametrize("case", TAKEN)
def test_an_authority_whose_constraints_svids_meet_signs(tmp_path: Path, case: str) -> None:
    """And what it signs holds for OpenSSL, as a server's and as a client's."""
    chain = Chain(tmp_path, **TAKEN[case])
    (svid,) = issued(chain, tmp_path, NAMES)
    assert isinstance(svid, X509Svid), svid
    for purpose in PURPOSES:
        assert not verify(tmp_path, svid, certificates_pem([chain.root]), purpose)


@pytest.mark.parametrize("case", LIMITED)
@pytest.mark.parametrize("place", ["below", "above"])
def test_a_name_that_an_authority_may_not_sign_for_is_refused_before_anything_is_signed(
    tmp_path: Path, case: str, place: str
) -> None:
    """Each of the names of an order; others are issued, and hold for whoever verifies them."""
    constraints, good, bad = LIMITED[case]
    chain = Chain(tmp_path, **{place: constraints})
    roots = certificates_pem([chain.root])
    for name, result in zip((*good, *bad), issued(chain, tmp_path, *good, *bad), strict=True):
        if name in good:
            assert isinstance(result, X509Svid), result
            assert not verify(tmp_path, result, roots, "sslserver"), name
        else:
            assert isinstance(result, OrderError), name
            assert f"may not sign for '{name}', by its name constraints" in str(result)
            assert verify(tmp_path, chain.signed([name]), roots, "sslserver"), name


def test_a_wildcard_that_could_be_an_excluded_name_is_refused(tmp_path: Path) -> None:
    """OpenSSL takes it; Go and Python's library don't."""
    chain = Chain(tmp_path, below=limits(None, [DNS("web.example")]))
    (result,) = issued(chain, tmp_path, "*.example")
    assert isinstance(result, OrderError)
    root, own, leaf = map(
        x509.load_der_x509_certificate,
        (chain.root, chain.own, chain.signed(["*.example"]).chain[0]),
    )
    with pytest.raises(VerificationError):
        PolicyBuilder().store(Store([root])).build_client_verifier().verify(leaf, [own])


def test_an_authority_must_obey_those_above_it_in_its_own_names(tmp_path: Path) -> None:
    """Constraints hold for every certificate below."""
    own = x509.SubjectAlternativeName([DNS("ca.other.example"), URI("spiffe://mesh.example")])
    parts = {"above": limits([DNS("corp.example")]), "below": [(own, False)]}
    chain = Chain(tmp_path, **parts)
    assert verify(tmp_path, chain.signed(), certificates_pem([chain.root]), "sslserver")
    identity = chain.open(tmp_path)

    async def story() -> None:
        with pytest.raises(CertificateError, match=r"certificate 1 .* has the name 'ca\.other"):
            await identity.issuer.start()
        await identity.close()

    asyncio.run(story())


def issued(chain: Chain, folder: Path, *names: str | Sequence[str]) -> list[Any]:
    """Order a certificate with each name, or with several."""

    async def story() -> list[X509Svid | IdentityError]:
        identity = chain.open(folder)
        await identity.issuer.start()
        csr = request(ec.generate_private_key(ec.SECP256R1()))
        orders = [
            X509Order(csr, WEB, "t", dns_names=(each,) if isinstance(each, str) else tuple(each))
            for each in names
        ]
        results = await identity.issuer.issue_x509(orders)
        await identity.close()
        return list(results)

    return asyncio.run(story())
