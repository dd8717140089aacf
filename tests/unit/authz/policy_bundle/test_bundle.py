"""A bundle is believed only as far as it proves itself."""

import base64
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.errors import BundleError
from authz.policy.errors import PolicyError
from authz.policy_bundle.archive import pack, unpack
from authz.policy_bundle.bundle import Bundle, make_bundle, read_bundle
from authz.policy_bundle.keys import (
    PrivateKey,
    fingerprint,
    read_private_key,
    read_public_keys,
)

LIMIT = 1024 * 1024
FILES = {
    "b.csv": b"p, *, s, GET, /b, allow\n",
    "a.yaml": b'rules:\n  - allow: {who: "*", service: s, methods: GET, path: /a}\n',
    "team/c.csv": b"p, *, s, GET, /c, allow\n",
    ".hidden/d.csv": b"p, *, s, GET, /d, allow\n",
    "tests/cases.yaml": b"cases: []\n",
}
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
P256 = ec.derive_private_key(7, ec.SECP256R1())
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(b"o" * 32)
KEYS = pytest.mark.parametrize("key", [ED25519, P256], ids=["ed25519", "p256"])


def read(archive: bytes, *keys: PrivateKey) -> Bundle:
    """Read a bundle that some keys may have signed."""
    return read_bundle(archive, [key.public_key() for key in keys], LIMIT)


def refusal(archive: bytes, *keys: PrivateKey) -> str:
    """Give the words of a refusal."""
    with pytest.raises(BundleError) as caught:
        read(archive, *keys)
    return str(caught.value)


def spoilt(archive: bytes, **changes: bytes | None) -> bytes:
    """Exchange some files of an archive, or take them away."""
    files = unpack(archive, LIMIT)
    names = {name.replace(".", "_").replace("/", "_"): name for name in files}
    for short, content in changes.items():
        name = names.get(short, short.replace("_", "."))
        if content is None:
            del files[name]
        else:
            files[name] = content
    return pack(files)


def pem(key: PrivateKey | rsa.RSAPrivateKey, *, public: bool = True) -> bytes:
    """Write a key."""
    if public:
        return key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def test_a_bundle_is_the_policy_of_its_folder() -> None:
    """In the same order, without cases and what is hidden."""
    bundle = read(make_bundle(FILES, 7))
    assert (bundle.revision, bundle.signer, bundle.is_signed) == (7, "", False)
    rows = bundle.text("x.tar.gz").rows
    assert [(row.file, row.line) for row in rows] == [
        ("a.yaml", 2), ("b.csv", 1), ("team/c.csv", 1),
    ]  # fmt: skip


@KEYS
def test_the_same_input_is_the_same_bundle(key: PrivateKey) -> None:
    """Signed too: who makes it again gets what was published."""
    backwards = dict(reversed(FILES.items()))
    assert make_bundle(FILES, 7, key) == make_bundle(backwards, 7, key)


@KEYS
def test_a_signature_of_any_key_that_is_set_is_enough(key: PrivateKey) -> None:
    """Old and new key while one takes the other's place; the status tells which it was."""
    bundle = read(make_bundle(FILES, 7, key), OTHER, key)
    assert bundle.signer == fingerprint(key.public_key())


@KEYS
def test_what_is_not_signed_by_a_key_that_is_set_is_refused(key: PrivateKey) -> None:
    """Unsigned, signed by another, signed for another manifest, no Base64."""
    archive = make_bundle(FILES, 7, key)
    assert refusal(make_bundle(FILES, 7), key) == "is not signed, and a public key is set"
    assert refusal(make_bundle(FILES, 7, OTHER), key).startswith("is not signed by a key that is")
    other = unpack(make_bundle(FILES, 8, key), LIMIT)["manifest.sig"]
    assert refusal(spoilt(archive, manifest_sig=other), key).startswith("is not signed by a key")
    assert refusal(spoilt(archive, manifest_sig=b"!!"), key) == "manifest.sig is no Base64"
    empty = base64.b64encode(b"")
    assert refusal(spoilt(archive, manifest_sig=empty), key).startswith("is not signed by a key")


def test_a_signature_nobody_asked_for_does_no_harm() -> None:
    """The digests count all the same."""
    assert read(make_bundle(FILES, 7, ED25519)).is_signed


