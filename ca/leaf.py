"""Reads a finished X509-SVID from its bytes: what it says, and that it says nothing else.

Strictly by the rules of DER: one way to write each value, nothing left over at any level. What an
SVID always says the same is told as bytes and compared as bytes, so there is nothing to interpret.
The library reads any certificate, at the price of verifying a signature; a certificate is read
before each is published. This file shares nothing with the one that writes them (`ca.tbs`).

Source: RFC 5280 sections 4.1 and 4.2; X.690 sections 8, 10 and 11.
"""

import functools
import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["InvalidLeafError", "Leaf", "Names", "key_identifier", "read_leaf", "read_names"]

_BOOLEAN, _INTEGER, _BITS, _OCTETS, _OID, _SEQUENCE = 0x01, 0x02, 0x03, 0x04, 0x06, 0x30
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION_TAG, _EXTENSIONS_TAG = 0xA0, 0xA3
_DNS_TAG, _URI_TAG, _IP_TAG = 0x82, 0x86, 0x87
_V3 = b"\x02\x01\x02"
_TRUE = b"\xff"
_LONG = 0x80
_SIGN_BIT = 0x80
_MAX_LENGTH_BYTES = 3
_GENERALIZED_YEAR = 2050  # Before it, years have two digits, and from it on four.
_UTC_CENTURY = 50  # Below it a year of two digits is of this century (section 4.1.2.5.1).


