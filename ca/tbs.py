"""An X509-SVID's bytes, put together from parts that are mostly the same for all of one signer.

The library builds any certificate; ours differ in five places. Writing those into a frame that was
encoded once leaves of the cost of issuing little more than the signature itself. What comes out is
read again before anybody gets it (`ca.verify`), by code that shares nothing with this, so a slip
here withholds a certificate and never hands out a wrong one.

Source: RFC 5280 sections 4.1 and 4.2; X.690 section 8.1 for lengths, 11.7 for times.
"""

import functools
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from ca.der import der_value
from ca.keys import PrivateKey, PublicKey, public_der
from ca.profile import EXTENDED_USAGE, NO_AUTHORITY, RSA_USAGE, SECOND_NS, USAGE, Validity
from ca.spiffe_id import SpiffeId

__all__ = ["LeafFrame"]

_INTEGER, _BITS, _OCTETS, _SEQUENCE = 0x02, 0x03, 0x04, 0x30
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION_TAG, _EXTENSIONS_TAG = 0xA0, 0xA3
_DNS_TAG, _URI_TAG, _IP_TAG = 0x82, 0x86, 0x87  # GeneralName's choices, section 4.2.1.6.
_TRUE = b"\x01\x01\xff"
_NO_SUBJECT = b"\x30\x00"
# UTCTime ends there (section 4.1.2.5).
_GENERALIZED_YEAR = 2050

# RFC 5758 section 3.2, RFC 4055 section 5, RFC 8410 section 3.
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
_ED25519 = bytes.fromhex("300506032b6570")


class LeafFrame:
    """What every leaf of one signer has in common, encoded once."""

    def __init__(self, issuer: x509.Name, identifier: bytes, key: PrivateKey) -> None:
        """Encode it.

        Args:
            issuer: The signer's subject.
            identifier: The signer's subject key identifier.
            key: What signs.
        """
        self._key = key
        self._algorithm = _algorithm(key)
        self._issuer = issuer.public_bytes()
        self._constant, self._rsa_constant = (
            _encoded(NO_AUTHORITY, critical=True)
            + _encoded(usage, critical=True)
            + _encoded(EXTENDED_USAGE, critical=False)
            + _encoded(x509.AuthorityKeyIdentifier(identifier, None, None), critical=False)
            for usage in (USAGE, RSA_USAGE)
        )

    def sign(
        self,
        key: PublicKey,
        spiffe_id: SpiffeId,
        names: Sequence[str],
        times: Validity,
        serial: int,
    ) -> bytes:
        """Write a leaf and sign it; give it in DER.

        Args:
            key: Whose it is.
            spiffe_id: What it says.
            names: DNS names and IP addresses, checked.
            times: From when to when it holds.
            serial: Above 0.
        """
        is_rsa = isinstance(key, rsa.RSAPublicKey)
        constant = self._rsa_constant if is_rsa else self._constant
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        extensions = (
            constant
            + _extension(_KEY_IDENTIFIER, der_value(_OCTETS, identifier.digest))
            + _CRITICAL_NAMES(_names(spiffe_id, names))
        )
        content = der_value(
            _SEQUENCE,
            b"".join(
                (
                    _V3,
                    der_value(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1)),
                    self._algorithm,
                    self._issuer,
                    _validity(times),
                    _NO_SUBJECT,
                    public_der(key),
                    der_value(_EXTENSIONS_TAG, der_value(_SEQUENCE, extensions)),
                )
            ),
        )
        signature = b"\x00" + _signature(self._key, content)
        return der_value(_SEQUENCE, content + self._algorithm + der_value(_BITS, signature))


def _algorithm(key: PrivateKey) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ECDSA_SHA384 if key.curve.name == "secp384r1" else _ECDSA_SHA256
    return _RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else _ED25519


def _signature(key: PrivateKey, content: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, _ECDSA_384 if key.curve.name == "secp384r1" else _ECDSA_256)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(content)
    return key.sign(content, padding.PKCS1v15(), SHA256())


def _extension(oid: bytes, content: bytes, *, critical: bool = False) -> bytes:
    return der_value(_SEQUENCE, oid + (_TRUE if critical else b"") + der_value(_OCTETS, content))


def _encoded(extension: x509.ExtensionType, *, critical: bool) -> bytes:
    """Encode an extension by the library: once for each signer."""
    return _extension(_oid(extension), extension.public_bytes(), critical=critical)


def _oid(extension: x509.ExtensionType) -> bytes:
    # All of ours are below 2.5.29 (id-ce), whose last arc fits a byte.
    last = int(extension.oid.dotted_string.removeprefix("2.5.29."))
    return bytes((0x06, 3, 0x55, 0x1D, last))


def _names(spiffe_id: SpiffeId, names: Sequence[str]) -> bytes:
    parts = [der_value(_URI_TAG, str(spiffe_id).encode())]
    for name in names:
        try:
            parts.append(der_value(_IP_TAG, ipaddress.ip_address(name).packed))
        except ValueError:
            parts.append(der_value(_DNS_TAG, name.encode("ascii")))
    return der_value(_SEQUENCE, b"".join(parts))


@functools.lru_cache(maxsize=64)  # Those of one second are the same for all.
def _validity(times: Validity) -> bytes:
    return der_value(_SEQUENCE, _time(times.not_before_ns) + _time(times.not_after_ns))


def _time(time_ns: int) -> bytes:
    found = datetime.fromtimestamp(time_ns // SECOND_NS, UTC)
    if found.year < _GENERALIZED_YEAR:
        return der_value(_UTC_TIME, f"{found:%y%m%d%H%M%S}Z".encode())
    return der_value(_GENERALIZED_TIME, f"{found:%Y%m%d%H%M%S}Z".encode())


_V3 = der_value(_VERSION_TAG, der_value(_INTEGER, b"\x02"))
_ECDSA_256, _ECDSA_384 = ec.ECDSA(SHA256()), ec.ECDSA(SHA384())
_KEY_IDENTIFIER = bytes.fromhex("0603551d0e")
# RFC 5280 section 4.1.2.6: critical, since the subject is empty.
_CRITICAL_NAMES = functools.partial(_extension, bytes.fromhex("0603551d11"), critical=True)
