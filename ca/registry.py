"""The port that entries, agents and join tokens are kept behind."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ca.entries import Entry
from ca.errors import IdentityError
from ca.selectors import Selector

__all__ = [
    "AgentRecord",
    "Audit",
    "BannedAgentError",
    "Changes",
    "DuplicateEntryError",
    "JoinToken",
    "NoSuchAgentError",
    "NoSuchEntryError",
    "NoSuchTokenError",
    "NotBannedError",
    "RegistryStore",
    "TokenRefusal",
]


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent that was attested, and which of its certificates are good.

    Attributes:
        spiffe_id: Its identity.
        attestor: Who believed it.
        selectors: What is known of its node.
        attested_ns: When, in nanoseconds since the epoch; re-attestation counts.
        svid_expires_ns: When its newest certificate ends.
        serial: Of that, in hex.
        certificate_sha256: Digest of that in DER.
        previous_sha256: Of the one it renewed by, which is good until the agent has the new one;
            empty after an attestation.
        previous_expires_ns: When that ends.
        banned: It may not come back.
        can_reattest: See NodeIdentity.
    """

    spiffe_id: str
    attestor: str
    selectors: frozenset[Selector]
    attested_ns: int
    svid_expires_ns: int
    serial: str
    certificate_sha256: bytes
    previous_sha256: bytes = b""
    previous_expires_ns: int = 0
    banned: bool = False
    can_reattest: bool = False

    def end_ns(self, certificate_sha256: bytes) -> int | None:
        """When a certificate of its ends, by the digest; None for one that is not good."""
        ends = {
            self.previous_sha256: self.previous_expires_ns,
            self.certificate_sha256: self.svid_expires_ns,
        }
        # One that was let back in has none.
        return ends.get(certificate_sha256) if certificate_sha256 else None


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token, without what makes it one: only the digest of its secret is kept.

    Attributes:
        id: Names it, and attests nothing.
        secret_sha256: Digest of the secret.
        agent_id: The agent that it makes.
        selectors: That the operator gave the node.
        created_ns: When, in nanoseconds since the epoch.
        expires_ns: Until when it may be used.
        used_ns: When it was; 0 for not yet.
        used_by: Digest of the key that it was used for; empty for not yet.
    """

    id: str
    secret_sha256: bytes = field(repr=False)
    agent_id: str
    selectors: frozenset[Selector]
    created_ns: int
    expires_ns: int
    used_ns: int = 0
    used_by: bytes = b""


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """Why a join token was not taken."""

    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What the audit trail says of a change, or of an attempt at one.

    Attributes:
        time_ns: When, in nanoseconds since the epoch.
        who: The caller.
        source: From where: "local", or an address.
        action: What, such as "entry.put".
        outcome: "done" or "refused".
        detail: One line more; never a token.
    """

    time_ns: int
    who: str
    source: str
    action: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new in the registry since a version of it.

    Attributes:
        version: Of the registry now; 0 is empty.
        whole: It is all there is, and what is not in it is gone.
        entries: Added or changed.
        removed_entries: Their ids.
        agents: Added or changed.
        removed_agents: Their SPIFFE IDs.
    """

    version: int
    whole: bool = False
    entries: Sequence[Entry] = ()
    removed_entries: Sequence[str] = ()
    agents: Sequence[AgentRecord] = ()
    removed_agents: Sequence[str] = ()


class DuplicateEntryError(IdentityError):
    """An entry with the same parent, SPIFFE ID and selectors is there; change that one."""

    code = "ALREADY_EXISTS"


class NoSuchEntryError(IdentityError):
    """There is no entry of that id."""

    code = "NOT_FOUND"


class NoSuchAgentError(IdentityError):
    """There is no agent of that SPIFFE ID."""

    code = "NOT_FOUND"


class BannedAgentError(IdentityError):
    """The agent is banned, and forgetting it would let it back in; say so, if that is meant."""

    code = "FAILED_PRECONDITION"


class NotBannedError(IdentityError):
    """The agent is not banned, so that it can't be let back in; there is nothing to do."""

    code = "FAILED_PRECONDITION"


