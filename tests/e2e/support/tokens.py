"""End users' tokens, signed as an issuer does, and what Envoy needs to verify them."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.e2e.support.sidecar import typed

__all__ = ["ISSUER", "Issuer"]

ISSUER = "https://issuer.example"
_FAR_AWAY = 4_102_444_800  # 2100-01-01, in seconds since 1970.
_P256_BYTES = 32


class Issuer:
    """Signs tokens by ES256 (RFC 7518, section 3.4) with a key of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def token(self, subject: str, **claims: Any) -> str:
        """Sign a token that is valid for ever."""
        payload = {"iss": ISSUER, "sub": subject, "exp": _FAR_AWAY, **claims}
        signed = _part({"alg": "ES256", "kid": "1", "typ": "JWT"}) + "." + _part(payload)
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")
        return f"{signed}.{_encoded(signature)}"

    def jwt_authn(self) -> dict[str, Any]:
        """Configure Envoy's filter: a token is verified if there is one, and none is needed."""
        point = self._key.public_key().public_numbers()
        keys = {
            "keys": [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "alg": "ES256",
                    "kid": "1",
                    "x": _encoded(point.x.to_bytes(_P256_BYTES, "big")),
                    "y": _encoded(point.y.to_bytes(_P256_BYTES, "big")),
                }
            ]
        }
        provider = {
            "issuer": ISSUER,
            "local_jwks": {"inline_string": json.dumps(keys)},
            "payload_in_metadata": "jwt_payload",
            "forward": True,
        }
        rule = {
            "match": {"prefix": "/"},
            "requires": {
                "requires_any": {
                    "requirements": [{"provider_name": "issuer"}, {"allow_missing": {}}]
                }
            },
        }
        return typed(
            "envoy.filters.http.jwt_authn",
            "filters.http.jwt_authn.v3.JwtAuthentication",
            {"providers": {"issuer": provider}, "rules": [rule]},
        )


def _part(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value).encode())


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
