"""What a trust domain's SVIDs are verified with, and its one form on the wire.

Source: SPIFFE Trust Domain and Bundle standard, section 4; X509-SVID standard, section 6;
JWT-SVID standard, section 2.2 for "kid".
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography import x509

from ca.errors import CertificateError
from ca.jwk import public_jwk
from ca.keys import PublicKey

__all__ = ["Bundle", "from_spiffe"]

_X509, _JWT = "x509-svid", "jwt-svid"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A trust domain's authorities.

    Attributes:
        trust_domain: Whose.
        x509_authorities: DER, each a root; in an order that is the same for the same bundle.
        jwks: RFC 7517 set of the keys of JWT-SVIDs, "use" as the standard says.
        sequence: Grows with each change.
        refresh_hint_s: How often to look for a change, in seconds.
    """

    trust_domain: str
    x509_authorities: tuple[bytes, ...]
    jwks: bytes
    sequence: int
    refresh_hint_s: int

    @property
    def sha256(self) -> str:
        """Digest of the X.509 authorities: what a person compares, or a join token carries."""
        return hashlib.sha256(b"".join(sorted(self.x509_authorities))).hexdigest()

    @property
    def jwt_keys(self) -> list[dict[str, Any]]:
        """The keys of JWT-SVIDs, as JWK."""
        keys: list[dict[str, Any]] = msgspec.json.decode(self.jwks)["keys"]
        return keys

    def to_spiffe(self) -> bytes:
        """Write the standard's form: a JWK set with both kinds of authorities."""
        keys = [*map(_x509_key, self.x509_authorities), *self.jwt_keys]
        return msgspec.json.encode(
            {
                "keys": keys,
                "spiffe_sequence": self.sequence,
                "spiffe_refresh_hint": self.refresh_hint_s,
            }
        )

    def to_jwks(self) -> bytes:
        """Write the keys of tokens for who knows JWT and not SPIFFE: "use" is "sig" there.

        Source: RFC 7517 section 4.2. PyJWT's client, for one, passes over any other use.
        """
        return msgspec.json.encode({"keys": [{**key, "use": "sig"} for key in self.jwt_keys]})

    def to_pem(self) -> str:
        """Write the X.509 authorities as PEM."""
        return "".join(map(_pem, self.x509_authorities))


def from_spiffe(trust_domain: str, text: bytes) -> Bundle:
    """Read the standard's form. Keys of a kind or use unknown here are left out (section 4.2).

    Raises:
        CertificateError: It is no JWK set, or an authority in it has no certificate.
    """
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
        keys = msgspec.convert(document["keys"], list[dict[str, Any]])
        sequence = msgspec.convert(document.get("spiffe_sequence", 0), int)
        hint_s = msgspec.convert(document.get("spiffe_refresh_hint", 0), int)
        certificates = [_certificate(key) for key in keys if key.get("use") == _X509]
    except (msgspec.MsgspecError, KeyError, binascii.Error) as error:
        raise CertificateError(f"this is no SPIFFE bundle: {error}") from error
    found = tuple(each for each in certificates if each)
    jwks = msgspec.json.encode({"keys": [key for key in keys if key.get("use") == _JWT]})
    return Bundle(trust_domain, found, jwks, sequence, hint_s)


def _certificate(key: Mapping[str, Any]) -> bytes:
    # X509-SVID section 6.2: an entry without x5c is ignored, and of several the first counts.
    chain = msgspec.convert(key.get("x5c", []), list[str])
    return base64.b64decode(chain[0], validate=True) if chain else b""


def _x509_key(der: bytes) -> dict[str, Any]:
    key = x509.load_der_x509_certificate(der).public_key()
    assert isinstance(key, PublicKey)  # noqa: S101 - no other was let in
    return {**public_jwk(key), "use": _X509, "x5c": [base64.b64encode(der).decode()]}


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode().replace("\n", "")
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
