"""Looks at finished certificates, and knows nothing of how they were built.

Two uses: every certificate of ours passes here before it is published, and what others made (a
plugged-in authority) passes here before it is used. So this file reads bytes, compares them with
what was promised, and imports nothing that signs.

Source: X509-SVID standard, sections 2 to 5; RFC 5280 sections 4 and 6.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from ca.constraints import NameLimits, authority_fault
from ca.errors import CertificateError
from ca.keys import PublicKey, hash_for, is_signed_by, key_type, public_der, weakness
from ca.leaf import InvalidLeafError, Leaf, key_identifier, read_leaf, read_names
from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse

__all__ = [
    "Expected",
    "VerifiedChain",
    "parse_certificate",
    "spiffe_id_of",
    "subject_of",
    "times_of",
]

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)

_SECOND_NS = 1_000_000_000
_MAX_CHAIN = 8
# What 64 bits hold, in whole seconds: from 1677 to 2262. Some authorities end in 9999 (RFC 5280
# section 4.1.2.5), which is as good as that.
_LAST_NS = (1 << 63) // _SECOND_NS * _SECOND_NS
_MAX_SERIAL_BITS = 8 * 20 - 1  # RFC 5280 section 4.1.2.2; the first bit is the sign.
# Object identifiers as they stand in a certificate (RFC 5280 section 4.2.1).
_SUBJECT_KEY_IDENTIFIER = b"\x55\x1d\x0e"
_KEY_USAGE = b"\x55\x1d\x0f"
_SUBJECT_ALTERNATIVE_NAME = b"\x55\x1d\x11"
_BASIC_CONSTRAINTS = b"\x55\x1d\x13"
_AUTHORITY_KEY_IDENTIFIER = b"\x55\x1d\x23"
_EXTENDED_KEY_USAGE = b"\x55\x1d\x25"
# Every extension that an SVID may have, and whether it is critical there.
_LEAF_EXTENSIONS = {
    _BASIC_CONSTRAINTS: True,
    _KEY_USAGE: True,
    _EXTENDED_KEY_USAGE: False,
    _SUBJECT_KEY_IDENTIFIER: False,
    _AUTHORITY_KEY_IDENTIFIER: False,
    _SUBJECT_ALTERNATIVE_NAME: True,
}
# What those say that say the same in all: DER has one way to write each.
_NO_SUBJECT = _NO_AUTHORITY = b"\x30\x00"
_SIGNS = b"\x03\x02\x07\x80"
_SIGNS_AND_ENCIPHERS = b"\x03\x02\x05\xa0"
_SERVER, _CLIENT = (b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03" + bytes([last]) for last in (1, 2))
_SERVER_AND_CLIENT = (b"\x30\x14" + _SERVER + _CLIENT, b"\x30\x14" + _CLIENT + _SERVER)
# By the key that signs (RFC 5758 section 3.2, RFC 4055 section 5, RFC 8410 section 3).
_ALGORITHMS = {
    "ec-p256": bytes.fromhex("300a06082a8648ce3d040302"),
    "ec-p384": bytes.fromhex("300a06082a8648ce3d040303"),
    "ed25519": bytes.fromhex("300506032b6570"),
}
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d01010b0500")


@dataclass(frozen=True, slots=True)
class Expected:
    """What was promised to be in an X509-SVID.

    Attributes:
        spiffe_id: Whose it is.
        public_key: Whose private key its owner has.
        names: DNS names and IP addresses, in any order.
        serial: What the ledger says.
        begin_ns: When it begins, nanoseconds since the epoch, in whole seconds.
        end_ns: When it ends, likewise.
    """

    spiffe_id: SpiffeId
    public_key: PublicKey
    names: Sequence[str]
    serial: int
    begin_ns: int
    end_ns: int


class VerifiedChain:
    """Authorities, each signed by the next, up to a root that is trusted.

    Attributes:
        certificates: DER, the one that signs SVIDs first, the root last.
        not_before_ns: When all of them have begun, nanoseconds since the epoch.
        not_after_ns: When the first of them ends.
    """

    def __init__(self, certificates: Sequence[bytes], trust_domain: str) -> None:
        """Verify a chain, whatever the time is.

        Args:
            certificates: DER, each signed by the next; the last is self-signed.
            trust_domain: For which they shall be good.

        Raises:
            CertificateError: It is no such chain; the message says which certificate and why.
        """
        if not 1 <= len(certificates) <= _MAX_CHAIN:
            raise CertificateError(
                f"a chain has 1 to {_MAX_CHAIN} certificates, not {len(certificates)}"
            )
        self.certificates = tuple(certificates)
        self.trust_domain = trust_domain
        parsed = [parse_certificate(der, _place(index)) for index, der in enumerate(certificates)]
        for index, each in enumerate(parsed):
            above = parsed[min(index + 1, len(parsed) - 1)]
            self._check_authority(each, below=index, where=_place(index))
            _check_signature(each, above, _place(index))
        for index, each in enumerate(parsed):
            if fault := authority_fault(each, parsed[min(index + 1, len(parsed) - 1)]):
                raise CertificateError(f"{_place(index)} {fault}")
        self._limits = [
            (index, NameLimits(each))
            for index, each in enumerate(parsed)
            if _has(each, x509.NameConstraints)
        ]
        self._check_limits(parsed)
        self.not_before_ns = max(_begin_ns(each) for each in parsed)
        self.not_after_ns = min(_end_ns(each) for each in parsed)
        self._keys = [each.public_key() for each in parsed]
        # What each certificate says that this one signs.
        self._name = parsed[0].subject.public_bytes()
        identifier = _extension(parsed[0], x509.SubjectKeyIdentifier, _place(0)).digest
        self._identifier = x509.AuthorityKeyIdentifier(identifier, None, None).public_bytes()
        self._algorithm = _ALGORITHMS.get(key_type(self.public_key(0)), _RSA_ALGORITHM)
        self._hash = hash_for(self.public_key(0))

    def _check_authority(self, each: x509.Certificate, below: int, where: str) -> None:
        basic = _extension(each, x509.BasicConstraints, where)
        if not basic.ca:
            raise CertificateError(f"{where} is no authority (CA:FALSE)")
        if basic.path_length is not None and basic.path_length < below:
            raise CertificateError(
                f"{where} allows {basic.path_length} authorities below it; there are {below}"
            )
        if not each.subject.rdns:
            # RFC 5280 section 4.1.2.4: what it signs would have no issuer.
            raise CertificateError(f"{where} has no subject")
        if not _extension(each, x509.KeyUsage, where).key_cert_sign:
            raise CertificateError(f"{where} may not sign certificates (no keyCertSign)")
        if reason := weakness(each.public_key()):
            raise CertificateError(f"{where}: {reason}")
        _extension(each, x509.SubjectKeyIdentifier, where)
        # Section 3.2: without a path, and in the trust domain of what it signs.
        uris = _uris(each)
        if uris and uris != [f"spiffe://{self.trust_domain}"]:
            raise CertificateError(
                f"{where} is {', '.join(uris)}, not spiffe://{self.trust_domain}"
            )

    def _check_limits(self, parsed: Sequence[x509.Certificate]) -> None:
        for index, limits in self._limits:
            if not limits.allow_host(self.trust_domain):
                raise CertificateError(
                    f"{_place(index)} may not sign for spiffe://{self.trust_domain}, "
                    "by its name constraints"
                )
        # They hold for authorities below as well; what names those have is theirs to choose.
        for index, each in enumerate(parsed):
            above = [limits for place, limits in self._limits if place > index]
            for name in _other_names(each):
                if not all(limits.allow_name(name) for limits in above):
                    raise CertificateError(
                        f"{_place(index)} has the name {name!r}, which one above it does not allow"
                    )

    def name_fault(self, names: Sequence[str]) -> str:
        """Say why these may not stand in an X509-SVID; "" for nothing.

        Args:
            names: DNS names and IP addresses, checked.
        """
        for index, limits in self._limits:
            for name in names:
                if not limits.allow_name(name):
                    return f"{_place(index)} may not sign for {name!r}, by its name constraints"
        return ""

    def public_key(self, index: int) -> PublicKey:
        """Give the key of one of the certificates, counted from 0."""
        key = self._keys[index]
        assert isinstance(key, PublicKey)  # noqa: S101 - no other is without weakness
        return key

    def check(self, leaf: bytes, expected: Expected, now_ns: int) -> None:
        """Check a finished X509-SVID against what was promised.

        Raises:
            CertificateError: It differs, or nobody would accept it.
        """
        where = "the certificate"
        try:
            found = read_leaf(leaf)
        except InvalidLeafError as error:
            raise CertificateError(f"{where} can't be read: {error}") from error
        seen = found.extensions
        if {oid: critical for oid, (critical, _) in seen.items()} != _LEAF_EXTENSIONS:
            raise CertificateError(f"{where} has other extensions than an SVID has")
        if found.subject != _NO_SUBJECT:
            raise CertificateError(f"{where} has a subject")
        if seen[_BASIC_CONSTRAINTS][1] != _NO_AUTHORITY:
            raise CertificateError(f"{where} is an authority")
        _check_leaf_usage(seen, expected.public_key, where)
        _check_leaf_names(seen[_SUBJECT_ALTERNATIVE_NAME][1], expected, where)
        if fault := self.name_fault(expected.names):
            raise CertificateError(f"{where} would not hold: {fault}")
        _check_leaf_key(found, expected.public_key, where)
        if found.serial != expected.serial or found.serial.bit_length() > _MAX_SERIAL_BITS:
            raise CertificateError(f"{where} has another serial than the ledger")
        self._check_times(found, expected, now_ns, where)
        if seen[_AUTHORITY_KEY_IDENTIFIER][1] != self._identifier:
            raise CertificateError(f"{where} names another authority's key")
        # As _check_signature() does, by a key that was decoded once.
        if (found.issuer, found.algorithm) != (self._name, self._algorithm) or not is_signed_by(
            self.public_key(0), found.signature, found.tbs, self._hash
        ):
            raise CertificateError(f"{where} is not signed by the one above it")

    def _check_times(self, found: Leaf, expected: Expected, now_ns: int, where: str) -> None:
        begin_ns, end_ns = found.begin_s * _SECOND_NS, found.end_s * _SECOND_NS
        if not begin_ns <= now_ns < end_ns:
            raise CertificateError(f"{where} does not hold now")
        if begin_ns < self.not_before_ns or end_ns > self.not_after_ns:
            raise CertificateError(f"{where} holds for longer than those above it")
        if (begin_ns, end_ns) != (expected.begin_ns, expected.end_ns):
            raise CertificateError(f"{where} begins or ends at another time than the ledger says")


def times_of(certificate: bytes) -> tuple[int, int, int]:
    """Read a certificate's serial, begin and end, the latter in nanoseconds since the epoch.

    Raises:
        CertificateError: It can't be read.
    """
    found = parse_certificate(certificate, "the certificate")
    begin_ns, end_ns = max(_begin_ns(found), -_LAST_NS), min(_end_ns(found), _LAST_NS)
    return found.serial_number, begin_ns, end_ns


def subject_of(certificate: bytes) -> str:
    """Write a certificate's subject for people (RFC 4514).

    Raises:
        CertificateError: It can't be read.
    """
    return parse_certificate(certificate, "the certificate").subject.rfc4514_string()


def spiffe_id_of(certificate: bytes) -> SpiffeId:
    """Read whose X509-SVID this is; trusts nothing and verifies no signature.

    Raises:
        CertificateError: It is no X509-SVID of a workload.
    """
    where = "the certificate"
    uris = _uris(parse_certificate(certificate, where))
    if len(uris) != 1:
        raise CertificateError(f"{where} has {len(uris)} URIs; an SVID has one")
    try:
        found = parse(uris[0])
    except InvalidSpiffeIdError as error:
        raise CertificateError(f"{where}: {uris[0]!r} is no SPIFFE ID: {error}") from error
    if not found.path:
        raise CertificateError(f"{where} is of a trust domain, not of a workload")
    return found


def _check_leaf_usage(seen: dict[bytes, tuple[bool, bytes]], key: PublicKey, where: str) -> None:
    usage = seen[_KEY_USAGE][1]
    if usage not in {_SIGNS, _SIGNS_AND_ENCIPHERS}:
        raise CertificateError(f"{where} has another key usage than an SVID has")
    if (usage == _SIGNS_AND_ENCIPHERS) != isinstance(key, rsa.RSAPublicKey):
        raise CertificateError(f"{where} has keyEncipherment, or lacks it, against its key")
    if seen[_EXTENDED_KEY_USAGE][1] not in _SERVER_AND_CLIENT:
        raise CertificateError(f"{where} is not for TLS servers and clients, both and alone")


def _check_leaf_key(found: Leaf, key: PublicKey, where: str) -> None:
    if found.public_key != public_der(key):
        raise CertificateError(f"{where} is for another key")
    if found.extensions[_SUBJECT_KEY_IDENTIFIER][1] != key_identifier(found.public_key):
        raise CertificateError(f"{where} has another name of its key than that is known by")


def _check_leaf_names(value: bytes, expected: Expected, where: str) -> None:
    try:
        found = read_names(value)
    except InvalidLeafError as error:
        raise CertificateError(f"{where}: {error}") from error
    if found.uris != [str(expected.spiffe_id)]:
        raise CertificateError(f"{where} is for {found.uris}, not for {expected.spiffe_id}")
    if sorted(found.others) != sorted(expected.names):
        raise CertificateError(f"{where} has other DNS names or addresses than ordered")


def _check_signature(each: x509.Certificate, above: x509.Certificate, where: str) -> None:
    try:
        # Names agree, and the signature is by that key.
        each.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        # The library has words for another name, and for a hash that it doesn't take, as SHA-1.
        why = " ".join(str(error).split())
        told = f"{where} is not signed by the one above it{why and f': {why}'}"
        raise CertificateError(told) from error


def parse_certificate(der: bytes, where: str) -> x509.Certificate:
    """Read a certificate of anybody's, and all of it: what the library leaves for later, too.

    Args:
        der: What was sent.
        where: What to call it in words.

    Raises:
        CertificateError: It can't be read.
    """
    try:
        found = x509.load_der_x509_certificate(der)
        # Read lazily by the library: what can't be read should be found here.
        _ = found.extensions, found.public_key(), found.subject
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateError(f"{where} can't be read: {' '.join(str(error).split())}") from error
    return found


def _extension(each: x509.Certificate, kind: type[_Kind], where: str) -> _Kind:
    try:
        return each.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound as error:
        raise CertificateError(f"{where} lacks the extension {kind.__name__}") from error


def _uris(each: x509.Certificate) -> list[str]:
    try:
        names = each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _has(each: x509.Certificate, kind: type[x509.ExtensionType]) -> bool:
    return any(isinstance(extension.value, kind) for extension in each.extensions)


def _other_names(each: x509.Certificate) -> list[str]:
    """Give the DNS names and addresses that an authority has of its own."""
    try:
        names = each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*map(str.lower, names.get_values_for_type(x509.DNSName)), *addresses]


def _place(index: int) -> str:
    return f"certificate {index + 1} of the chain"


def _begin_ns(each: x509.Certificate) -> int:
    return int(each.not_valid_before_utc.timestamp()) * _SECOND_NS


def _end_ns(each: x509.Certificate) -> int:
    return int(each.not_valid_after_utc.timestamp()) * _SECOND_NS
