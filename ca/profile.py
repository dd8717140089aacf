"""What an X509-SVID holds: times, serial and extensions, and nothing that the standard hasn't.

Source: X509-SVID standard, sections 2 to 4 and appendix A; RFC 5280 section 4.
"""

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca.errors import NoAuthorityError, OrderError
from ca.spiffe_id import SpiffeId

__all__ = [
    "BACKDATE_S",
    "EXTENDED_USAGE",
    "NO_AUTHORITY",
    "RSA_USAGE",
    "SECOND_NS",
    "USAGE",
    "Validity",
    "check_names",
    "serial_from",
    "subject_alternative_names",
    "validity",
]

SECOND_NS = 1_000_000_000
BACKDATE_S = 60
"""How far before now a certificate begins: clocks differ, and a renewal is used at once."""

_SERIAL_BYTES = 16
_MAX_DNS_NAME = 253  # RFC 1035 section 2.3.4, without the length bytes.
# RFC 1123 section 2.1, and the underscore that names of services have.
_DNS_NAME = re.compile(
    r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_MIN_TTL_S = 1


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, both included, in whole seconds.

    Attributes:
        not_before_ns: Nanoseconds since the epoch.
        not_after_ns: Likewise; not before the other.
    """

    not_before_ns: int
    not_after_ns: int


def validity(now_ns: int, ttl_s: int, issuers: Sequence[Validity]) -> Validity:
    """Give the times of a certificate.

    It begins a little before now, never before an issuer, and never outlives one: a chain is good
    for as long as its shortest link.

    Args:
        now_ns: Nanoseconds since the epoch.
        ttl_s: Seconds from now; at least 1.
        issuers: Those of every certificate above it.

    Raises:
        NoAuthorityError: An issuer does not hold now, or for less than a second.
        ValueError: The TTL is below 1.
    """
    if ttl_s < _MIN_TTL_S:
        raise ValueError(f"a TTL of {ttl_s} s is below {_MIN_TTL_S}")
    now_s = now_ns // SECOND_NS
    begin_s = max([now_s - BACKDATE_S, *(-(-each.not_before_ns // SECOND_NS) for each in issuers)])
    end_s = min([now_s + ttl_s, *(each.not_after_ns // SECOND_NS for each in issuers)])
    if begin_s > now_s:
        raise NoAuthorityError("the authority is not valid yet: is this machine's clock right?")
    if end_s <= now_s:
        raise NoAuthorityError("the authority has expired: 'meshwarden ca show' says which")
    return Validity(begin_s * SECOND_NS, end_s * SECOND_NS)


def serial_from(randomness: bytes) -> int:
    """Make a serial number of 128 random bits, positive as RFC 5280 section 4.1.2.2 wants it.

    Args:
        randomness: Exactly 16 bytes that nobody can foresee.
    """
    serial = int.from_bytes(randomness)
    if len(randomness) != _SERIAL_BYTES or not serial:
        raise ValueError("a serial is made of 16 random bytes")
    return serial


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Check DNS names and IP addresses that a certificate shall have; give them in one spelling.

    Raises:
        OrderError: One is neither; a wildcard may stand for the first label.
    """
    return tuple(dict.fromkeys(map(_checked_name, names)))


def _checked_name(name: str) -> str:
    # A zone ("%eth0") is a machine's own, and no certificate has one.
    if "%" not in name:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(name))
    labels = name.removeprefix("*.")
    # RFC 1123 section 2.1: what ends in a number would be read as an address.
    is_number = labels.rpartition(".")[2].isdigit()
    if len(name) > _MAX_DNS_NAME or is_number or _DNS_NAME.fullmatch(labels) is None:
        shown = name if len(name) <= _MAX_DNS_NAME else name[:_MAX_DNS_NAME] + "..."
        raise OrderError(f"{shown!r} is no DNS name in lower case and no IP address")
    return name


def subject_alternative_names(
    spiffe_id: SpiffeId, names: Sequence[str] = ()
) -> x509.SubjectAlternativeName:
    """Give a leaf's names: its SPIFFE ID as the one URI, then DNS names and IP addresses."""
    return x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(str(spiffe_id)), *map(_name, names)]
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, key_encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


USAGE = _usage(key_encipherment=False)
"""Section 4.3 wants digitalSignature..."""

RSA_USAGE = _usage(key_encipherment=True)
"""...and permits more, which is of use to RSA keys only."""

EXTENDED_USAGE = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)
"""Section 4.4: both, since a workload is called and calls."""

NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
"""Section 4.1."""
