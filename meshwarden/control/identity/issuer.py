"""Issues SVIDs: the one place where something is signed for somebody.

The order of an issue is what makes it safe. The intent is on the ledger, on disk, before anything
is signed; what was signed is looked at by code that knows nothing of how it was built; and only
then does anybody get it. So whatever dies whenever: nothing was issued that the ledger doesn't
know.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ca.bundle import Bundle
from ca.csr import check_csr
from ca.errors import IdentityError, OrderError
from ca.issue import JwtOrder, JwtSvid, X509Order, X509Svid
from ca.jwt_svid import check_jwt
from ca.ledger import Entry, Event
from ca.profile import SECOND_NS, serial_from
from ca.spiffe_id import SpiffeId
from meshwarden import metrics
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.control.identity.ledger_writer import LedgerWriter
from meshwarden.control.identity.signing import Signing, X509Intent
from meshwarden.faults import fault_id
from meshwarden.plain_text import plain

__all__ = ["Issuer", "Limits"]

_SERIAL_BYTES = 16
# Signing takes about a third of a millisecond: others get their turn in between.
_TURN = 16
_DETAIL_CHARACTERS = 300
# A series that exists can be alerted on; and looking one up costs as much as counting.
_X509_ISSUED = metrics.SVIDS.labels("x509", "issued")
_JWT_ISSUED = metrics.SVIDS.labels("jwt", "issued")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long what is issued holds, in seconds."""

    x509_ttl_s: int = 3600
    max_x509_ttl_s: int = 86_400
    jwt_ttl_s: int = 300
    max_jwt_ttl_s: int = 3600