class InvalidLeafError(ValueError):
    """The bytes are no certificate of version 3 in DER; the message says what they lack."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a certificate says.

    Attributes:
        tbs: What is signed, as it stands there.
        serial: Above 0.
        algorithm: How it is signed, an AlgorithmIdentifier in DER.
        issuer: A Name in DER.
        begin_s: When it begins, seconds since the epoch.
        end_s: When it ends.
        subject: A Name in DER.
        public_key: A SubjectPublicKeyInfo in DER.
        extensions: Whether it is critical, and its value, by the content of its object identifier.
        signature: Over `tbs`.
    """

    tbs: bytes
    serial: int
    algorithm: bytes
    issuer: bytes
    begin_s: int
    end_s: int
    subject: bytes
    public_key: bytes
    extensions: dict[bytes, tuple[bool, bytes]]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate is for.

    Attributes:
        uris: As they stand there.
        others: DNS names and IP addresses, in their order.
    """

    uris: list[str]
    others: list[str]


def read_leaf(data: bytes) -> Leaf:
    """Read a certificate of version 3.

    Raises:
        InvalidLeafError: It is none, or not in DER.
    """
    try:
        return _leaf(data)
    except (IndexError, ValueError) as error:
        if isinstance(error, InvalidLeafError):
            raise
        raise InvalidLeafError("it is cut off, or has text that is none") from error


def read_names(data: bytes) -> Names:
    """Read a SubjectAlternativeName of URIs, DNS names and IP addresses.

    Raises:
        InvalidLeafError: It is none, or has names of another kind.
    """
    uris: list[str] = []
    others: list[str] = []
    try:
        at, end = _only(data, _SEQUENCE)
        while at < end:
            tag = data[at]
            start, at = _value(data, at, tag, end)
            content = data[start:at]
            if tag == _URI_TAG:
                uris.append(content.decode("ascii"))
            elif tag == _DNS_TAG:
                others.append(_dns_name(content))
            elif tag == _IP_TAG:
                others.append(str(ipaddress.ip_address(content)))
            else:
                raise InvalidLeafError("it has a name of a kind that no SVID has")
    except (IndexError, ValueError) as error:
        if isinstance(error, InvalidLeafError):
            raise
        raise InvalidLeafError("it has names that can't be read") from error
    return Names(uris, others)


def key_identifier(public_key: bytes) -> bytes:
    """Give the SubjectKeyIdentifier of a key: the SHA-1 of its bits (section 4.2.1.2).

    Args:
        public_key: A SubjectPublicKeyInfo in DER.

    Raises:
        InvalidLeafError: It is none.
    """
    try:
        at, end = _only(public_key, _SEQUENCE)
        _, at = _value(public_key, at, _SEQUENCE, end)
        start, at = _value(public_key, at, _BITS, end)
        if at != end or public_key[start] != 0:
            raise InvalidLeafError("its key is not the last and whole")
    except IndexError as error:
        raise InvalidLeafError("its key is cut off") from error
    # No secret hangs on it: it is a name, and this hash is the one that all use for it.
    digest = hashlib.sha1(public_key[start + 1 : end], usedforsecurity=False).digest()
    return bytes((_OCTETS, len(digest))) + digest


def _dns_name(content: bytes) -> str:
    name = content.decode("ascii")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    raise InvalidLeafError(f"it has a DNS name that reads as an address: {name!r}")


def _leaf(data: bytes) -> Leaf:
    at, whole = _only(data, _SEQUENCE)
    tbs_start = at
    at, tbs_end = _value(data, at, _SEQUENCE, whole)
    # Step 1: what is signed, field by field, each where it has to be.
    version, end = _value(data, at, _VERSION_TAG, tbs_end)
    if data[version:end] != _V3:
        raise InvalidLeafError("it is not of version 3")
    start, at = _value(data, end, _INTEGER, tbs_end)
    serial = _positive(data[start:at])
    algorithm_start = at
    _, at = _value(data, at, _SEQUENCE, tbs_end)
    algorithm = data[algorithm_start:at]
    issuer_start = at
    _, at = _value(data, at, _SEQUENCE, tbs_end)
    issuer = data[issuer_start:at]
    times, times_end = _value(data, at, _SEQUENCE, tbs_end)
    begin_s, begin_end = _time(data, times, times_end)
    end_s, at = _time(data, begin_end, times_end)
    if at != times_end:
        raise InvalidLeafError("it has more than two times")
    _, subject_end = _value(data, at, _SEQUENCE, tbs_end)
    subject = data[at:subject_end]
    _, key_end = _value(data, subject_end, _SEQUENCE, tbs_end)
    public_key = data[subject_end:key_end]
    wrapped, end = _value(data, key_end, _EXTENSIONS_TAG, tbs_end)
    if end != tbs_end:
        raise InvalidLeafError("something follows its extensions")
    extensions = _extensions(data, wrapped, end)
    # Step 2: the signature, by the algorithm that is signed too.
    start, at = _value(data, tbs_end, _SEQUENCE, whole)
    if data[tbs_end:at] != algorithm:
        raise InvalidLeafError("it names two algorithms")
    start, at = _value(data, at, _BITS, whole)
    if at != whole or data[start] != 0:  # No bits of its last byte are unused.
        raise InvalidLeafError("its signature is not the last and whole")
    return Leaf(
        data[tbs_start:tbs_end], serial, algorithm, issuer, begin_s, end_s, subject, public_key,
        extensions, data[start + 1 : at],
    )  # fmt: skip


def _extensions(data: bytes, at: int, end: int) -> dict[bytes, tuple[bool, bytes]]:
    at, last = _value(data, at, _SEQUENCE, end)
    if last != end:
        raise InvalidLeafError("something follows its extensions")
    found: dict[bytes, tuple[bool, bytes]] = {}
    while at < last:
        at, own_end = _value(data, at, _SEQUENCE, last)
        start, at = _value(data, at, _OID, own_end)
        name = data[start:at]
        critical = data[at] == _BOOLEAN
        if critical:
            start, at = _value(data, at, _BOOLEAN, own_end)
            if data[start:at] != _TRUE:  # False is the default, and is left out.
                raise InvalidLeafError("an extension says in no way of DER whether it is critical")
        start, at = _value(data, at, _OCTETS, own_end)
        if at != own_end:
            raise InvalidLeafError("something follows an extension's value")
        if name in found:
            raise InvalidLeafError("an extension is there twice")
        found[name] = critical, data[start:at]
    return found


def _value(data: bytes, at: int, tag: int, end: int) -> tuple[int, int]:
    """Give where the content of one value begins and ends."""
    if data[at] != tag:
        raise InvalidLeafError(f"byte {at} is {data[at]:#04x}, not {tag:#04x}")
    length = data[at + 1]
    start = at + 2
    if length >= _LONG:
        count = length - _LONG
        start += count
        if not 1 <= count <= _MAX_LENGTH_BYTES or not data[at + 2]:
            raise InvalidLeafError(f"the length at byte {at + 1} is not written as DER has it")
        length = int.from_bytes(data[at + 2 : start])
        if length < _LONG:
            raise InvalidLeafError(f"the length at byte {at + 1} is not written as DER has it")
    if start + length > end:
        raise InvalidLeafError(f"the value at byte {at} ends beyond the one around it")
    return start, start + length


def _only(data: bytes, tag: int) -> tuple[int, int]:
    """Give where the content begins and ends of the one value that all the bytes are."""
    start, end = _value(data, 0, tag, len(data))
    if end != len(data):
        raise InvalidLeafError("something follows it")
    return start, end


def _positive(content: bytes) -> int:
    # A number is written in as few bytes as it takes (section 8.3.2), and with a sign.
    is_short = content[0] or (len(content) > 1 and content[1] & _SIGN_BIT)
    if not is_short or content[0] & _SIGN_BIT:
        raise InvalidLeafError("its serial is not above 0, or not written as DER has it")
    return int.from_bytes(content)


def _time(data: bytes, at: int, end: int) -> tuple[int, int]:
    tag = data[at]
    if tag not in {_UTC_TIME, _GENERALIZED_TIME}:
        raise InvalidLeafError(f"byte {at} is {tag:#04x}, which is no time")
    start, at = _value(data, at, tag, end)
    return _seconds(tag, data[start:at]), at


@functools.lru_cache(maxsize=256)  # All that is issued in a second says the same.
def _seconds(tag: int, content: bytes) -> int:
    """Read a time; section 4.1.2.5 leaves one form: to the second, in UTC."""
    text = content.decode("ascii")
    digits = text[:-1]
    wanted = 12 if tag == _UTC_TIME else 14
    if len(digits) != wanted or not digits.isdigit() or text[-1] != "Z":
        raise InvalidLeafError(f"{text!r} is no time of a certificate")
    if tag == _GENERALIZED_TIME and int(digits[:4]) < _GENERALIZED_YEAR:
        raise InvalidLeafError(f"{text!r} is no time of a certificate: it has a shorter form")
    if tag == _UTC_TIME:
        digits = ("20" if int(digits[:2]) < _UTC_CENTURY else "19") + digits
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    found = datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    return int(found.timestamp())
