"""Has identities signed when they are due: one batch at a time, so that none is ordered twice.

Keys are made here and go nowhere but into `Identities`; the server gets requests, which hold the
public halves.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.keys import KeyType, PrivateKey, generate, hash_for, private_der
from ca.selectors import Selector
from ca.spiffe_id import SpiffeId
from meshwarden.agent.identities import Identities
from meshwarden.agent.svids import UNFIT, Due, Svid

__all__ = ["LinkDownError", "Order", "Refused", "Renewer", "Signed", "Signer", "request_for_key"]

_LOG = logging.getLogger(__name__)
_SECOND_NS = 1_000_000_000
_BATCH = 100
# A clock that is set forward must be noticed some time.
_LONGEST_WAIT_S = 5.0


class LinkDownError(Exception):
    """The server can't be asked now, as the message says; try again later."""


@dataclass(frozen=True, slots=True)
class Order:
    """A certificate to be signed.

    Attributes:
        entry_id: By which entry.
        csr: PKCS#10 in DER.
        selectors: Found on the workload.
    """

    entry_id: str
    csr: bytes
    selectors: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate: the chain in DER, the leaf first, and its end."""

    spiffe_id: str
    chain: tuple[bytes, ...]
    not_after_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an order was not signed."""

    reason: str


class Signer(Protocol):
    """Who has certificates signed: the server, over whatever leads there."""

    async def sign(self, orders: Sequence[Order]) -> Sequence[Signed | Refused]:
        """Give an answer for each order, in their order.

        Raises:
            LinkDownError: There is no answer.
        """
        ...


class Renewer:
    """Keeps `Identities` signed.

    Attributes:
        outcomes: How many orders there were: signed, refused by the server, failed for want of an
            answer, or unfit: signed, but not what was ordered.
    """

    def __init__(self, identities: Identities, signer: Signer, now_ns: Callable[[], int]) -> None:
        self._identities = identities
        self._signer = signer
        self._now_ns = now_ns
        self.outcomes = Counter(signed=0, refused=0, failed=0, unfit=0)

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._identities.work.clear()
            while due := self._identities.due(_BATCH):
                await self._have_signed(due)
            next_ns = self._identities.next_ns()
            wait_s = _LONGEST_WAIT_S
            if next_ns is not None:
                wait_s = min(wait_s, max(0.0, (next_ns - self._now_ns()) / _SECOND_NS))
            try:
                async with asyncio.timeout(wait_s):
                    await self._identities.work.wait()
            except TimeoutError:
                pass

    async def _have_signed(self, due: Sequence[Due]) -> None:
        # 100 keys and requests take some 15 ms: workloads' calls are answered meanwhile.
        made = await asyncio.to_thread(_requests, [each.claim.spiffe_id for each in due])
        orders = [
            Order(each.claim.entry_id, csr, each.selectors)
            for each, (_, csr) in zip(due, made, strict=True)
        ]
        try:
            answers = await self._signer.sign(orders)
        except LinkDownError as error:
            self.outcomes["failed"] += len(due)
            for each in due:
                self._identities.fail(each.claim, f"the server can't be asked: {error}")
            return
        for each, (key, _), answer in zip(due, made, answers, strict=True):
            self._take(each, key, answer)

    def _take(self, due: Due, key: PrivateKey, answer: Signed | Refused) -> None:
        claim = due.claim
        if isinstance(answer, Refused):
            self.outcomes["refused"] += 1
            _LOG.warning("%s was not signed: %s", claim.spiffe_id, answer.reason)
            self._identities.fail(claim, f"the server refused: {answer.reason}")
            return
        now_ns = self._now_ns()
        if fault := _fault(claim.spiffe_id, key, answer, now_ns):
            self.outcomes["unfit"] += 1
            _LOG.error("%s: what the server signed is not used: %s", claim.spiffe_id, fault)
            self._identities.fail(claim, fault)
            return
        self.outcomes["signed"] += 1
        self._identities.accept(
            Svid(
                claim, answer.chain, private_der(key), now_ns, answer.not_after_ns,
                due.version,
            )
        )  # fmt: skip


def request_for_key(key: PrivateKey, spiffe_id: SpiffeId | None) -> bytes:
    """Make a request for a key, in DER, that names one SPIFFE ID or nobody."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if spiffe_id is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
        builder = builder.add_extension(names, critical=True)
    # The library's types don't know that None goes with Ed25519 alone.
    signed = builder.sign(key, hash_for(key))  # type: ignore[arg-type]
    return signed.public_bytes(Encoding.DER)


def _requests(
    spiffe_ids: Sequence[SpiffeId],
) -> list[tuple[PrivateKey, bytes]]:
    keys = [generate(KeyType.EC_P256) for _ in spiffe_ids]
    return [(key, request_for_key(key, each)) for key, each in zip(keys, spiffe_ids, strict=True)]


def _fault(spiffe_id: SpiffeId, key: PrivateKey, answer: Signed, now_ns: int) -> str:
    """Say why a certificate is not the one that was ordered; "" if it is.

    A key must never be served with another's certificate, whoever mixed them up. One that ends
    before it begins here is of no use, and its renewal would be due at once, again and again.
    """
    try:
        leaf, *_ = map(x509.load_der_x509_certificate, answer.chain)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_for_key = leaf.public_key() == key.public_key()
    except (ValueError, *UNFIT):
        return "it is no SVID"
    if not is_for_key:
        return "it is for another key"
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [str(spiffe_id)]:
        return "it is for another SPIFFE ID"
    if answer.not_after_ns <= now_ns:
        late_s = (now_ns - answer.not_after_ns) // _SECOND_NS
        return f"by the clock of this machine it expired {late_s} s ago: one of the clocks is wrong"
    return ""
