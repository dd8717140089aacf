"""What an authority lets those below it be, read as the strictest of those who verify reads it.

OpenSSL, BoringSSL and Go differ in places where RFC 5280 leaves room, or knows better. Here what
one of them refuses is refused: at the start, and not at some workload's first handshake.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

__all__ = ["NameLimits", "authority_fault"]

# Critical extensions that all of them know, and that SVIDs can satisfy.
_KNOWN = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)
_PURPOSES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
# Limits on names of these kinds are known to all; an SVID has no name of the last.
_KINDS = (x509.UniformResourceIdentifier, x509.DNSName, x509.IPAddress, x509.RFC822Name)
_WILDCARD = "*."
_Limit = TypeVar("_Limit")


def authority_fault(each: x509.Certificate, above: x509.Certificate) -> str:
    """Say why nobody, or not everybody, would accept what an authority signs; "" for nothing.

    Args:
        each: The authority; its basic constraints, key usage and names are looked at elsewhere.
        above: The one that signed it; itself for a root.
    """
    # A root is believed for being where it is, not for its signature.
    algorithm = each.signature_hash_algorithm
    if each is not above and algorithm is not None and not isinstance(algorithm, _HASHES):
        return f"is signed with {algorithm.name}, too weak a hash"
    for extension in each.extensions:
        if extension.critical and extension.oid not in _KNOWN:
            name = extension.oid.dotted_string
            return f"has a critical extension that not everybody knows ({name})"
        if fault := _fault_of(extension.value, above):
            return fault
    others = NameLimits(each).unknown
    return others and f"limits names of a kind that not everybody knows ({others})"


def _fault_of(value: x509.ExtensionType, above: x509.Certificate) -> str:
    match value:
        # It holds for all below; for OpenSSL "any" is neither of the two.
        case x509.ExtendedKeyUsage() if not _PURPOSES.issubset(value):
            return "is not for TLS servers and clients both, by its extended key usage"
        case x509.PolicyConstraints() if value.require_explicit_policy is not None:
            return "asks for a certificate policy, which no SVID has"
        case x509.AuthorityKeyIdentifier() if not _names(value, above):
            return "names another key or certificate than that of the one above it"
        case _:
            return ""


class NameLimits:
    """An authority's name constraints; RFC 5280 section 4.2.1.10.

    Attributes:
        unknown: The first kind of name that it limits and not everybody knows; "" for none.
    """

    def __init__(self, authority: x509.Certificate) -> None:
        """Read them; one that has none lets everything pass."""
        permitted: Sequence[x509.GeneralName] = ()
        excluded: Sequence[x509.GeneralName] = ()
        try:
            found = authority.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            pass
        else:
            permitted = found.permitted_subtrees or ()
            excluded = found.excluded_subtrees or ()
        self.unknown = next(
            (type(each).__name__ for each in (*permitted, *excluded) if type(each) not in _KINDS),
            "",
        )
        self._hosts = _texts(permitted, x509.UniformResourceIdentifier)
        self._no_hosts = _texts(excluded, x509.UniformResourceIdentifier)
        self._domains = _texts(permitted, x509.DNSName)
        self._no_domains = _texts(excluded, x509.DNSName)
        self._networks = [each.value for each in permitted if isinstance(each, x509.IPAddress)]
        self._no_networks = [each.value for each in excluded if isinstance(each, x509.IPAddress)]

    def allow_host(self, host: str) -> bool:
        """Whether a URI of a host may stand in a certificate below.

        Args:
            host: In lower case.
        """
        # Without a dot before it, it is that host alone; for Go it is all below it too.
        return _is_allowed(
            self._hosts,
            self._no_hosts,
            lambda limit: host.endswith(limit) if limit.startswith(".") else host == limit,
            lambda limit: _is_below(host, limit),
        )

    def allow_name(self, name: str) -> bool:
        """Whether a DNS name or an IP address may stand in a certificate below.

        Args:
            name: As `check_names` gives it.
        """
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return self._allow_domain(name)

        def holds(network: object) -> bool:
            return (
                isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
                and address in network
            )

        return _is_allowed(self._networks, self._no_networks, holds, holds)

    def _allow_domain(self, name: str) -> bool:
        below = name.removeprefix(_WILDCARD)

        def touches(limit: str) -> bool:
            # A wildcard may stand for the very name that is excluded.
            return _is_below(name, limit) or (below != name and limit.endswith(f".{below}"))

        return _is_allowed(
            self._domains, self._no_domains, lambda limit: _is_below(name, limit), touches
        )


def _is_allowed(
    permitted: Iterable[_Limit],
    excluded: Iterable[_Limit],
    is_within: Callable[[_Limit], bool],
    touches: Callable[[_Limit], bool],
) -> bool:
    # A limit on names of one kind is none on those of another.
    limits = [*permitted]
    return not any(map(touches, excluded)) and (not limits or any(map(is_within, limits)))


def _is_below(name: str, limit: str) -> bool:
    """Whether a name is a limit, or below it; with a dot before that, below it alone."""
    if not limit:
        return True
    if limit.startswith("."):
        return name.endswith(limit)
    return name == limit or name.endswith(f".{limit}")


def _texts(
    names: Iterable[x509.GeneralName], kind: type[x509.UniformResourceIdentifier | x509.DNSName]
) -> list[str]:
    return [each.value.lower() for each in names if isinstance(each, kind)]


def _names(identifier: x509.AuthorityKeyIdentifier, above: x509.Certificate) -> bool:
    """Whether an authority key identifier is that of a certificate; section 4.2.1.1."""
    serial, issuers = identifier.authority_cert_serial_number, identifier.authority_cert_issuer
    if serial is not None and serial != above.serial_number:
        return False
    directories = [each.value for each in issuers or () if isinstance(each, x509.DirectoryName)]
    if directories and above.issuer not in directories:
        return False
    own = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return identifier.key_identifier in {None, own}
