"""The port of node attestation: which node is this?

An attestor is one file in adapters/node_attestors. It gets what an agent says of itself and gives a
name that no other node gets, with what is known of the node; or it refuses, and says why.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from ca.errors import IdentityError
from ca.selectors import Selector

__all__ = [
    "EMBEDDED_PATH",
    "Attempt",
    "AttestationError",
    "Challenge",
    "NodeAttestor",
    "NodeIdentity",
]

EMBEDDED_PATH = "embedded/local"
"""Of the agent that needs no evidence, the service's own: see NodeIdentity.agent_path."""

Challenge = Callable[[bytes], Awaitable[bytes]]
"""Sends the agent a challenge and gives its answer; it raises where the agent goes away."""


class AttestationError(IdentityError):
    """The node was not believed; the message says why, for the agent's log and the audit trail.

    Its code is INVALID_ARGUMENT where the evidence can't be read, PERMISSION_DENIED where it does
    not hold, and UNAVAILABLE where whoever could tell does not answer: then it may be tried again.
    """

    def __init__(self, message: str, code: str = "PERMISSION_DENIED") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an agent shows, and how to ask it back.

    Attributes:
        payload: The evidence.
        key_sha256: Digest of the public key (SubjectPublicKeyInfo) that the agent wants certified;
            it has proved that it holds the private one.
        now_ns: The time.
        challenge: Asks the agent.
    """

    payload: bytes = field(repr=False)
    key_sha256: bytes
    now_ns: int
    challenge: Challenge = field(repr=False)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node that was believed.

    Attributes:
        agent_path: The agent's SPIFFE ID below /meshwarden/agent/, "ATTESTOR/ID", its alone.
        selectors: What is known of the node.
        can_reattest: Whether the same evidence will do again, once the certificate has expired.
        by_certificate: Digest of the agent's own certificate, for one that comes back by it: that
            has to be good still when the registry takes the agent. Empty for other evidence.
        twin_path: Path of the agent that the same evidence would make, written in another way; the
            registry has at most one of both. Empty where there is one way to write it.
    """

    agent_path: str
    selectors: frozenset[Selector]
    can_reattest: bool
    by_certificate: bytes = b""
    twin_path: str = ""


class NodeAttestor(Protocol):
    """Tells nodes apart.

    An implementation promises: two nodes never get one agent path; what it raises is
    AttestationError and nothing else; neither evidence nor answer is in a message or a log; it ends
    within a bound of its own.
    """

    async def attest(self, attempt: Attempt) -> NodeIdentity:
        """Say which node it is.

        Raises:
            AttestationError: It is not believed.
        """
        ...
