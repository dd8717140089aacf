"""JWT-SVIDs: ordered, checked, signed; and verified by code that has no part in signing.

Source: JWT-SVID standard, sections 2 to 4; RFC 7515 (JWS), RFC 7518 section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ca.errors import OrderError, TokenError
from ca.jwk import base64url, public_jwk
from ca.keys import PrivateKey, PublicKey, hash_for, key_id
from ca.profile import SECOND_NS
from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse

__all__ = [
    "CheckedJwt",
    "JwtSigner",
    "ValidJwt",
    "check_audiences",
    "check_jwt",
    "jwk_set",
    "sign",
    "trust_domain_of",
    "validate",
]

_USE = "jwt-svid"
# Section 2.1: the registered values it allows.
_ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "ES", "PS") for bits in ("256", "384", "512")
)
# Section 2: no other header may be there.
_HEADERS = frozenset({"alg", "kid", "typ"})
_TYPES = frozenset({"JWT", "JOSE"})  # Section 2.3.
_MAX_AUDIENCES, _MAX_AUDIENCE_CHARACTERS = 16, 1024
_MAX_TOKEN_CHARACTERS = 16 * 1024
_LEEWAY_S = 10
_CHECKED: Final = object()


class CheckedJwt:
    """An order of a token that may be signed; only `check_jwt` makes one."""

    __slots__ = ("audiences", "spiffe_id")

    def __init__(self, proof: object, spiffe_id: SpiffeId, audiences: tuple[str, ...]) -> None:
        if proof is not _CHECKED:
            raise TypeError("a CheckedJwt comes from check_jwt alone")
        self.spiffe_id: Final = spiffe_id
        self.audiences: Final = audiences


@dataclass(frozen=True, slots=True)
class ValidJwt:
    """What a token that holds says.

    Attributes:
        spiffe_id: Whose it is.
        audiences: For whom.
        expires_ns: Until when, nanoseconds since the epoch.
        claims: All claims, those above included.
    """

    spiffe_id: SpiffeId
    audiences: tuple[str, ...]
    expires_ns: int
    claims: Mapping[str, Any]


class JwtSigner:
    """A JWT key, made ready to sign many.

    Attributes:
        authority_id: Name of its key, which tokens say as "kid".
        algorithm: "ES256", "ES384" or "RS256".
    """

    def __init__(self, key: PrivateKey) -> None:
        """Prepare.

        Raises:
            ValueError: The standard has no algorithm for such a key (Ed25519).
        """
        self.authority_id = key_id(key.public_key())
        self.algorithm = algorithm_of(key.public_key())
        self.public_key = key.public_key()
        self._key = key
        header = {"alg": self.algorithm, "kid": self.authority_id, "typ": "JWT"}
        self._header = base64url(msgspec.json.encode(header))

    def sign(self, claims: Mapping[str, object]) -> str:
        """Sign claims; give the compact serialisation (section 5.1)."""
        signed = f"{self._header}.{base64url(msgspec.json.encode(claims))}"
        return f"{signed}.{base64url(self._signature(signed.encode()))}"

    def _signature(self, signed: bytes) -> bytes:
        algorithm = hash_for(self._key)
        assert algorithm is not None  # noqa: S101 - algorithm_of has refused Ed25519
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(signed, padding.PKCS1v15(), algorithm)
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)  # noqa: S101 - likewise
        # RFC 7518 section 3.4: both numbers at full length, not DER.
        length = (self._key.curve.key_size + 7) // 8
        numbers = decode_dss_signature(self._key.sign(signed, ec.ECDSA(algorithm)))
        return b"".join(number.to_bytes(length) for number in numbers)


def algorithm_of(key: PublicKey) -> str:
    """Name the algorithm that a key signs tokens with.

    Raises:
        ValueError: The standard has none for it.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ES256", "secp384r1": "ES384"}[key.curve.name]
    raise ValueError("JWT-SVID section 2.1 has no algorithm for an Ed25519 key")


def check_audiences(audiences: Sequence[str]) -> tuple[str, ...]:
    """Give the audiences of an order, each once.

    Raises:
        OrderError: There is none (section 3.2), or one that nobody could mean.
    """
    if not audiences:
        raise OrderError("a JWT-SVID needs an audience: name who shall accept it")
    if len(audiences) > _MAX_AUDIENCES:
        raise OrderError(f"{len(audiences)} audiences; at most {_MAX_AUDIENCES}")
    for audience in audiences:
        if not audience or len(audience) > _MAX_AUDIENCE_CHARACTERS or not audience.isprintable():
            raise OrderError(
                "an audience is empty, holds a control character or is longer than "
                f"{_MAX_AUDIENCE_CHARACTERS} characters"
            )
    return tuple(dict.fromkeys(audiences))


def check_jwt(spiffe_id: SpiffeId, audiences: Sequence[str]) -> CheckedJwt:
    """Check what a token shall say.

    Raises:
        OrderError: See `check_audiences`.
    """
    return CheckedJwt(_CHECKED, spiffe_id, check_audiences(audiences))


