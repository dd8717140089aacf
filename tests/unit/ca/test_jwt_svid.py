"""JWT-SVIDs: signed as the standard says, verified as if by somebody else."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from ca.errors import OrderError, TokenError
from ca.jwt_svid import CheckedJwt, JwtSigner, check_jwt, jwk_set, sign, validate
from ca.keys import KeyType, generate
from tests.unit.ca.makings import DOMAIN, NOW, SECOND, WEB

KEY = generate(KeyType.EC_P256)
SIGNER = JwtSigner(KEY)
JWKS = jwk_set([KEY.public_key()])
END = NOW + 300 * SECOND


def token(*audiences: str) -> str:
    """Issue one."""
    return sign(SIGNER, check_jwt(WEB, audiences or ("orders",)), "id-1", NOW, END)


def checked(text: str, audience: str = "orders", now_ns: int = NOW, jwks: bytes = JWKS) -> Any:
    """Verify one."""
    return validate(text, audience, jwks, DOMAIN, now_ns)


def test_what_was_signed_is_verified() -> None:
    """Subject, audiences and end are what was ordered."""
    found = checked(token("orders", "stock"), "stock")
    assert found.spiffe_id == WEB
    assert found.audiences == ("orders", "stock")
    assert found.expires_ns == END
    assert found.claims["jti"] == "id-1"


def test_header_and_claims_are_the_standards() -> None:
    """Section 2: alg, kid and typ, and nothing beyond."""
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in token("orders").split(".")[:2]
    )
    assert header == {"alg": "ES256", "kid": SIGNER.authority_id, "typ": "JWT"}
    assert set(claims) == {"aud", "exp", "iat", "jti", "sub"}
    assert claims["sub"] == str(WEB)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(KeyType.EC_P256, "ES256"), (KeyType.EC_P384, "ES384"), (KeyType.RSA_2048, "RS256")],
)
def test_each_kind_of_key_has_its_algorithm(kind: KeyType, algorithm: str) -> None:
    """And PyJWT verifies by our key set what it signs."""
    key = generate(kind)
    text = sign(JwtSigner(key), check_jwt(WEB, ("orders",)), "x", NOW, END)
    jwks = jwk_set([KEY.public_key(), key.public_key()])
    assert checked(text, jwks=jwks).spiffe_id == WEB
    found = jwt.PyJWKSet.from_dict(json.loads(jwks))[jwt.get_unverified_header(text)["kid"]]
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(text, found, [algorithm], audience="orders", options=options)
    assert claims["sub"] == str(WEB)


def test_ed25519_signs_no_token() -> None:
    """Section 2.1 has no algorithm for it."""
    with pytest.raises(ValueError, match=r"2\.1"):
        JwtSigner(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize("audiences", [(), ("",), ("a\nb",), ("x" * 2000,), ("a",) * 17])
def test_audiences_are_required_and_sound(audiences: tuple[str, ...]) -> None:
    """Section 3.2."""
    with pytest.raises(OrderError):
        check_jwt(WEB, audiences)


def test_an_order_comes_from_the_check_alone() -> None:
    """What is signed was checked."""
    with pytest.raises(TypeError, match="check_jwt"):
        CheckedJwt(object(), WEB, ("x",))


def forged(claims: dict[str, Any], header: dict[str, Any] | None = None, **how: Any) -> str:
    """Sign any claims by the right key, or as told."""
    usual = {"sub": str(WEB), "aud": ["orders"], "exp": END // SECOND, "iat": NOW // SECOND}
    content = {name: each for name, each in {**usual, **claims}.items() if each is not None}
    headers = {"kid": SIGNER.authority_id, **(header or {})}
    return jwt.encode(content, how.get("key", KEY), how.get("alg", "ES256"), headers=headers)


def headed(**header: object) -> str:
    """Write a token with any header; its signature is never looked at."""
    made = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", **header}).encode()).decode()
    return ".".join([made.rstrip("="), *token("orders").split(".")[1:]])


RSA = rsa.generate_private_key(65537, 2048)
BAD: dict[str, tuple[str, str]] = {
    "another audience": (token("stock"), "not for the audience"),
    "no audience": (forged({"aud": None}), "aud"),
    "an audience that is no text": (forged({"aud": [7]}), "not for the audience"),
    "no end": (forged({"exp": None}), "exp"),
    "no subject": (forged({"sub": None}), "sub"),
    "a subject that is no SPIFFE ID": (forged({"sub": "web"}), "no SPIFFE ID"),
    "another trust domain": (forged({"sub": "spiffe://other/x"}), "no workload of mesh.example"),
    "a trust domain": (forged({"sub": "spiffe://mesh.example"}), "no workload"),
    "over": (forged({"exp": NOW // SECOND - 11}), "expired"),
    "not yet": (forged({"nbf": NOW // SECOND + 11}), "not hold yet"),
    "an end that is text": (forged({"exp": "soon"}), "'exp' is no time"),
    "an endless end": (forged({"exp": 1e400}), "no time|no JWT-SVID"),
    "another key": (forged({}, key=generate(KeyType.EC_P256)), "signature"),
    "a key that isn't there": (forged({}, {"kid": "x"}), "none of its trust domain"),
    "a symmetric algorithm": (forged({}, key="x" * 40, alg="HS256"), "algorithm"),
    "no algorithm": (forged({}, key=None, alg="none"), "algorithm"),
    "an algorithm of another family": (forged({}, key=RSA, alg="RS256"), "none of its trust"),
    "one header too many": (forged({}, {"jku": "http://x"}), "header"),
    "another type": (forged({}, {"typ": "at+jwt"}), "header"),
    "an algorithm that is a list": (headed(alg=["ES256"]), "no text"),
    "a type that is an object": (headed(typ={}), "no text"),
    "nothing": ("", "no token"),
    "two parts": ("a.b", "no token"),
    "a megabyte": ("a" * (1 << 20), "characters"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_does_not_hold_is_told_why(case: str) -> None:
    """Sections 2 to 4; nothing of the token is repeated."""
    text, words = BAD[case]
    with pytest.raises(TokenError, match=words) as caught:
        checked(text)
    assert not text or text not in str(caught.value)


def test_a_key_of_certificates_verifies_no_token() -> None:
    """A key's "use" says what it is for (Trust Domain and Bundle, section 4.2.2)."""
    jwks = JWKS.replace(b"jwt-svid", b"x509-svid")
    with pytest.raises(TokenError, match="none of its trust domain"):
        checked(token(), jwks=jwks)


def test_a_little_leeway_is_given_at_the_end() -> None:
    """Appendix A allows it."""
    assert checked(token(), now_ns=END + 9 * SECOND).spiffe_id == WEB
    with pytest.raises(TokenError, match="expired"):
        checked(token(), now_ns=END + 10 * SECOND)


def test_numbers_of_a_signature_keep_their_length() -> None:
    """RFC 7518 section 3.4: a short number gets its zeros; one in 256 signatures shows it."""
    lengths = {len(token().rpartition(".")[2]) for _ in range(300)}
    assert lengths == {86}
