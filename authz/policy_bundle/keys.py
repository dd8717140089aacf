"""Keys that sign bundles: Ed25519, or ECDSA on P-256 with SHA-256, and nothing else.

Source: RFC 8032 (Ed25519); FIPS 186-5 section 6 and RFC 6979 (ECDSA, deterministic).
"""

import hashlib
import re
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from authz.errors import BundleError

__all__ = [
    "PrivateKey",
    "PublicKey",
    "fingerprint",
    "read_private_key",
    "read_public_keys",
    "sign",
    "verifies",
]

PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

_FINGERPRINT_DIGITS = 16
_PEM = re.compile(rb"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)
_FIT = "Ed25519, or ECDSA on P-256"


def read_public_keys(pem: bytes) -> tuple[PublicKey, ...]:
    """Read every key of a PEM file: two are in force while one takes the other's place.

    Raises:
        BundleError: There is none, or one of another kind.
    """
    keys = []
    for block in _PEM.findall(pem):
        if b"PRIVATE KEY" in block:
            # Where bundles are verified, the key that makes them must not lie about.
            raise BundleError("holds a private key; give the public one, which verifies")
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BundleError(f"holds no public key in PEM: {error}") from error
        keys.append(_public(key))
    if not keys:
        raise BundleError("holds no public key in PEM")
    return tuple(keys)


def read_private_key(pem: bytes) -> PrivateKey:
    """Read the key to sign with, an unencrypted PEM.

    Raises:
        BundleError: It is none, or of another kind.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise BundleError("is encrypted; give one that is not, from a file of its own") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BundleError("holds no private key in PEM") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise BundleError(f"is of another kind; bundles are signed by {_FIT}")


def _public(key: object) -> PublicKey:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise BundleError(f"holds a key of another kind; bundles are signed by {_FIT}")


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Sign; the same signature for the same message, so that a bundle can be made again."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    return key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def verifies(key: PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the key's owner has signed this very message."""
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> str:
    """The beginning of the key's SHA-256, for people to tell keys apart."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()[:_FINGERPRINT_DIGITS]
