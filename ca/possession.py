"""Proof that somebody holds a certificate's key: a signature over a challenge and the new key.

Who relays a proof to another server, or puts a request of its own in its place, gets nothing by it:
the signature holds for one challenge, and for a certificate over that one new key only.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ca.keys import PrivateKey, PublicKey, public_der

__all__ = ["CHALLENGE_BYTES", "holds", "key_sha256", "sign"]

CHALLENGE_BYTES = 32
"""Random; as many as the digest that it is signed with."""

_PURPOSE = b"meshwarden proof of possession, version 1\0"
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)


def key_sha256(key: PublicKey) -> bytes:
    """Digest a public key as its SubjectPublicKeyInfo in DER."""
    return hashlib.sha256(public_der(key)).digest()


def sign(key: PrivateKey, challenge: bytes, new_key_sha256: bytes) -> bytes:
    """Answer a challenge: an agent's part.

    Args:
        key: Of the certificate that was shown.
        challenge: As the server sent it.
        new_key_sha256: `key_sha256` of the key in the request that goes with it.
    """
    message = _PURPOSE + challenge + new_key_sha256
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(message, _PSS, hashes.SHA256())
        case ed25519.Ed25519PrivateKey():
            return key.sign(message)


def holds(key: object, challenge: bytes, new_key_sha256: bytes, answer: bytes) -> bool:
    """Whether an answer is by the key: the server's part; a key of another kind holds nothing."""
    message = _PURPOSE + challenge + new_key_sha256
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(answer, message, ec.ECDSA(hashes.SHA256()))
            case rsa.RSAPublicKey():
                key.verify(answer, message, _PSS, hashes.SHA256())
            case ed25519.Ed25519PublicKey():
                key.verify(answer, message)
            case _:
                return False
    except InvalidSignature:
        return False
    return True
