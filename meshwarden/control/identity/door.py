"""Which agent calls: a certificate of its own, newest or the one before, and nothing taken away."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from typing_extensions import override

from ca.entry_draft import agent_id_fault
from ca.errors import IdentityError, OverloadedError
from ca.pace import Pace
from ca.registry import AgentRecord
from meshwarden.caller import Caller
from meshwarden.control.identity.registry import Registry

__all__ = ["AgentCall", "AgentDoor", "Door", "LostIdentityError", "NoIdentityError"]

_Context = grpc.aio.ServicerContext[Any, Any]
# Looks into the store for agents that this process doesn't know: each is a certificate that a front
# let in, but not yet one of ours.
_LOOKS_PER_S = 20.0
_LOOKS = 100


class NoIdentityError(IdentityError):
    """The call shows no certificate that could be an agent's; attest first."""

    code = "UNAUTHENTICATED"


class LostIdentityError(IdentityError):
    """The certificate is no agent's any more: attest again, unless it says that you are banned."""

    code = "PERMISSION_DENIED"


@dataclass(frozen=True, slots=True)
class AgentCall:
    """An agent's call.

    Attributes:
        agent: As it was when the call began.
        certificate_sha256: What it was made with.
        expires_ns: When that ends: a connection outlives the certificate that opened it.
        source: From where.
    """

    agent: AgentRecord
    certificate_sha256: bytes
    expires_ns: int
    source: str


class Door(Protocol):
    """Tells which agent makes a call."""

    async def admit(self, context: _Context) -> AgentCall:
        """Let one call in.

        Raises:
            NoIdentityError: It shows none.
            LostIdentityError: It is no agent's, or no longer.
            OverloadedError: Whether it is one can't be looked up now.
        """
        ...

    def names(self, context: _Context) -> tuple[str, str]:
        """Give a caller's principal and address for a record, as far as they are known."""
        ...

    def check(self, call: AgentCall) -> None:
        """See whether a call that goes on may still.

        Raises:
            LostIdentityError: Its agent was evicted, banned, attested anew, or has expired.
        """
        ...


class AgentDoor(Door):
    """For calls by mutual TLS."""

    def __init__(
        self,
        registry: Registry,
        trust_domain: str,
        caller_of: Callable[[_Context], Caller],
        now_ns: Callable[[], int],
    ) -> None:
        """Know agents by a registry.

        Args:
            registry: Who is one.
            trust_domain: The own one.
            caller_of: Reads whose certificate a call shows.
            now_ns: The time.
        """
        self._registry = registry
        self._trust_domain = trust_domain
        self._caller_of = caller_of
        self._now_ns = now_ns
        self._looks = Pace(_LOOKS_PER_S, _LOOKS)

    @override
    async def admit(self, context: _Context) -> AgentCall:
        caller = self._caller_of(context)
        if not caller.tls:
            raise NoIdentityError("an agent calls by TLS, with its certificate")
        if not caller.spiffe_id or not caller.certificate_sha256:
            raise NoIdentityError("the call shows no certificate with a SPIFFE ID: attest first")
        if fault := agent_id_fault(caller.spiffe_id, self._trust_domain):
            raise LostIdentityError(fault)
        shown = caller.certificate_sha256
        agent = self._registry.agent(caller.spiffe_id)
        if agent is None or agent.end_ns(shown) is None:
            # It may have attested or renewed at another replica a moment ago.
            agent = await self._looked_up(caller.spiffe_id)
        end_ns = agent.end_ns(shown)
        if end_ns is None and not agent.banned:
            raise LostIdentityError(
                f"this certificate of {agent.spiffe_id} is neither its newest nor the one before: "
                "attest again"
            )
        call = AgentCall(agent, shown, end_ns or 0, caller.source_ip or "unknown")
        self._check(agent, call)
        return call

    @override
    def names(self, context: _Context) -> tuple[str, str]:
        caller = self._caller_of(context)
        return caller.principal, caller.source_ip or "unknown"

    @override
    def check(self, call: AgentCall) -> None:
        agent = self._registry.agent(call.agent.spiffe_id)
        if agent is None:
            raise LostIdentityError(f"{call.agent.spiffe_id} was evicted: attest again")
        self._check(agent, call)
        if agent.attested_ns != call.agent.attested_ns:
            raise LostIdentityError(f"{agent.spiffe_id} was attested anew: call by what that gave")

    def _check(self, agent: AgentRecord, call: AgentCall) -> None:
        if agent.banned:
            raise LostIdentityError(f"{agent.spiffe_id} is banned")
        late_ns = self._now_ns() - call.expires_ns
        if late_ns > 0:
            raise LostIdentityError(
                f"the certificate of {call.agent.spiffe_id} expired {late_ns // 1_000_000_000} s "
                "ago: attest again"
            )

    async def _looked_up(self, spiffe_id: str) -> AgentRecord:
        if self._looks.take("", 1, self._now_ns()):
            # Not lost: whoever is told that attests again, for nothing.
            raise OverloadedError(f"too many unknown agents call, as {spiffe_id} is; try again")
        # All that is new, in its order: of one row alone nobody could say whether a ban that came
        # meanwhile is in it.
        await self._registry.refresh()
        agent = self._registry.agent(spiffe_id)
        if agent is None:
            raise LostIdentityError(f"{spiffe_id} is not known, or was evicted: attest again")
        return agent
