"""The port that policy is kept behind: a sequence of immutable revisions.

A revision is a whole policy, never a change to one: what decided last Tuesday can be read, compared
and put back without replaying anything.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from authz.admin_tokens import TokenStore
from authz.audit import AuditEntry
from authz.errors import AuthzError
from authz.policy.rules import PolicyText
from authz.replicas import ReplicaBoard

__all__ = [
    "AuditEntry",
    "ConflictError",
    "Draft",
    "NewerFormatError",
    "NoRevisionError",
    "Revision",
    "RevisionStore",
    "StoreUnavailableError",
]


@dataclass(frozen=True, slots=True)
class Revision:
    """What is known of a revision without reading its policy.

    Attributes:
        stream: Which sequence it belongs to: "policy", or "admin" for who may change what.
        number: From 1, without gaps.
        parent: The number before it; 0 for the first.
        author: Who made it, as a principal or "local:USER".
        created_ns: When, in nanoseconds since the epoch.
        message: Why, in its author's words.
        digest: Digest of the Snapshot that its policy builds.
        origin: From where it was made: a folder, an address.
        rows: How many rows its policy has.
        added: How many of them its parent doesn't have; None where nobody counted.
        removed: How many rows of its parent it doesn't have; likewise.
    """

    stream: str
    number: int
    parent: int
    author: str
    created_ns: int
    message: str
    digest: str
    origin: str
    rows: int
    added: int | None = None
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A validated policy that shall become the next revision.

    Attributes:
        text: The policy.
        bind: Request field of a custom model to attribute.
        digest: Digest of the Snapshot it builds; proof that it was built.
        author: See Revision.
        message: See Revision.
        origin: See Revision.
        added: See Revision.
        removed: See Revision.
    """

    text: PolicyText
    digest: str
    author: str
    message: str
    origin: str
    bind: Mapping[str, str] = field(default_factory=dict)
    added: int | None = None
    removed: int | None = None


class ConflictError(AuthzError):
    """Somebody else made a revision meanwhile; look at it, and make yours upon it."""

    code: ClassVar[str] = "ABORTED"

    def __init__(self, other: Revision) -> None:
        super().__init__(
            f"revision {other.number} was made meanwhile by {other.author}: {other.message!r}; "
            "look at it and apply again"
        )
        self.other = other


class NoRevisionError(AuthzError):
    """There is no such revision."""

    code: ClassVar[str] = "NOT_FOUND"


class StoreUnavailableError(AuthzError):
    """The store can't be reached or written; nothing was changed, and it may be tried again."""

    code: ClassVar[str] = "UNAVAILABLE"


class NewerFormatError(StoreUnavailableError):
    """A newer version of the program wrote this; run that version, or take an older revision."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class RevisionStore(Protocol):
    """Keeps revisions and the audit trail of what made them.

    An implementation promises: a revision and its audit entry appear together or not at all; of two
    that build on the same parent one is refused; what was stored is never changed; every call ends
    within a bound of its own.
    """

    async def head(self, stream: str) -> Revision | None:
        """Give the newest revision, or None before the first.

        Raises:
            StoreUnavailableError: The store can't be read.
        """
        ...

    async def commit(self, stream: str, parent: int, draft: Draft, audit: AuditEntry) -> Revision:
        """Make the revision after `parent`.

        Raises:
            ConflictError: `parent` is no longer the newest.
            NoRevisionError: There is no such parent.
            StoreUnavailableError: The store can't be written.
        """
        ...

    async def read(self, stream: str, number: int) -> tuple[Revision, Draft]:
        """Give a revision with its policy.

        Raises:
            NoRevisionError: There is none of that number.
            NewerFormatError: A newer program wrote it.
            StoreUnavailableError: The store can't be read.
        """
        ...

    async def history(
        self, stream: str, limit: int, before: int = 0, after: int = 0
    ) -> Sequence[Revision]:
        """List revisions, newest first: those above `after`, and below `before` if that is given.

        Raises:
            StoreUnavailableError: The store can't be read.
        """
        ...

    async def record(self, entry: AuditEntry) -> None:
        """Add to the audit trail something that made no revision.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        ...

    async def audit(self, limit: int) -> Sequence[AuditEntry]:
        """List the newest audit entries, newest first.

        Raises:
            StoreUnavailableError: The store can't be read.
        """
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever there may be something new, and after each lost connection; for ever."""
        ...

    @property
    def replicas(self) -> ReplicaBoard:
        """Where those who share this store say how they are."""
        ...

    @property
    def tokens(self) -> TokenStore:
        """The tokens of the admin API."""
        ...

    async def close(self) -> None:
        """Release what the store holds; a second call does nothing."""
        ...
