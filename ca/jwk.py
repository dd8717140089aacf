"""Public keys as JSON web keys. Source: RFC 7518 section 6; RFC 8037 section 2 for Ed25519."""

import base64

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ca.keys import PublicKey

__all__ = ["base64url", "public_jwk"]

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384"}


def base64url(data: bytes) -> str:
    """Encode as JOSE does: URL-safe and without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Give the members that say which key it is; "use" and "kid" are the caller's."""
    match key:
        case ec.EllipticCurvePublicKey():
            numbers, length = key.public_numbers(), (key.curve.key_size + 7) // 8
            return {
                "kty": "EC",
                "crv": _CURVES[key.curve.name],
                "x": base64url(numbers.x.to_bytes(length)),
                "y": base64url(numbers.y.to_bytes(length)),
            }
        case rsa.RSAPublicKey():
            modulus, exponent = key.public_numbers().n, key.public_numbers().e
            return {
                "kty": "RSA",
                "n": base64url(modulus.to_bytes((modulus.bit_length() + 7) // 8)),
                "e": base64url(exponent.to_bytes((exponent.bit_length() + 7) // 8)),
            }
        case _:
            raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}
