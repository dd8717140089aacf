"""What `meshwarden status` says of identities: in a file, to be read when control is away too."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from ca.errors import IdentityError
from ca.expiry import Expiring, in_use
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.control.identity.registry import Registry
from meshwarden.status import IdentityState

__all__ = ["Telling"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 2.0


class Telling:
    """Looks again and again, and tells when something has changed."""

    def __init__(
        self,
        current: CurrentAuthorities,
        registry: Registry,
        tell: Callable[[IdentityState], None],
        now_ns: Callable[[], int],
    ) -> None:
        """Tell of one trust domain.

        Args:
            current: Its authorities.
            registry: Its entries and agents.
            tell: Takes what is so now.
            now_ns: The time.
        """
        self._current = current
        self._registry = registry
        self._tell = tell
        self._now_ns = now_ns
        self._told: IdentityState | None = None

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Look once."""
        state = self._state()
        if state == self._told:
            return
        try:
            self._tell(state)
        except OSError as error:
            _LOG.warning("identity: status can't say how it is: %s", error)
        else:
            self._told = state

    def _state(self) -> IdentityState:
        now_ns = self._now_ns()
        live = (each.svid_expires_ns > now_ns for each in self._registry.agents if not each.banned)
        waits, used = self._signs()
        first = min(used, key=lambda each: each.not_after_ns, default=None)
        return IdentityState(
            self._current.trust_domain,
            entries=len(self._registry.entries),
            agents=sum(live),
            waits=waits,
            first_name=first.name if first else "",
            first_ends_ns=first.not_after_ns if first else 0,
        )

    def _signs(self) -> tuple[str, Sequence[Expiring]]:
        """Say why nothing is signed, or "" and what signs."""
        try:
            signing = self._current.signing
        except IdentityError as error:
            return str(error), ()
        if not signing.signer_id:
            return "no authority signs yet: 'meshwarden ca csr' asks for one", ()
        return "", in_use(signing.authorities, signing.signer_id)
