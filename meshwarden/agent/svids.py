"""What workloads get, as values: an identity that is due, a certificate with its key, a view."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from ca.bundle import Bundle
from ca.selectors import Selector
from ca.spiffe_id import SpiffeId

__all__ = ["UNFIT", "Claim", "Due", "Svid", "WorkloadSvids"]

UNFIT = (
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a certificate may raise beside ValueError."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An identity that some workload is due.

    Attributes:
        entry_id: The entry that gives it.
        spiffe_id: Written out, where the entry has a template.
        dns_names: Likewise.
    """

    entry_id: str
    spiffe_id: SpiffeId
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Svid:
    """An X509-SVID with its key.

    Attributes:
        claim: Whose.
        chain: DER, the leaf first, without the root.
        key: PKCS#8 in DER. Never shown, logged or sent to the server.
        arrived_ns: When it was received.
        not_after_ns: When it expires.
        version: Of the entry that it was signed for.
        hint: Of the entry; unique in a view, so empty for a later one of the same.
    """

    claim: Claim
    chain: tuple[bytes, ...]
    key: bytes = field(repr=False)
    arrived_ns: int
    not_after_ns: int
    version: int = 0
    hint: str = ""

    @property
    def spiffe_id(self) -> str:
        """Its SPIFFE ID as a URI."""
        return str(self.claim.spiffe_id)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class WorkloadSvids:
    """All that a workload gets at one time. Two are the same only if they are one object.

    Attributes:
        svids: In the order of their entries, the default identity first; empty for nobody.
        bundles: The own trust domain's first.
        why: Why there is no identity: what was found on the workload and the nearest entries;
            "" where there is one.
    """

    svids: tuple[Svid, ...]
    bundles: tuple[Bundle, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """An identity that is to be signed now.

    Attributes:
        claim: What.
        version: Of the entry at this time.
        selectors: Found on a workload that is due it; the entry's own where it is made ahead.
    """

    claim: Claim
    version: int
    selectors: tuple[Selector, ...]