class NoSuchTokenError(IdentityError):
    """There is no join token of that id."""

    code = "NOT_FOUND"


class RegistryStore(Protocol):
    """Keeps entries, agents and join tokens, with the audit trail of what changed them.

    An implementation promises: a call changes all it names and adds its audit line, or nothing;
    each change has a version of its own, in the order in which changes appear; of two uses of one
    token at once one is refused; every call ends within a bound of its own and raises
    IdentityStoreError where the database can't be reached.
    """

    async def changes(self, since: int) -> Changes:
        """Give what changed since a version; 0 gives all there is."""
        ...

    async def write_entries(
        self, puts: Sequence[Entry], removals: Sequence[str], audit: Audit, *, dry_run: bool = False
    ) -> Sequence[Entry]:
        """Add, change and remove entries.

        Args:
            puts: Each with its id; one that isn't there is added, unless it has a time when it was.
            removals: Ids.
            audit: What the trail says of it.
            dry_run: Change nothing, and tell what would come of it.

        Returns:
            The puts, as they are now kept.

        Raises:
            DuplicateEntryError: One would be the same as another one that stays.
            NoSuchEntryError: One to be removed isn't there, or one that was there is no longer.
        """
        ...

    async def agent(self, spiffe_id: str) -> AgentRecord | None:
        """Give an agent as it is now."""
        ...

    async def put_agent(
        self,
        agent: AgentRecord,
        audit: Audit | None,
        *,
        by_certificate: bytes = b"",
        twin_id: str = "",
    ) -> int:
        """Keep an agent; without an audit line where it only renewed.

        Args:
            agent: As it is from now on.
            audit: What the trail says of it.
            by_certificate: See NodeIdentity.
            twin_id: SPIFFE ID of the one that must not be there beside it; see NodeIdentity.

        Returns:
            The version of this change.

        Raises:
            AttestationError: It was banned meanwhile, or the certificate that it came back by is
                good no more, or its twin is there; nothing was changed.
            NoSuchAgentError: It renewed, and was evicted or attested anew meanwhile.
        """
        ...

    async def remove_agent(self, spiffe_id: str, audit: Audit) -> None:
        """Forget an agent, and what its used join token is still good for.

        Raises:
            BannedAgentError: It is banned, and the ban would go too; nothing was changed.
            NoSuchAgentError: It isn't there.
        """
        ...

    async def forget_agents(self, expired_before_ns: int, audit: Audit) -> Sequence[str]:
        """Forget agents whose certificate has expired, but never banned ones: a ban would go too.

        Join tokens stay what they are. At most a thousand at once; call again until it gives none.

        Args:
            expired_before_ns: Nanoseconds since the epoch.
            audit: What the trail says of it, if any is forgotten; how many and which is added.

        Returns:
            Their SPIFFE IDs.
        """
        ...

    async def ban_agent(self, spiffe_id: str, *, banned: bool, audit: Audit) -> None:
        """Ban an agent, or let a banned one attest again.

        Raises:
            NoSuchAgentError: It isn't there.
            NotBannedError: It should be let back in, and was not out; nothing was changed.
        """
        ...

    async def add_token(self, token: JoinToken, audit: Audit) -> None:
        """Keep a new join token."""
        ...

    async def take_token(
        self, secret_sha256: bytes, key_sha256: bytes, now_ns: int
    ) -> JoinToken | TokenRefusal:
        """Use a join token up for a key.

        The same key may use it again until it expires: its first answer may have been lost.
        """
        ...

    async def tokens(self) -> Sequence[JoinToken]:
        """List join tokens, newest first; those long expired are gone."""
        ...

    async def remove_token(self, token_id: str, audit: Audit) -> None:
        """Make a join token useless.

        Raises:
            NoSuchTokenError: It isn't there.
        """
        ...

    async def record(self, audit: Audit) -> None:
        """Add to the audit trail something that changed nothing."""
        ...

    def watch(self) -> AsyncGenerator[None]:
        """Yield at once, and whenever there may be something new, within 5 s; for ever."""
        ...

    async def close(self) -> None:
        """Release what the store holds."""
        ...
