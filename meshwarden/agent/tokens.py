"""JWT-SVIDs of this node's workloads: signed by the server, kept for as long as they are fresh.

Workloads choose audiences, so each could have any number signed. Orders are counted for each SPIFFE
ID. A process can change what else is found on it: it may copy its program elsewhere, or have a
range of users of its own; its identity it can't. What has the same identity shares its tokens
already, and shares the limit. Only a template may give one process many identities, by the hash of
its program for one: so a user's orders are counted as well, whoever they are for.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ca.pace import Pace
from ca.renewal import renewal_ns
from ca.selectors import Selector
from ca.spiffe_id import SpiffeId
from meshwarden.agent.identities import Identities
from meshwarden.agent.renewer import LinkDownError, Refused
from meshwarden.agent.svids import Claim

__all__ = ["SignedToken", "TokenSigner", "Tokens", "TooSoon"]

_KEPT = 4096
"""Tokens kept: workloads choose audiences, so there is no other bound. Beyond it whoever has the
most loses one, and who has few keeps them."""
_BURST_S = 10
_USERS_SHARE = 10
"""How many times what one identity may order one user may."""
_IDENTITIES = 10_000
"""SPIFFE IDs whose orders are counted; who is forgotten may order a whole burst again."""

_Name = tuple[Claim, tuple[str, ...]]
_NONE: OrderedDict[_Name, tuple["SignedToken", int]] = OrderedDict()


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


@dataclass(frozen=True, slots=True)
class TooSoon:
    """There were as many orders as there may be; after `wait_ns` there may be another.

    Attributes:
        wait_ns: How long.
        is_users: Whether they were one user's, for whichever identities; else the identity's.
    """

    wait_ns: int
    is_users: bool = False


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
    """Gives a workload its tokens: one order at a time for each, and none while one is fresh.

    Attributes:
        outcomes: How many orders there were: signed, refused by the server, or failed for want of
            an answer.
    """

    def __init__(
        self,
        identities: Identities,
        signer: TokenSigner,
        now_ns: Callable[[], int],
        draw: Callable[[], float],
        per_s: float = 10.0,
    ) -> None:
        """Keep nothing yet.

        Args:
            identities: What workloads are due.
            signer: Who signs.
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
            per_s: Orders a second for one identity, and ten times that for one user; ten seconds'
                worth may come at once.
        """
        self._identities = identities
        self._signer = signer
        self._now_ns = now_ns
        self._draw = draw
        self._pace = Pace(per_s, max(1, round(per_s * _BURST_S)), _IDENTITIES)
        self._users = Pace(per_s * _USERS_SHARE, self._pace.burst * _USERS_SHARE, _IDENTITIES)
        self.outcomes = Counter(signed=0, refused=0, failed=0)
        # Of each SPIFFE ID, both in the order of the last call; with each token, the time from
        # which a new one is wanted.
        self._kept: OrderedDict[SpiffeId, OrderedDict[_Name, tuple[SignedToken, int]]] = (
            OrderedDict()
        )
        self._count = 0
        self._orders: dict[_Name, asyncio.Task[SignedToken | Refused]] = {}

    @property
    def kept(self) -> int:
        """How many tokens are kept that have not expired."""
        now_ns = self._now_ns()
        return sum(
            now_ns < token.expires_ns for own in self._kept.values() for token, _ in own.values()
        )

    async def token(
        self,
        claim: Claim,
        audiences: tuple[str, ...],
        selectors: frozenset[Selector],
        uid: int,
    ) -> SignedToken | Refused | TooSoon:
        """Give a token for one identity.

        Past the middle of its life a new one is ordered; if none can be had, the old one will do
        for as long as it lives. Only an order counts towards the limit, whatever comes of it.

        Raises:
            LinkDownError: There is none, and the server can't be asked.
        """
        name = (claim, audiences)
        own = self._kept.get(claim.spiffe_id, _NONE)
        kept = own.get(name)
        now_ns = self._now_ns()
        if kept is not None and now_ns < kept[1]:
            own.move_to_end(name)
            self._kept.move_to_end(claim.spiffe_id)
            return kept[0]
        old = kept[0] if kept is not None and now_ns < kept[0].expires_ns else None
        if name not in self._orders:
            wait_ns = self._pace.take(str(claim.spiffe_id), 1, now_ns)
            if wait_ns:
                return old or TooSoon(wait_ns)
            wait_ns = self._users.take(str(uid), 1, now_ns)
            if wait_ns:
                return old or TooSoon(wait_ns, is_users=True)
        try:
            made = await self._order(name, selectors)
        except LinkDownError:
            if old is not None:
                return old
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
        try:
            made = await self._signer.sign_token(
                claim.entry_id, audiences, tuple(sorted(selectors))
            )
        except LinkDownError:
            self.outcomes["failed"] += 1
            raise
        self.outcomes["refused" if isinstance(made, Refused) else "signed"] += 1
        if isinstance(made, SignedToken):
            self._keep(name, made)
        return made

    def _keep(self, name: _Name, made: SignedToken) -> None:
        now_ns = self._now_ns()
        own = self._kept.setdefault(name[0].spiffe_id, OrderedDict())
        self._count += name not in own
        own[name] = (made, renewal_ns(now_ns, made.expires_ns, self._draw()))
        own.move_to_end(name)
        self._kept.move_to_end(name[0].spiffe_id)
        if self._count > _KEPT:
            self._forget_expired(now_ns)
        while self._count > _KEPT:
            # Of those who have as many, the one who has not asked for longest.
            most = max(self._kept, key=lambda each: len(self._kept[each]))
            self._kept[most].popitem(last=False)
            self._count -= 1
            if not self._kept[most]:
                del self._kept[most]

    def _forget_expired(self, now_ns: int) -> None:
        """Cost: O(tokens kept), and only where there are too many."""
        for spiffe_id, own in tuple(self._kept.items()):
            for name in [name for name, (token, _) in own.items() if token.expires_ns <= now_ns]:
                del own[name]
                self._count -= 1
            if not own:
                del self._kept[spiffe_id]
