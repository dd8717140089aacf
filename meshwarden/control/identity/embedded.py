"""The agent of the service's own machine, over the socket where being local is authority.

It needs no evidence: whoever can open the socket is the service's own user, who could make any
entry, or root.
"""

from typing import Any

import grpc.aio
from typing_extensions import override

from ca.attestation import EMBEDDED_PATH, Attempt, NodeAttestor, NodeIdentity
from ca.entry_draft import agent_spiffe_id
from meshwarden.caller import Caller
from meshwarden.control.identity.door import AgentCall, Door, LostIdentityError
from meshwarden.control.identity.registry import Registry
from meshwarden.control.who import LOCAL

__all__ = ["EmbeddedAttestor", "EmbeddedDoor", "local_caller"]

# It shows no certificate: what it may goes by whose socket it is.
_NEVER_NS = 2**63 - 1
_Context = grpc.aio.ServicerContext[Any, Any]


def local_caller(context: _Context) -> Caller:
    """Say that a call is local; the socket is as private as TLS."""
    del context
    return Caller("", LOCAL, tls=True)


class EmbeddedAttestor(NodeAttestor):
    """Believes whoever it is asked about: on the owner's socket, and nowhere else."""

    @override
    async def attest(self, attempt: Attempt) -> NodeIdentity:
        return NodeIdentity(EMBEDDED_PATH, frozenset(), can_reattest=True)


class EmbeddedDoor(Door):
    """Knows one agent."""

    def __init__(self, registry: Registry, trust_domain: str) -> None:
        self._registry = registry
        self._agent_id = agent_spiffe_id(trust_domain, EMBEDDED_PATH)

    @override
    async def admit(self, context: _Context) -> AgentCall:
        agent = self._registry.agent(self._agent_id)
        if agent is None:
            raise LostIdentityError(f"{self._agent_id} has not attested, or was evicted")
        call = AgentCall(agent, agent.certificate_sha256, _NEVER_NS, LOCAL)
        self.check(call)
        return call

    @override
    def names(self, context: _Context) -> tuple[str, str]:
        return self._agent_id.removeprefix("spiffe://"), LOCAL

    @override
    def check(self, call: AgentCall) -> None:
        agent = self._registry.agent(self._agent_id)
        if agent is None:
            raise LostIdentityError(f"{self._agent_id} was evicted: attest again")
        if agent.banned:
            raise LostIdentityError(f"{self._agent_id} is banned")
        if agent.attested_ns != call.agent.attested_ns:
            raise LostIdentityError(f"{self._agent_id} was attested anew")
