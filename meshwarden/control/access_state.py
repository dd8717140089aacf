"""What decides about remote callers: the newest admin policy, and every token.

Both are read from the store when a call asks and what is known is a second old: a role that was
taken away on one replica is gone on all within that second, and a flood of wrong tokens costs the
store one look a second.
"""

import asyncio
import logging
from collections.abc import Callable

from authz.admin_policy import ROLES, AdminPolicy, AdminVerdict, Question
from authz.admin_tokens import Token, token_id
from authz.errors import AuthzError
from authz.policy.errors import PolicyError
from authz.revisions import NewerFormatError, Revision, RevisionStore, StoreUnavailableError
from meshwarden import clock

__all__ = ["ADMIN_STREAM", "AccessState"]

ADMIN_STREAM = "admin"
"""The sequence of revisions that says who may administrate."""

_LOG = logging.getLogger(__name__)
_FRESH_S = 1.0
_WRITE_S = 5.0
# When a token was last used is told to the minute: a client that polls is no writer.
_USE_NS = 60_000_000_000


class AccessState:
    """Follows the store for whoever asks.

    Attributes:
        policy: The newest admin policy that could be read and built.
        revision: Its revision; None before the first.
        tokens: Every token that isn't forgotten.
        fault: Why what is known may be out of date; "" when it isn't.
        unusable: Why the newest revision can't be used here, so that nobody has a role; "" when it
            can. The owner can make another one upon it.
        registered: Gives the SPIFFE IDs that an entry's admin flag makes administrators.
    """

    def __init__(
        self,
        store: RevisionStore,
        now_ns: Callable[[], int],
        monotonic_s: Callable[[], float] = clock.monotonic_s,
    ) -> None:
        """Follow one store.

        Args:
            store: Where revisions and tokens are.
            now_ns: The time.
            monotonic_s: The time that passes.
        """
        self._store = store
        self._now_ns = now_ns
        self._monotonic_s = monotonic_s
        self._lock = asyncio.Lock()
        self._looked_s = float("-inf")
        self._by_id: dict[str, Token] = {}
        self._uses: dict[str, int] = {}
        self.policy = AdminPolicy(())
        self.revision: Revision | None = None
        self.tokens: tuple[Token, ...] = ()
        self.fault = "who may administrate was not read yet"
        self.unusable = ""
        self.registered: Callable[[], frozenset[str]] = frozenset

    def decide(self, asked: Question) -> AdminVerdict:
        """Decide one call: by the admin policy, and by entries where no rule of it denies."""
        verdict = self.policy.decide(asked)
        is_denied = verdict.rule and not verdict.allowed
        if is_denied or f"spiffe://{asked.name}" not in self.registered():
            return verdict
        return AdminVerdict(allowed=True, rule=verdict.rule, roles=ROLES)

    async def refresh(self, *, now: bool = False) -> None:
        """Look into the store unless that was done within the last second; see `fault` after it.

        Args:
            now: Look in any case, as after a change.
        """
        async with self._lock:
            if not now and self._monotonic_s() - self._looked_s < _FRESH_S:
                return
            try:
                await self._read()
            except AuthzError as error:
                if str(error) != self.fault:
                    _LOG.error("who may administrate is not known for sure: %s", error)
                self.fault = str(error)
            else:
                self.fault = ""
            # After a failure too: a store that is down must not be asked by each of a flood.
            self._looked_s = self._monotonic_s()

    async def _read(self) -> None:
        tokens = await self._store.tokens.all()
        head = await self._store.head(ADMIN_STREAM)
        if head != self.revision and head is not None:
            await self._take(head)
        self.tokens = tuple(tokens)
        self._by_id = {token.id: token for token in self.tokens}

    async def _take(self, head: Revision) -> None:
        try:
            _, draft = await self._store.read(ADMIN_STREAM, head.number)
            policy = await asyncio.to_thread(AdminPolicy, draft.text.rows, clock.local_now)
        except (NewerFormatError, PolicyError) as error:
            # Another version of the program made it. What it says of anybody is not known, and what
            # was so before it may be what it was made to end.
            _LOG.error("admin revision %d can't be used here: %s", head.number, error)
            self.policy, self.revision, self.unusable = AdminPolicy(()), head, str(error)
        else:
            self.policy, self.revision, self.unusable = policy, head, ""

    def token_of(self, text: str) -> Token | None:
        """Find the token with this text, whether it is still good or not."""
        token = self._by_id.get(token_id(text))
        return token if token is not None and token.is_of(text) else None

    def live_names(self) -> frozenset[str]:
        """Names under which somebody may still come by a token."""
        now_ns = self._now_ns()
        return frozenset(token.name for token in self.tokens if token.is_live(now_ns))

    def note_use(self, token: Token) -> None:
        """Remember that a token was used now; `run` writes it down."""
        now_ns = self._now_ns()
        if now_ns - max(token.used_ns, self._uses.get(token.id, 0)) >= _USE_NS:
            self._uses[token.id] = now_ns

    async def write_uses(self) -> None:
        """Write down which tokens were used."""
        uses, self._uses = self._uses, {}
        try:
            await self._store.tokens.used(uses)
        except StoreUnavailableError as error:
            # Not worth a second try: the next use says it again.
            _LOG.debug("the last use of tokens was not written: %s", error)

    async def run(self) -> None:
        """Write down which tokens are used, for ever."""
        while True:
            await asyncio.sleep(_WRITE_S)
            if self._uses:
                await self.write_uses()
