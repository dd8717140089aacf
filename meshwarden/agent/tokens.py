"""JWT-SVIDs of this node's workloads: signed by the server, kept for as long as they are fresh."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ca.renewal import renewal_ns
from ca.selectors import Selector
from meshwarden.agent.identities import Identities
from meshwarden.agent.renewer import LinkDownError, Refused
from meshwarden.agent.svids import Claim

__all__ = ["SignedToken", "TokenSigner", "Tokens"]

_KEPT = 4096
"""Tokens kept: workloads choose audiences, so there is no other bound."""

_Name = tuple[Claim, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A JWT-SVID.

    Attributes:
        token: In JWS compact serialisation: a bearer token, never shown in a log.
        issued_ns: When it was signed.
        expires_ns: Its end.
    """

    token: str = field(repr=False)
    issued_ns: int
    expires_ns: int


class TokenSigner(Protocol):
    """Who has tokens signed: the server, over whatever leads there."""

    async def sign_token(
        self, entry_id: str, audiences: Sequence[str], selectors: tuple[Selector, ...]
    ) -> SignedToken | Refused:
        """Order one token.

        Raises:
            LinkDownError: There is no answer.
        """
        ...


class Tokens:
    """Gives a workload its tokens: one order at a time for each, and none while one is fresh."""

    def __init__(
        self,
        identities: Identities,
        signer: TokenSigner,
        now_ns: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        """Keep nothing yet.

        Args:
            identities: What workloads are due.
            signer: Who signs.
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
        """
        self._identities = identities
        self._signer = signer
        self._now_ns = now_ns
        self._draw = draw
        # With each, the time from which a new one is wanted.
        self._kept: OrderedDict[_Name, tuple[SignedToken, int]] = OrderedDict()
        self._orders: dict[_Name, asyncio.Task[SignedToken | Refused]] = {}

    async def token(
        self, claim: Claim, audiences: tuple[str, ...], selectors: frozenset[Selector]
    ) -> SignedToken | Refused:
        """Give a token for one identity.

        Past the middle of its life a new one is ordered; if none can be had, the old one will do
        for as long as it lives.

        Raises:
            LinkDownError: There is none, and the server can't be asked.
        """
        name = (claim, audiences)
        kept = self._kept.get(name)
        now_ns = self._now_ns()
        if kept is not None and now_ns < kept[1]:
            self._kept.move_to_end(name)
            return kept[0]
        try:
            made = await self._order(name, selectors)
        except LinkDownError:
            if kept is not None and now_ns < kept[0].expires_ns:
                return kept[0]
            raise
        return made

    async def _order(self, name: _Name, selectors: frozenset[Selector]) -> SignedToken | Refused:
        order = self._orders.get(name)
        if order is None:
            order = asyncio.create_task(self._have_signed(name, selectors))
            self._orders[name] = order
            order.add_done_callback(lambda _: self._orders.pop(name, None))
        # One who gives up does not take it from the others.
        return await asyncio.shield(order)

    async def _have_signed(
        self, name: _Name, selectors: frozenset[Selector]
    ) -> SignedToken | Refused:
        claim, audiences = name
        made = await self._signer.sign_token(claim.entry_id, audiences, tuple(sorted(selectors)))
        if isinstance(made, SignedToken):
            now_ns = self._now_ns()
            self._kept[name] = (made, renewal_ns(now_ns, made.expires_ns, self._draw()))
            self._kept.move_to_end(name)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made
