"""Tokens of the admin API: secrets that stand for a name, and the port they are kept behind.

A token is 256 random bits. Its SHA-256 is all that is stored: a slow hash protects what people
choose and others can guess; of 2^256 nothing is guessed, and a slow hash would only let strangers
burn our time. Comparison takes the same time for every wrong token.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from authz.audit import AuditEntry
from authz.errors import AuthzError

__all__ = [
    "ID_BYTES",
    "SECRET_BYTES",
    "NewToken",
    "Token",
    "TokenLimitError",
    "TokenStore",
    "digest_of",
    "has_token_form",
    "is_token_name",
    "new_token",
    "token_id",
]

ID_BYTES = 6
SECRET_BYTES = 32
# Recognisable, so that scanners of repositories and logs can find what was leaked.
_TOKEN = re.compile(r"mwt_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; the secret itself only its holder knows.

    Attributes:
        id: 12 hexadecimal digits, part of the token's text.
        name: Whom it stands for: "token:NAME" in the admin policy. Tokens that follow each other
            may share it.
        digest: SHA-256 of its text, 32 bytes.
        created_ns: When it was made, in nanoseconds since the epoch.
        created_by: By whom.
        expires_ns: From when on it is refused.
        revoked_ns: Since when it is revoked; 0 if it isn't.
        used_ns: When it was last seen, to the minute; 0 if never.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    created_ns: int
    created_by: str
    expires_ns: int
    revoked_ns: int = 0
    used_ns: int = 0

    def is_of(self, text: str) -> bool:
        """Whether this is the token with that text, in the same time for every wrong one."""
        return hmac.compare_digest(self.digest, digest_of(text))

    def is_live(self, now_ns: int) -> bool:
        """Whether it is good now."""
        return not self.revoked_ns and now_ns < self.expires_ns


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token's text, which is shown once, and what is kept of it."""

    text: str = field(repr=False)
    id: str
    digest: bytes = field(repr=False)


class TokenLimitError(AuthzError):
    """There are as many live tokens as there may be; revoke some first."""

    code: ClassVar[str] = "RESOURCE_EXHAUSTED"


def new_token(random: bytes) -> NewToken:
    """Make a token.

    Args:
        random: ID_BYTES + SECRET_BYTES from the system's source of secrets.

    Raises:
        ValueError: They are not that many.
    """
    if len(random) != ID_BYTES + SECRET_BYTES:
        raise ValueError(f"a token is made of {ID_BYTES + SECRET_BYTES} bytes")
    name = random[:ID_BYTES].hex()
    secret = base64.urlsafe_b64encode(random[ID_BYTES:]).decode().rstrip("=")
    text = f"mwt_{name}_{secret}"
    return NewToken(text, name, digest_of(text))


def digest_of(text: str) -> bytes:
    """Hash a token as it is stored."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def token_id(text: str) -> str:
    """Give the id within a token's text; "" where this is no token of ours."""
    found = _TOKEN.fullmatch(text)
    return found[1] if found else ""


def has_token_form(text: str) -> bool:
    """Whether this could be a token of ours."""
    return bool(token_id(text))


def is_token_name(name: str) -> bool:
    """Whether this may be a token's name: lower-case letters, digits, dots, dashes, underscores."""
    return _NAME.fullmatch(name) is not None


class TokenStore(Protocol):
    """Keeps tokens beside the revisions.

    An implementation promises: a change and its audit entry appear together or not at all, and a
    token's digest is all that is ever kept of its secret.
    """

    async def add(self, token: Token, audit: AuditEntry, forget_before_ns: int) -> None:
        """Keep a new token, and forget those that ended before some time.

        Raises:
            TokenLimitError: There are too many live ones.
            StoreUnavailableError: The store can't be written.
        """
        ...

    async def all(self) -> Sequence[Token]:
        """Give every token that isn't forgotten, newest first.

        Raises:
            StoreUnavailableError: The store can't be read.
        """
        ...

    async def revoke(self, ids: Sequence[str], audit: AuditEntry) -> None:
        """End tokens now, at the entry's time; those that were revoked before keep theirs.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        ...

    async def used(self, used_ns: Mapping[str, int]) -> None:
        """Note when tokens, by id, were last seen.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        ...
