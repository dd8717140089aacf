"""The authorities that sign now: found or made at the start, and followed from then on.

Whatever changes them (this process, another replica, files) ends here: what it takes to sign is
built aside and put in force by one assignment, and who waits for a new bundle gets it.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from ca.authority import Authorities, Authority, AuthorityStore, Kind, Plan, first_plan
from ca.bundle import Bundle
from ca.errors import ConflictingAuthorityError, IdentityError, IdentityStoreError
from ca.intermediate import imported, request_for, waiting_key
from ca.keeper import KeyKeeper
from ca.keys import PrivateKey
from ca.registry import Audit
from ca.verify import subject_of
from meshwarden.control.identity.plugged import PluggedAuthority, PluggedChain
from meshwarden.control.identity.signing import Signing, make_signing

__all__ = ["CurrentAuthorities"]

_LOG = logging.getLogger(__name__)
_RETRY_S = 1.0


class CurrentAuthorities:
    """The authorities of one trust domain, as they are now."""

    def __init__(  # noqa: PLR0913 - the parts it is put together from
        self,
        plan: Plan,
        store: AuthorityStore,
        keeper: KeyKeeper,
        refresh_hint_s: int,
        *,
        now_ns: Callable[[], int],
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        plugged: PluggedAuthority | None = None,
    ) -> None:
        """Put it together; `start` opens it.

        Args:
            plan: What authorities there shall be.
            store: Where they are.
            keeper: Where their keys are.
            refresh_hint_s: For the bundle.
            now_ns: The time.
            randomness: Gives so many bytes that nobody can foresee.
            plugged: The authority in files, for a plan that says so.
        """
        self.trust_domain = plan.trust_domain
        self._plan = plan
        self._store = store
        self._keeper = keeper
        self._refresh_hint_s = refresh_hint_s
        self._now_ns = now_ns
        self._randomness = randomness
        self._plugged = plugged
        self._chain: PluggedChain | None = None
        self._signing: Signing | None = None
        self._changed = asyncio.Event()
        self._not_taken = ""
        # What was read before a change of ours must not be taken after it.
        self._taking = asyncio.Lock()

    async def start(self) -> None:
        """Find or make the authorities and open their keys.

        Raises:
            KeyNotOpenedError: A key is there and can't be had: nothing was made.
            ConflictingAuthorityError: The database is another trust domain's.
            CertificateError: The authority in files is none.
            IdentityStoreError: The database can't be reached; it may be tried again.
        """
        chain = self._plugged.load(self.trust_domain, self._now_ns()) if self._plugged else None

        def plan(there: Authorities) -> Sequence[Authority]:
            return first_plan(
                self._plan,
                there,
                self._keeper,
                self._now_ns(),
                self._randomness,
                plugged_in=chain.authorities if chain else (),
            )

        async with self._taking:
            self._take(await self._store.change(self.trust_domain, plan), chain)

    async def run(self) -> None:
        """Start, if that could not be done yet, and follow changes, for ever."""
        while self._signing is None:
            try:
                await self.start()
            except IdentityStoreError as error:
                _LOG.warning("identity: nothing is issued yet: %s", error)
                await asyncio.sleep(_RETRY_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_replicas())
            if self._plugged:
                group.create_task(self._follow_files(self._plugged))

    async def _follow_replicas(self) -> None:
        async for _ in self._store.changes():
            # The store tells of a change once.
            while not await self._is_up_to_date():
                await asyncio.sleep(_RETRY_S)

    async def _is_up_to_date(self) -> bool:
        """Take what the store has, if that is new; whether it has to be tried again."""
        try:
            async with self._taking:
                found = await self._store.read(self.trust_domain)
                if found.sequence != self.signing.authorities.sequence:
                    self._take(found, self._chain)
        except IdentityError as error:
            # What was there goes on signing: it is as good as before.
            if str(error) != self._not_taken:
                _LOG.warning("identity: a change of authorities was not taken: %s", error)
            self._not_taken = str(error)
            # A key that doesn't open won't in a second.
            return not isinstance(error, IdentityStoreError)
        self._not_taken = ""
        return True

    async def _follow_files(self, plugged: PluggedAuthority) -> None:
        async for _ in plugged.changes():
            await self._take_files()

    async def _take_files(self) -> None:
        """Take what the files hold, once that can be done.

        Tried again even if they don't change: a database comes back, a certificate begins to hold.
        """
        told = ""
        while True:
            try:
                await self.start()
            except IdentityError as error:
                if str(error) != told:
                    told = str(error)
                    _LOG.error("identity: the authority in files was not taken: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                _LOG.info("identity: the authority in files is taken")
                return

    async def request_certificate(self, audit: Audit | None = None) -> tuple[str, bytes]:
        """Ask for an intermediate's certificate; give the authority's id and PKCS#10 in DER.

        Args:
            audit: What the audit trail says of it, if a key is made.

        Raises:
            ConflictingAuthorityError: Authorities don't come from outside here.
            KeyNotOpenedError: The key can't be kept.
            IdentityStoreError: The database can't be written.
        """
        self._insist_on_offline()
        found = await self._store.change(
            self.trust_domain,
            lambda there: waiting_key(there, self._plan.key_type, self._keeper, self._now_ns()),
            audit,
        )
        return request_for(found, self._key_of(None))

    async def import_certificate(
        self, chain: Sequence[bytes], audit: Audit | None = None
    ) -> Authority:
        """Take the certificate of the key that waits; give the authority that signs from now on.

        Args:
            chain: DER, the intermediate first, the root last.
            audit: What the audit trail says of it.

        Raises:
            CertificateError: It is no chain that could sign for this trust domain now.
            ConflictingAuthorityError: It is for another key, or of another root.
            IdentityStoreError: The database can't be written.
        """
        self._insist_on_offline()
        async with self._taking:
            found = await self._store.change(
                self.trust_domain, lambda there: imported(there, chain, self._now_ns()), audit
            )
            self._take(found, None)
        signer = self.signing.authorities.active(Kind.INTERMEDIATE)
        assert signer is not None  # noqa: S101 - it was just taken
        return signer

    def _insist_on_offline(self) -> None:
        if self._plan.source != "offline":
            raise ConflictingAuthorityError(
                f"identity.ca is {self._plan.source!r}; only 'offline' takes a certificate so"
            )

    @property
    def is_open(self) -> bool:
        """Whether there are any yet."""
        return self._signing is not None

    @property
    def signing(self) -> Signing:
        """What signs now.

        Raises:
            IdentityStoreError: The database could not be reached since the start.
        """
        if self._signing is None:
            raise IdentityStoreError("the authorities could not be read yet; try again")
        return self._signing

    def bundle(self) -> Bundle:
        """Give what SVIDs are verified with.

        Raises:
            IdentityStoreError: The database could not be reached since the start.
        """
        return self.signing.bundle

    async def bundles(self) -> AsyncIterator[Bundle]:
        """Give the bundle, and each new one, for ever; waits while there is none yet."""
        last: Bundle | None = None
        while True:
            changed = self._changed  # Before the look: no change falls between.
            if self._signing is not None and self._signing.bundle != last:
                last = self._signing.bundle
                yield last
            await changed.wait()

    def _take(self, authorities: Authorities, chain: PluggedChain | None) -> None:
        """Put authorities in force: built aside, then one assignment."""
        own = chain.authorities[0].authority_id if chain else ""
        signing = make_signing(authorities, self._key_of(chain), self._refresh_hint_s, own)
        if self._signing is None or signing.signer_id != self._signing.signer_id:
            _tell_signer(signing)
        self._chain, self._signing = chain, signing
        self._changed.set()
        self._changed = asyncio.Event()

    def _key_of(self, chain: PluggedChain | None) -> Callable[[Authority], PrivateKey]:
        def find(authority: Authority) -> PrivateKey:
            if chain and chain.authorities[0].authority_id == authority.authority_id:
                return chain.key
            return self._keeper.get(authority.authority_id, authority.handle)

        return find


def _tell_signer(signing: Signing) -> None:
    """Say once, in the log, who signs from now on."""
    trust_domain = signing.authorities.trust_domain
    signer = signing.authorities.by_id(signing.signer_id)
    if signer is None:
        _LOG.warning(
            "identity: nothing signs certificates for %s yet: 'meshwarden ca csr' asks for one "
            "that does, 'meshwarden ca import' brings it",
            trust_domain,
        )
        return
    until = datetime.fromtimestamp(signer.not_after_ns // 1_000_000_000, UTC)
    _LOG.info(
        "identity: %s signs certificates for %s, until %s",
        subject_of(signer.certificate),
        trust_domain,
        f"{until:%Y-%m-%d}",
    )