@pytest.mark.parametrize("keys", [(), (ED25519,)], ids=["unsigned", "signed"])
def test_every_file_has_to_match_the_manifest(keys: tuple[PrivateKey, ...]) -> None:
    """Changed, added or taken away: one signature over the manifest covers all."""
    archive = make_bundle(FILES, 7, keys[0] if keys else None)
    assert refusal(spoilt(archive, b_csv=b"p, *, s, GET, /**, allow\n"), *keys) == (
        "'b.csv' does not match its digest in the manifest"
    )
    assert refusal(spoilt(archive, z_csv=b""), *keys) == "'z.csv' is not in the manifest"
    assert refusal(spoilt(archive, b_csv=None), *keys) == "'b.csv' of the manifest is missing"


def manifest(**changes: object) -> bytes:
    """Write a manifest with other values."""
    told = msgspec.json.decode(unpack(make_bundle(FILES, 7), LIMIT)["manifest.json"])
    return msgspec.json.encode({**told, **changes})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "has no manifest.json; 'meshwarden policy bundle build' makes bundles"),
        (b"{", "manifest.json can't be read"),
        (b"\xff", "manifest.json can't be read"),
        (b"[]", "manifest.json can't be read"),
        (b"{}", "manifest.json is of kind ''"),
        (manifest(kind="other"), "manifest.json is of kind 'other'"),
        (manifest(format=2, files=[]), "is of format 2, written by a newer version of the program"),
        (manifest(files=[]), "manifest.json can't be read"),
        (manifest(revision="7"), "manifest.json can't be read"),
        (manifest(revision=-1), "manifest.json has a negative revision"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(content: bytes | None, said: str) -> None:
    """A newer format is told before anything else of it is looked at."""
    assert refusal(spoilt(make_bundle(FILES, 7), manifest_json=content)).startswith(said)


def test_faults_of_the_policy_are_told_by_file_and_line() -> None:
    """As of a folder."""
    files = {"a.yaml": b"rules:\n  - alow: {}\n", "b.cvs": b"", "c.csv": b"\xff"}
    with pytest.raises(PolicyError) as caught:
        read(make_bundle(files)).text("x.tar.gz")
    assert [line.partition(" ")[0] for line in str(caught.value).splitlines()] == [
        "a.yaml:2:", "b.cvs:", "c.csv:1:",
    ]  # fmt: skip


def test_an_empty_bundle_is_no_policy() -> None:
    """A policy without rules is an empty file, written."""
    with pytest.raises(PolicyError, match=r"x.tar.gz: holds no \*.csv"):
        read(make_bundle({})).text("x.tar.gz")


@KEYS
def test_keys_are_read_from_pem(key: PrivateKey) -> None:
    """As openssl writes them; several public ones in one file."""
    (first, second) = read_public_keys(pem(key) + b"# the next one\n" + pem(OTHER))
    assert fingerprint(first) == fingerprint(key.public_key())
    assert fingerprint(second) == fingerprint(OTHER.public_key())
    again = read_private_key(pem(key, public=False))
    assert fingerprint(again.public_key()) == fingerprint(key.public_key())


RSA = rsa.generate_private_key(65537, 2048)
P384 = ec.derive_private_key(7, ec.SECP384R1())
LOCKED = ED25519.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"secret"),
)


@pytest.mark.parametrize(
    ("load", "content", "said"),
    [
        (read_public_keys, b"", "holds no public key"),
        (read_public_keys, b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "holds no"),
        (read_public_keys, pem(RSA), "holds a key of another kind"),
        (read_public_keys, pem(P384), "holds a key of another kind"),
        (read_public_keys, pem(ED25519, public=False), "holds a private key"),
        (read_private_key, b"", "holds no private key"),
        (read_private_key, pem(ED25519), "holds no private key"),
        (read_private_key, pem(RSA, public=False), "is of another kind"),
        (read_private_key, pem(P384, public=False), "is of another kind"),
        (read_private_key, LOCKED, "is encrypted"),
    ],
)
def test_other_keys_are_refused(load: Callable[[bytes], object], content: bytes, said: str) -> None:
    """In words that say what to give."""
    with pytest.raises(BundleError) as caught:
        load(content)
    assert str(caught.value).startswith(said)
