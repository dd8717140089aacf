"""By what source addresses are counted: a host, whichever way its address is written."""

import pytest

from meshwarden.control.identity.source import source_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.2", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", ""),
        ("10.0.0.1\n", ""),
    ],
)
def test_a_host_is_one_bucket(address: str, key: str) -> None:
    """IPv4 by its address, IPv6 by its /64; whoever has none shares one with his like."""
    assert source_key(address) == key