def sign(
    signer: JwtSigner, order: CheckedJwt, token_id: str, issued_ns: int, expires_ns: int
) -> str:
    """Sign a JWT-SVID.

    Args:
        signer: Who signs.
        order: What was checked.
        token_id: On the ledger already; section 6.1 permits "jti".
        issued_ns: Now, nanoseconds since the epoch.
        expires_ns: Its end, a multiple of a second.
    """
    return signer.sign(
        {
            "aud": order.audiences,
            "exp": expires_ns // SECOND_NS,
            "iat": issued_ns // SECOND_NS,
            "jti": token_id,
            "sub": str(order.spiffe_id),
        }
    )


def jwk_set(keys: Iterable[PublicKey]) -> bytes:
    """Write keys as a bundle has them, with "use" and "kid".

    Source: SPIFFE Trust Domain and Bundle standard, section 4.2: nothing beyond what is defined.
    """
    listed = [{**public_jwk(key), "use": _USE, "kid": key_id(key)} for key in keys]
    return msgspec.json.encode({"keys": listed})


def validate(token: str, audience: str, jwks: bytes, trust_domain: str, now_ns: int) -> ValidJwt:
    """Verify a token.

    Args:
        token: In compact serialisation.
        audience: Who verifies; the token must name it.
        jwks: Keys of the trust domain's bundle.
        trust_domain: Whose bundle that is.
        now_ns: Nanoseconds since the epoch.

    Raises:
        TokenError: It does not hold; the message says why and repeats nothing of the token.
    """
    key, algorithm = _key_for(token, jwks)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            options={
                "require": ["aud", "exp", "sub"],
                # The library reads the clock for these; ours is an argument, below.
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except jwt.InvalidAudienceError as error:
        raise TokenError(f"the token is not for the audience {audience!r}") from error
    except jwt.MissingRequiredClaimError as error:
        raise TokenError(f"the token has no claim {error.claim!r}") from error
    except jwt.InvalidSignatureError as error:
        raise TokenError("the token's signature is wrong") from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise TokenError(f"this is no JWT-SVID ({type(error).__name__})") from error
    expires_ns = _time_ns(claims, "exp")
    if now_ns >= expires_ns + _LEEWAY_S * SECOND_NS:
        raise TokenError("the token has expired")
    if "nbf" in claims and now_ns + _LEEWAY_S * SECOND_NS < _time_ns(claims, "nbf"):
        raise TokenError("the token does not hold yet")
    try:
        spiffe_id = parse(claims["sub"])
    except (InvalidSpiffeIdError, AttributeError) as error:
        raise TokenError("the token's subject is no SPIFFE ID") from error
    if spiffe_id.trust_domain != trust_domain or not spiffe_id.path:
        raise TokenError(f"the token's subject is no workload of {trust_domain}")
    found = claims["aud"]
    audiences = (found,) if isinstance(found, str) else tuple(found)
    return ValidJwt(spiffe_id, audiences, expires_ns, claims)


def trust_domain_of(token: str) -> str:
    """Read from a token, before it is verified, whose bundle to verify it by (section 4).

    Raises:
        TokenError: It names nobody.
    """
    if len(token) > _MAX_TOKEN_CHARACTERS:
        raise TokenError(f"the token has more than {_MAX_TOKEN_CHARACTERS} characters")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return parse(claims["sub"]).trust_domain
    except InvalidSpiffeIdError as error:
        raise TokenError("the token's subject is no SPIFFE ID") from error
    except KeyError as error:
        raise TokenError("the token has no claim 'sub'") from error
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TokenError("this is no token") from error


def _key_for(token: str, jwks: bytes) -> tuple[jwt.PyJWK, str]:
    """Choose the key by the token's header, which is believed for nothing else."""
    if len(token) > _MAX_TOKEN_CHARACTERS:
        raise TokenError(f"the token has more than {_MAX_TOKEN_CHARACTERS} characters")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenError("this is no token") from error
    # RFC 7515 section 4.1: they are text. A list can't be looked up in a set at all.
    if not all(isinstance(value, str) for value in header.values()):
        raise TokenError("the token has a header that is no text")
    if not _HEADERS.issuperset(header) or header.get("typ", "JWT") not in _TYPES:
        raise TokenError("the token has a header that no JWT-SVID has")
    algorithm = header.get("alg")
    # Section 4: before anything is processed.
    if algorithm not in _ALGORITHMS:
        raise TokenError("the token's algorithm is none that a JWT-SVID may have")
    for key in msgspec.json.decode(jwks)["keys"]:
        if key.get("use") == _USE and header.get("kid") in {None, key.get("kid")}:
            try:
                found = jwt.PyJWK(key, algorithm=algorithm)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            if _fits(key, algorithm):
                return found, algorithm
    raise TokenError("the token's key is none of its trust domain's bundle")


def _fits(key: Mapping[str, str], algorithm: str) -> bool:
    """Whether a key is of the algorithm's kind: a token must not choose how its key is used."""
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    if key.get("kty") == "EC":
        return curves.get(key.get("crv", "")) == algorithm
    return key.get("kty") == "RSA" and algorithm[:2] in {"RS", "PS"}


def _time_ns(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(f"the token's {name!r} is no time")
    try:
        return int(value * SECOND_NS)
    except (OverflowError, ValueError) as error:
        raise TokenError(f"the token's {name!r} is no time") from error
