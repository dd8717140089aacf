"""ipMatch: an address in a network.

Source: casbin.org/docs/function; RFC 4632 for the notation.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from authz.policy.errors import ExpressionError
from authz.policy.functions.spec import Function, Pattern, Tools

__all__ = ["address", "functions", "network"]

# An IPv6 address may have a zone of any length: what a caller sends is remembered up to here.
_MAX_LENGTH = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def functions(_tools: Tools) -> Iterable[Function]:
    """Make the family."""
    return (Function("ipMatch", _call, prepare=_prepare),)


def address(text: str) -> Address:
    """Parse an address; the few callers of a service ask again and again."""
    if type(text) is str and len(text) > _MAX_LENGTH:
        return ipaddress.ip_address(text)
    return _lately(text)


_lately = lru_cache(maxsize=4096)(ipaddress.ip_address)


def network(text: str) -> Network:
    """Parse an address or CIDR network; host bits may be set.

    Raises:
        ExpressionError: It is neither.
    """
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ExpressionError(f"{text[:60]!r} is no address or network") from error


def _prepare(text: str) -> Pattern:
    inside = network(text)
    return Pattern(lambda value: address(value) in inside, network=inside)


def _call(value: Any, text: Any) -> bool:
    return address(value) in network(text)
