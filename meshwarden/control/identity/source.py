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
    if parsed.version == 4:  # noqa: PLR2004 - the 4 of IPv4
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
