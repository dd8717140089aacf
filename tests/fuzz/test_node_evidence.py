"""What anybody may show as evidence: refused with our error, whatever its bytes are."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.node_attestors import expired_svid, join_token, k8s_psat, x509pop
from ca.attestation import Attempt, AttestationError, NodeAttestor
from ca.jwk import public_jwk
from tests.unit.ca.makings import NOW, SECOND

# The library warns of what it will refuse one day, such as a serial number of 0.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
CODES = {"INVALID_ARGUMENT", "PERMISSION_DENIED"}
AGENT = "spiffe://td.example/meshwarden/agent/join_token/1"
ROOT = ec.generate_private_key(ec.SECP256R1())


def certificate(public: Any, *names: x509.GeneralName) -> bytes:
    """Make a certificate of a node for any key, by our root."""
    begin = datetime.fromtimestamp(NOW // SECOND, UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(begin - timedelta(days=1))
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(ROOT, hashes.SHA256()).public_bytes(Encoding.DER)


NAMES = (x509.UniformResourceIdentifier(AGENT), x509.DNSName("node.example"))
SEEDS = [
    certificate(key.public_key(), *NAMES)
    for key in (
        ROOT,
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        x448.X448PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    )
]
_BYTES = st.one_of(
    st.sampled_from([0, 1, 2, 3, 5, 6, 0x30, 0x31, 0x80, 0x82, 0x83, 0x86, 0xA0, 0xA3, 0xFF]),
    st.integers(0, 255),
)


class _NoStore:
    """Knows no agent and no token."""

    async def agent(self, spiffe_id: str) -> None:
        """Give nobody."""
        del spiffe_id

    async def take_token(self, *_: object) -> Any:
        """Take none."""
        raise AssertionError("this is no token")


@pytest.fixture(scope="module")
def attestors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NodeAttestor]:
    """Make every attestor that reads what strangers send."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    (folder / "ca.pem").write_bytes(
        x509.load_der_x509_certificate(SEEDS[0]).public_bytes(Encoding.PEM)
    )
    jwk = {**public_jwk(ROOT.public_key()), "kid": "k", "alg": "ES256"}
    (folder / "jwks").write_text(json.dumps({"keys": [jwk]}))
    store: Any = _NoStore()
    return {
        "x509pop": x509pop.ADAPTER.build(x509pop.Config(ca=folder / "ca.pem")),
        "expired_svid": expired_svid.ADAPTER.build(expired_svid.Config(store, "td.example", 60)),
        "join_token": join_token.ADAPTER.build(join_token.Config(store, "td.example")),
        "k8s_psat": k8s_psat.ADAPTER.build(k8s_psat.Config(jwks=str(folder / "jwks"))),
    }


def show(attestors: dict[str, NodeAttestor], payload: bytes) -> None:
    """Show evidence to each attestor, with an answer to any challenge that is none."""

    async def answer(_: bytes) -> bytes:
        return b"?"

    async def to_all() -> list[object]:
        attempt = Attempt(payload=payload, key_sha256=b"k" * 32, now_ns=NOW, challenge=answer)
        calls = (attestor.attest(attempt) for attestor in attestors.values())
        return await asyncio.gather(*calls, return_exceptions=True)

    for refusal in asyncio.run(to_all()):
        assert isinstance(refusal, AttestationError)
        assert refusal.code in CODES
        assert len(str(refusal)) < 500


@given(st.binary(max_size=400))
@example(b"")
@example(b"a.b.c")
@example(b"x" * 70_000)
def test_any_bytes_are_refused(attestors: dict[str, NodeAttestor], payload: bytes) -> None:
    """By all, and none of them is a fault of ours."""
    show(attestors, payload)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), _BYTES), max_size=4),
)
def test_a_certificate_with_any_bytes_changed_is_refused(
    attestors: dict[str, NodeAttestor], seed: bytes, changes: list[tuple[int, int]]
) -> None:
    """Keys of kinds that nobody knows, versions that there are not, names that can't be read."""
    changed = bytearray(seed)
    for place, value in changes:
        changed[4 + place % (len(changed) - 4)] = value
    show(attestors, bytes(changed))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_key_of_any_kind_is_refused(attestors: dict[str, NodeAttestor], seed: bytes) -> None:
    """The root's own too, without an answer."""
    show(attestors, seed)


def test_names_that_can_not_be_read_are_refused(attestors: dict[str, NodeAttestor]) -> None:
    """Nor are they a fault of ours where it is told which authority doesn't fit."""
    unread = SEEDS[0].replace(b"node", b"\xff\xfe\xfd\xfc")
    for payload in (unread, SEEDS[0] + unread, SEEDS[0].replace(b"node", b"\xff" * 4, 1)):
        show(attestors, payload)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def part(value: object) -> str:
    """Write a part of a token."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "zip"]), _JSON),
    st.one_of(_JSON, st.binary(max_size=60)),
    st.binary(max_size=80),
)
@example({"alg": "ES256", "kid": "k"}, {}, b"\0" * 64)
@example({"alg": "none", "kid": "k"}, {}, b"")
@example({"alg": "HS256", "kid": "k"}, {}, b"x")
@example({"alg": "ES256", "kid": ["k"]}, {}, b"x")
def test_any_token_without_the_clusters_signature_is_refused(
    attestors: dict[str, NodeAttestor], header: dict[str, object], claims: object, signature: bytes
) -> None:
    """Whatever its header asks for."""
    show(attestors, f"{part(header)}.{part(claims)}.{part(signature)}".encode())


def test_a_token_nested_without_end_is_refused(attestors: dict[str, NodeAttestor]) -> None:
    """A parser that recurses has an end."""
    deep = part(b'{"alg":"ES256","kid":"k","x":' + b"[" * 5000 + b"]" * 5000 + b"}")
    show(attestors, f"{deep}.e30.AA".encode())
    show(attestors, f"{part({'alg': 'ES256', 'kid': 'k'})}.{deep[:8000]}.AA".encode())
