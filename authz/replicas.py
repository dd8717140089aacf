"""The port through which replicas that share a store tell each other how they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["STALE_S", "Replica", "ReplicaBoard", "ShadowCounts"]

STALE_S = 20.0
"""A replica beats every 5 s; one that has said nothing for so long is not well, or gone."""


@dataclass(frozen=True, slots=True)
class ShadowCounts:
    """What a replica has seen of the candidate beside the policy in force.

    Attributes:
        digest: The candidate's; "" where there is none.
        same: Checks on which it said what the policy in force said.
        would_allow: Denials that it would have allowed.
        would_deny: Requests let through that it would have denied.
    """

    digest: str = ""
    same: int = 0
    would_allow: int = 0
    would_deny: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """One instance of the service, as it was when it last said so.

    Attributes:
        id: Its own for as long as it keeps its state.
        host: Name of the machine.
        address: Where it listens.
        version: Of the program.
        revision: The revision that decides there; 0 where policy has no revisions.
        digest: Digest of that policy; "" before the first.
        loaded_ns: When it was put in force, in nanoseconds since the epoch.
        error: Why a newer one isn't, or what else is wrong; "" for nothing.
        started_ns: When it started.
        seen_s_ago: How long ago it said all this, in seconds, by the store's clock.
        shadow: See ShadowCounts.
    """

    id: str
    host: str
    address: str
    version: str
    revision: int
    digest: str
    loaded_ns: int
    error: str
    started_ns: int
    seen_s_ago: float = 0.0
    shadow: ShadowCounts = field(default_factory=ShadowCounts)


class ReplicaBoard(Protocol):
    """Where every replica writes how it is, and reads how the others are."""

    async def beat(self, replica: Replica, forget_after_s: float) -> Sequence[Replica]:
        """Write how this one is, forget those unseen for long, and give all, by host and address.

        Raises:
            StoreUnavailableError: The store can't be read or written.
        """
        ...

    async def leave(self, replica_id: str) -> None:
        """Take this one off: it was stopped, and nobody need look for it.

        Raises:
            StoreUnavailableError: The store can't be written.
        """
        ...
