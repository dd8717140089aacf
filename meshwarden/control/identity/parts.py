"""What the services for agents are put together from."""

from collections.abc import Callable
from dataclasses import dataclass

from meshwarden.control.identity.issuer import Issuer
from meshwarden.control.identity.registry import Registry
from meshwarden.control.identity.streams import Streams
from meshwarden.control.refusals import Refusals

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """One of each, for all services of a process.

    Attributes:
        issuer: Signs.
        registry: Whose entry is whose.
        streams: Those that are open.
        refusals: Where each refusal goes.
        now_ns: The time.
        agent_ttl_s: How long an agent's own certificate lives; 0 is the default of all.
    """

    issuer: Issuer
    registry: Registry
    streams: Streams
    refusals: Refusals
    now_ns: Callable[[], int]
    agent_ttl_s: int = 0
