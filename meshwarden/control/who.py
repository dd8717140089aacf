"""Who makes the call that is being answered: decided once, by the access interceptor."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc.aio

__all__ = ["LOCAL", "Who", "set_who", "who_of"]

LOCAL = "local"
"""The source of a call over the admin socket."""


@dataclass(frozen=True, slots=True)
class Who:
    """A caller whose credential was verified, as revisions and the audit trail name it.

    Attributes:
        name: "local:USER" over the admin socket, a principal such as "td/ns/x/sa/y" by its
            certificate, or "token:NAME"; "" is nobody, which no guarded method ever meets.
        source: "local", or the address that the call came from.
        is_local: Whether it came over the admin socket, whose owner may do everything.
    """

    name: str
    source: str
    is_local: bool


# With the call it is of: a task that outlives its call must not act for another one's caller.
_CALL: ContextVar[tuple[object, Who]] = ContextVar("call")


def set_who(context: grpc.aio.ServicerContext[Any, Any], who: Who) -> None:
    """Say who makes a call, for all that is done in its task; the interceptor's alone to do."""
    _CALL.set((context, who))


def who_of(context: grpc.aio.ServicerContext[Any, Any]) -> Who:
    """Give the caller of this call.

    Raises:
        LookupError: No interceptor stands before the service: a fault of ours, and no default
            would be a safe one.
    """
    call, who = _CALL.get((None, None))
    if call is not context or who is None:
        raise LookupError("nobody was admitted to this call: its server has no access interceptor")
    return who
