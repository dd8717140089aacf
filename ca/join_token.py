"""The text of a join token: a secret, and by which authorities its receiver knows the server."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["SECRET_BYTES", "InvalidTokenError", "TokenText", "authorities_sha256", "parse_token"]

SECRET_BYTES = 32
"""So many that nobody guesses one: a digest without salt keeps it."""

_PREFIX = "mwj1"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class InvalidTokenError(ValueError):
    """The text is no join token; the message says why, and has nothing of it."""


@dataclass(frozen=True, slots=True)
class TokenText:
    """A join token as its receiver reads it.

    Attributes:
        secret: What proves it.
        authorities: Hex SHA-256 of the trust domain's X.509 authorities; "" where it says
            nothing of them.
    """

    secret: bytes = field(repr=False)
    authorities: str = ""

    @property
    def sha256(self) -> bytes:
        """What a server keeps of it."""
        return hashlib.sha256(self.secret).digest()

    def reveal(self) -> str:
        """Write the whole token, secret and all."""
        secret = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()
        return ".".join(part for part in (_PREFIX, secret, self.authorities) if part)


def parse_token(text: str) -> TokenText:
    """Read a token's text.

    Raises:
        InvalidTokenError: It is none.
    """
    prefix, _, rest = text.partition(".")
    secret, dot, authorities = rest.partition(".")
    if prefix != _PREFIX or not _SECRET.fullmatch(secret):
        raise InvalidTokenError(f"this is no join token; one begins with {_PREFIX!r} and a dot")
    if dot and not _DIGEST.fullmatch(authorities):
        raise InvalidTokenError("the join token's last part is no SHA-256 in hex: was it cut off?")
    try:
        return TokenText(base64.urlsafe_b64decode(secret + "="), authorities)
    except binascii.Error as error:
        raise InvalidTokenError("the join token's secret is no base64") from error


def authorities_sha256(authorities: Iterable[bytes]) -> str:
    """Digest X.509 authorities, given in DER, however they are ordered."""
    return hashlib.sha256(b"".join(sorted(authorities))).hexdigest()
