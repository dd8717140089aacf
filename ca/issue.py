"""What is ordered of an authority, and what comes of it."""

from dataclasses import dataclass, field

from ca.spiffe_id import SpiffeId

__all__ = ["JwtOrder", "JwtSvid", "X509Order", "X509Svid"]


@dataclass(frozen=True, slots=True)
class X509Order:
    """A certificate that an authenticated caller wants.

    Attributes:
        csr: PKCS#10 in DER, from the caller; nothing of it is believed but its key.
        spiffe_id: What the caller may have, by an entry or by its own identity.
        requester: Who asks, for the ledger: a SPIFFE ID, "token:NAME" or "local:USER".
        selectors: What it was known by, for the ledger.
        ttl_s: Seconds; 0 for the default.
        dns_names: DNS names and IP addresses that it may have and gets.
    """

    csr: bytes
    spiffe_id: SpiffeId
    requester: str
    selectors: tuple[str, ...] = ()
    ttl_s: int = 0
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class X509Svid:
    """A certificate that was issued.

    Attributes:
        spiffe_id: Whose.
        chain: DER, the leaf first, without the root.
        not_before_ns: Nanoseconds since the epoch.
        not_after_ns: Likewise.
        serial: In hex, as on the ledger.
    """

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    not_before_ns: int
    not_after_ns: int
    serial: str


@dataclass(frozen=True, slots=True)
class JwtOrder:
    """A token that an authenticated caller wants.

    Attributes:
        spiffe_id: What the caller may have.
        audiences: For whom; at least one.
        requester: Who asks, for the ledger.
        selectors: What it was known by, for the ledger.
        ttl_s: Seconds; 0 for the default.
    """

    spiffe_id: SpiffeId
    audiences: tuple[str, ...]
    requester: str
    selectors: tuple[str, ...] = ()
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A token that was issued.

    Attributes:
        spiffe_id: Whose.
        token: The secret itself.
        issued_ns: Nanoseconds since the epoch.
        expires_ns: Likewise.
    """

    spiffe_id: SpiffeId
    token: str = field(repr=False)
    issued_ns: int
    expires_ns: int
