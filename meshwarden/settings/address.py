"""Addresses to listen on, as settings have them."""

import ipaddress
from dataclasses import dataclass
from typing import Self

from typing_extensions import override

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on: an IP address and a port from 1 to 65535."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "127.0.0.1:9191" or "[::1]:9191".

        Raises:
            ValueError: The text is no such pair; the message says what to write.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()):
            raise ValueError(f"{text!r} is no address; write IP:PORT, such as 127.0.0.1:9191")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
        except ValueError:
            hint = "127.0.0.1" if host == "localhost" else "0.0.0.0 for every interface"
            raise ValueError(f"{host!r} is no IP address; write one, such as {hint}") from None
        if bracketed != (ip.version == 6):  # noqa: PLR2004 - the 6 of IPv6
            raise ValueError(
                f"{text!r}: write brackets around IPv6, as in [::1]:9191, and no other"
            )
        # Port 0 would be a new port at each start, and another one for every front.
        if not 1 <= int(port) <= 65535:  # noqa: PLR2004
            raise ValueError(f"port {port} is outside 1..65535")
        return cls(str(ip), int(port))

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface."""
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @override
    def __str__(self) -> str:
        """Give the form that `parse` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