class Issuer:
    """The authority of one trust domain, as the rest of control sees it.

    Attributes:
        trust_domain: Whose.
    """

    def __init__(
        self,
        current: CurrentAuthorities,
        limits: Limits,
        writer: LedgerWriter,
        *,
        now_ns: Callable[[], int],
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Put it together; `start` opens it.

        Args:
            current: The authorities that sign.
            limits: How long what is issued holds.
            writer: Puts what is issued on the ledger.
            now_ns: The time.
            randomness: Gives so many bytes that nobody can foresee.
        """
        self.trust_domain = current.trust_domain
        self.current = current
        self._limits = limits
        self._writer = writer
        self._now_ns = now_ns
        self._randomness = randomness

    async def start(self) -> None:
        """Find or make the authorities; see CurrentAuthorities.start."""
        await self.current.start()

    async def run(self) -> None:
        """Follow changes of the authorities, for ever; starts if that could not be done yet."""
        await self.current.run()

    def bundle(self) -> Bundle:
        """Give what SVIDs are verified with.

        Raises:
            IdentityStoreError: The database could not be reached since the start.
        """
        return self.current.bundle()

    def bundles(self) -> AsyncIterator[Bundle]:
        """Give the bundle, and each new one, for ever; waits while there is none yet."""
        return self.current.bundles()

    async def issue_x509(self, orders: Sequence[X509Order]) -> list[X509Svid | IdentityError]:
        """Issue certificates; each is issued or refused by itself, in the order of the orders."""
        results: list[X509Svid | IdentityError | None] = [None] * len(orders)
        try:
            signing = self.current.signing
        except IdentityError as error:
            return [error] * len(orders)
        now_ns = self._now_ns()
        intents: list[tuple[int, X509Intent]] = []
        # One call of the kernel for all.
        serials = _serials(self._randomness(_SERIAL_BYTES * len(orders)))
        entries: list[Entry] = []
        for index, order in enumerate(orders):
            await _give_turn(index)
            try:
                # Step 1: whether this may be signed at all.
                intent = self._x509_intent(signing, order, now_ns, serials[index])
                entries.append(_x509_entry(order, intent, signing.x509_authority_id))
                intents.append((index, intent))
            except IdentityError as error:
                results[index] = error
                self._refused("x509", order.spiffe_id, order.requester, order.selectors, error)
        if not intents:
            return _all(results)
        try:
            # Step 2: the intent, on disk.
            first = await self._writer.intend(entries)
        except IdentityError as error:
            for index, _ in intents:
                results[index] = error
            metrics.SVIDS.labels("x509", "failed").inc(len(intents))
            return _all(results)
        # Step 3: sign and validate; step 4, publishing, is the caller's with what this returns.
        for offset, (index, intent) in enumerate(intents):
            await _give_turn(offset)
            try:
                results[index] = signing.sign_x509(intent, now_ns)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is withheld
                results[index] = self._withheld("x509", first + offset, error)
            else:
                self._writer.issued(first + offset, first + offset)
        issued = sum(isinstance(each, X509Svid) for each in results)
        _X509_ISSUED.inc(issued)
        return _all(results)

    async def issue_jwt(self, order: JwtOrder) -> JwtSvid:
        """Issue a token.

        Raises:
            OrderError: There is no audience, or it is for another trust domain.
            NoAuthorityError: No key can sign it.
            IdentityStoreError: The ledger can't be written.
        """
        signing, now_ns = self.current.signing, self._now_ns()
        limits = self._limits
        try:
            self._check_id(order.spiffe_id)
            checked = check_jwt(order.spiffe_id, order.audiences)
            ttl_s = min(order.ttl_s or limits.jwt_ttl_s, limits.max_jwt_ttl_s)
            times = signing.jwt_times(now_ns, ttl_s)
            authority_id = signing.jwt_authority_id
        except IdentityError as error:
            self._refused("jwt", order.spiffe_id, order.requester, order.selectors, error)
            raise
        issued_ns, expires_ns = now_ns // SECOND_NS * SECOND_NS, times.not_after_ns
        token_id = f"{serial_from(self._randomness(_SERIAL_BYTES)):032x}"
        entry = Entry(
            Event.INTENDED,
            kind="jwt",
            spiffe_id=str(order.spiffe_id),
            serial=token_id,
            not_after_ns=expires_ns,
            authority_id=authority_id,
            requester=order.requester,
            selectors=order.selectors,
            detail=" ".join(checked.audiences)[:_DETAIL_CHARACTERS],
        )
        number = await self._writer.intend([entry])
        try:
            token = signing.sign_jwt(checked, token_id, issued_ns, expires_ns)
        except Exception as error:
            raise self._withheld("jwt", number, error) from error
        self._writer.issued(number, number)
        _JWT_ISSUED.inc()
        return JwtSvid(order.spiffe_id, token, issued_ns, expires_ns)

    def _x509_intent(
        self, signing: Signing, order: X509Order, now_ns: int, serial: int
    ) -> X509Intent:
        self._check_id(order.spiffe_id)
        ttl_s = min(order.ttl_s or self._limits.x509_ttl_s, self._limits.max_x509_ttl_s)
        times = signing.times(now_ns, ttl_s)
        request = check_csr(order.csr, allowed_id=order.spiffe_id, dns_names=order.dns_names)
        signing.check_names(request.names)
        return X509Intent(request, times, serial)

    def _check_id(self, spiffe_id: SpiffeId) -> None:
        if spiffe_id.trust_domain != self.trust_domain or not spiffe_id.path:
            raise OrderError(f"{spiffe_id} is no workload of {self.trust_domain}")

    def _refused(
        self,
        kind: str,
        spiffe_id: SpiffeId,
        requester: str,
        selectors: tuple[str, ...],
        error: IdentityError,
    ) -> None:
        metrics.SVIDS.labels(kind, "refused").inc()
        # It may quote a stranger: not every database keeps what can't be printed.
        detail = plain(f"{error.code}: {error}"[:_DETAIL_CHARACTERS])
        self._writer.note(
            Entry(
                Event.REFUSED,
                kind=kind,
                spiffe_id=str(spiffe_id),
                requester=requester,
                selectors=selectors,
                detail=detail,
            )
        )

    def _withheld(self, kind: str, number: int, error: Exception) -> IdentityError:
        metrics.SVIDS.labels(kind, "withheld").inc()
        told = fault_id(error)
        self._writer.note(Entry(Event.WITHHELD, kind=kind, detail=told, first=number, last=number))
        return IdentityError(told)


def _serials(randomness: bytes) -> list[int]:
    starts = range(0, len(randomness), _SERIAL_BYTES)
    return [serial_from(randomness[at : at + _SERIAL_BYTES]) for at in starts]


def _x509_entry(order: X509Order, intent: X509Intent, authority_id: str) -> Entry:
    return Entry(
        Event.INTENDED,
        kind="x509",
        spiffe_id=str(order.spiffe_id),
        serial=f"{intent.serial:032x}",
        not_after_ns=intent.times.not_after_ns,
        authority_id=authority_id,
        requester=order.requester,
        selectors=order.selectors,
        detail=" ".join(order.dns_names)[:_DETAIL_CHARACTERS],
    )


def _all(results: "list[X509Svid | IdentityError | None]") -> "list[X509Svid | IdentityError]":
    return [each or IdentityError("it was forgotten") for each in results]


async def _give_turn(index: int) -> None:
    if index % _TURN == _TURN - 1:
        await asyncio.sleep(0)
