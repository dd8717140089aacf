"""By what a source address is counted."""

import ipaddress

__all__ = ["source_key"]


def source_key(address: str) -> str:
    """Name the bucket of an address: of IPv6 its /64, which one host has to itself.

    Source: RFC 6177 section 2: a site gets a /64 at the least.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        # Who listens for both sees callers by IPv4 so: they don't share one /64.
        parsed = parsed.ipv4_mapped or parsed
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
