"""The kinds of keys there are, and how a public key is named."""

import enum
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

__all__ = [
    "KeyType",
    "PrivateKey",
    "PublicKey",
    "generate",
    "hash_for",
    "is_signed_by",
    "key_id",
    "key_type",
    "private_der",
    "private_from_der",
    "public_der",
    "weakness",
]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_RSA_BITS = 2048
# Verifying costs the square of the length: a larger key is a way to keep a signer busy.
_MAX_RSA_BITS = 4096
_RSA_EXPONENT = 65_537  # NIST SP 800-56B section 6.2: what everybody uses, and nothing smaller.
_CURVES = ("secp256r1", "secp384r1")


class KeyType(enum.StrEnum):
    """What an authority's key can be."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    ED25519 = "ed25519"


def generate(kind: KeyType) -> PrivateKey:
    """Make a key from the operating system's randomness."""
    match kind:
        case KeyType.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA_2048:
            return rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


def key_type(key: PrivateKey | PublicKey) -> str:
    """Name a key's type as settings do, such as "ec-p256" or "rsa-4096"."""
    public = key if isinstance(key, PublicKey) else key.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        return {"secp256r1": "ec-p256", "secp384r1": "ec-p384"}.get(
            public.curve.name, f"ec-{public.curve.name}"
        )
    if isinstance(public, rsa.RSAPublicKey):
        return f"rsa-{public.key_size}"
    return "ed25519"


def weakness(key: object) -> str:
    """Say why a key is not taken; "" if it is."""
    reason = ""
    match key:
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                reason = f"its curve {key.curve.name} is none of P-256 and P-384"
        case rsa.RSAPublicKey():
            if not _RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
                reason = f"its RSA key has {key.key_size} bits, not {_RSA_BITS} to {_MAX_RSA_BITS}"
            elif key.public_numbers().e != _RSA_EXPONENT:
                reason = f"its RSA exponent is not {_RSA_EXPONENT}"
        case ed25519.Ed25519PublicKey():
            pass
        case _:
            reason = "its key is none of P-256, P-384, RSA and Ed25519"
    return reason


def hash_for(key: PrivateKey | PublicKey) -> HashAlgorithm | None:
    """Give the hash that a key signs with; None where the scheme has its own (Ed25519).

    Source: RFC 5758 section 3.2 pairs hashes with curves by their strength.
    """
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return SHA384() if key.curve.name == "secp384r1" else SHA256()
    return SHA256()


def is_signed_by(
    key: PublicKey, signature: bytes, data: bytes, algorithm: HashAlgorithm | None
) -> bool:
    """Tell whether a signature over some data is a key's.

    With the key at hand: the library's own ways to ask this of a request or a certificate decode
    it anew, for a fifth of the whole cost.

    Args:
        key: Whose signature it shall be.
        signature: As certificates have it.
        data: What was signed.
        algorithm: The hash that the signature names; None for Ed25519.
    """
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if algorithm is None:
                return False
            key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            if algorithm is not None:
                return False
            key.verify(signature, data)
        else:
            if algorithm is None:
                return False
            key.verify(signature, data, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def public_der(key: PublicKey) -> bytes:
    """Write a public key as its SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: PublicKey) -> str:
    """Name a key: the SHA-256 of its SubjectPublicKeyInfo in hex."""
    return hashlib.sha256(public_der(key)).hexdigest()


def private_der(key: PrivateKey) -> bytes:
    """Write a private key as PKCS#8, in the clear: for who seals it, and nobody else."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def private_from_der(der: bytes) -> PrivateKey:
    """Read what `private_der` wrote.

    Raises:
        ValueError: It is no PKCS#8 of a key type there is.
    """
    key = load_der_private_key(der, None)
    if not isinstance(key, PrivateKey):
        raise ValueError(f"a {type(key).__name__} is no key of an authority")  # noqa: TRY004
    return key
