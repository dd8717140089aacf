"""Every chain that is issued holds for OpenSSL, whatever its keys and wherever its root is."""

import asyncio
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.issue import X509Order, X509Svid
from ca.keys import KeyType, PrivateKey
from ca.spiffe_id import parse
from meshwarden import clock
from meshwarden.control.identity.opening import open_identity
from meshwarden.files import RuntimeDir
from meshwarden.pem import certificates_of, certificates_pem, csr_pem
from meshwarden.settings import Identity, Runtime, Settings

WEB = parse("spiffe://mesh.example/ns/shop/sa/web")
pytestmark = [
    pytest.mark.requires_debian_package("openssl", command="openssl"),
]
LEAVES = {
    "p-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def settings(folder: Path, **changes: object) -> Settings:
    """Those of an authority in a folder."""
    own = Identity(trust_domain="mesh.example", key_file=folder / "keys" / "sealing.key")
    return Settings(
        runtime=Runtime(state_dir=folder, runtime_dir=folder),
        identity=replace(own, **changes),  # type: ignore[arg-type]
    )


def request(key: PrivateKey) -> bytes:
    """A request without names."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def issue(folder: Path, given: Settings, csrs: Sequence[bytes]) -> tuple[list[X509Svid], str]:
    """Issue for each request; give what came and the roots in PEM."""

    async def story() -> tuple[list[X509Svid], str]:
        identity = open_identity(given, RuntimeDir(folder), clock.now_ns)
        await identity.issuer.start()
        orders = [X509Order(csr, WEB, "test", dns_names=("web.example",)) for csr in csrs]
        results = await identity.issuer.issue_x509(orders)
        bundle = identity.issuer.bundle()
        await identity.close()
        assert all(isinstance(each, X509Svid) for each in results), results
        return [each for each in results if isinstance(each, X509Svid)], bundle.to_pem()

    return asyncio.run(story())


def openssl(*words: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        ["openssl", *map(str, words)],
        input=stdin, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def verify(folder: Path, svid: X509Svid, roots: str, purpose: str) -> str:
    """Have a chain verified, strictly; "" is good."""
    (folder / "roots.pem").write_text(roots)
    (folder / "leaf.pem").write_text(certificates_pem(svid.chain[:1]))
    (folder / "above.pem").write_text(certificates_pem(svid.chain[1:]) or roots)
    ran = openssl(
        "verify", "-x509_strict", "-purpose", purpose, "-CAfile", folder / "roots.pem",
        "-untrusted", folder / "above.pem", folder / "leaf.pem",
    )  # fmt: skip
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", KeyType)
def test_every_leaf_of_every_kind_of_authority_is_verified(tmp_path: Path, kind: KeyType) -> None:
    """As a server's and as a client's, with OpenSSL's strict checks."""
    keys = [make() for make in LEAVES.values()]
    svids, roots = issue(
        tmp_path, settings(tmp_path, key_type=kind.value), list(map(request, keys))
    )
    for svid in svids:
        for purpose in ("sslserver", "sslclient"):
            assert not verify(tmp_path, svid, roots, purpose)


def test_a_name_constraint_is_obeyed_by_openssl(tmp_path: Path) -> None:
    """It takes what is in the trust domain; that is why the setting may be used at all."""
    given = settings(tmp_path, name_constraint=True)
    (svid,), roots = issue(tmp_path, given, [request(LEAVES["p-256"]())])
    assert not verify(tmp_path, svid, roots, "sslserver")


def test_openssl_would_refuse_another_root(tmp_path: Path) -> None:
    """So what it takes above means something."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (svid,), _ = issue(one, settings(one), [request(LEAVES["p-256"]())])
    _, roots = issue(other, settings(other), [request(LEAVES["p-256"]())])
    assert verify(tmp_path, svid, roots, "sslserver")


OWN_ROOT = """\
[req]
distinguished_name = name
prompt = no
x509_extensions = root
[name]
CN = Company root
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[below]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def company_root(folder: Path) -> None:
    """Make a root with OpenSSL, as a company has one."""
    (folder / "root.cnf").write_text(OWN_ROOT)
    made = openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-config", folder / "root.cnf",
        "-keyout", folder / "root.key", "-out", folder / "root.pem", "-days", "30",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def signed_by_company(folder: Path, csr: Path, out: Path, section: str = "below") -> None:
    """Sign a request with that root."""
    made = openssl(
        "x509", "-req", "-in", csr, "-CA", folder / "root.pem", "-CAkey", folder / "root.key",
        "-CAcreateserial", "-days", "20", "-extfile", folder / "root.cnf", "-extensions", section,
        "-out", out,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_a_plugged_in_authority_that_openssl_made_signs(tmp_path: Path) -> None:
    """Chain and key from files; the company's root is the bundle."""
    company_root(tmp_path)
    made = openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
        "/CN=Company mesh", "-keyout", tmp_path / "mesh.key", "-out", tmp_path / "mesh.csr",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    signed_by_company(tmp_path, tmp_path / "mesh.csr", tmp_path / "mesh.pem")
    chain = tmp_path / "chain.pem"
    chain.write_text((tmp_path / "mesh.pem").read_text() + (tmp_path / "root.pem").read_text())
    (tmp_path / "mesh.key").chmod(0o600)
    given = settings(tmp_path, ca="files", ca_chain=chain, ca_key=tmp_path / "mesh.key")
    (svid,), roots = issue(tmp_path, given, [request(LEAVES["p-256"]())])
    assert certificates_of(roots.encode()) == certificates_of((tmp_path / "root.pem").read_bytes())
    assert not verify(tmp_path, svid, roots, "sslserver")


def test_an_offline_root_signs_our_request_with_openssl(tmp_path: Path) -> None:
    """A CSR out, a certificate in, and what comes below it holds."""
    company_root(tmp_path)
    given = settings(tmp_path, ca="offline")

    async def story() -> tuple[X509Svid, str]:
        identity = open_identity(given, RuntimeDir(tmp_path), clock.now_ns)
        current = identity.issuer.current
        await current.start()
        order = X509Order(request(LEAVES["p-256"]()), WEB, "test")
        (refused,) = await identity.issuer.issue_x509([order])
        assert "ca csr" in str(refused)
        _, csr = await current.request_certificate()
        (tmp_path / "own.csr").write_text(csr_pem(csr))
        signed_by_company(tmp_path, tmp_path / "own.csr", tmp_path / "own.pem")
        chain = certificates_of(
            (tmp_path / "own.pem").read_bytes() + (tmp_path / "root.pem").read_bytes()
        )
        await current.import_certificate(chain)
        (svid,) = await identity.issuer.issue_x509([order])
        assert isinstance(svid, X509Svid), svid
        pem = identity.issuer.bundle().to_pem()
        await identity.close()
        return svid, pem

    svid, roots = asyncio.run(story())
    assert not verify(tmp_path, svid, roots, "sslclient")
    (again,), _ = issue(tmp_path, given, [request(LEAVES["p-256"]())])
    assert again.chain[1:] == svid.chain[1:], "a restart signs by the same intermediate"
