"""The Authority service: what an operator asks of the certificate authority."""

import asyncio
import contextlib
import hashlib
import string
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import grpc.aio
from typing_extensions import override

from ca.authority import Authority, State
from ca.entries import is_reserved
from ca.errors import (
    CertificateError,
    IdentityError,
    NoAuthorityError,
    OrderError,
)
from ca.issue import JwtOrder, X509Order, X509Svid
from ca.ledger import Head, Issued, Verifier
from ca.registry import Audit
from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse
from ca.verify import subject_of
from meshwarden.control.identity.edge import is_refusal
from meshwarden.control.who import who_of
from meshwarden.identity_messages import bundle_message, svid_message
from protos.meshwarden.v1 import agent_pb2, authority_pb2, authority_pb2_grpc

if TYPE_CHECKING:
    # It loads what databases need, and most services issue nothing.
    from meshwarden.control.identity.nodes import Nodes
    from meshwarden.control.identity.opening import Identity

__all__ = ["AuthorityService"]

_Context = grpc.aio.ServicerContext[Any, Any]
_Reply = TypeVar("_Reply")
_DEFAULT_LIMIT, _MAX_LIMIT = 50, 1000
_PAGE_ROWS = 2_000
_FLUSH_S = 1.0
_MAX_KNOWN = 10_000
_HASH_BYTES = 32
_SERIAL_DIGITS = 32
_HEX = frozenset(string.hexdigits)


class AuthorityService(authority_pb2_grpc.AuthorityServicer):
    """The authority of one instance, on the socket where being local is authority."""

    def __init__(self, identity: "Identity | None", nodes: "Nodes | None") -> None:
        """Serve.

        Args:
            identity: None where the settings issue nothing: every method says so.
            nodes: Has the audit trail, and how much each caller may have signed; None with it.
        """
        self._identity = identity
        self._nodes = nodes

    @override
    async def Show(
        self, request: authority_pb2.ShowRequest, context: _Context
    ) -> authority_pb2.ShowReply:
        del request

        async def answer(identity: "Identity") -> authority_pb2.ShowReply:
            signing = identity.issuer.current.signing
            return authority_pb2.ShowReply(
                trust_domain=identity.issuer.trust_domain,
                authorities=[_authority(each) for each in _in_order(signing.authorities.all)],
                bundle=bundle_message(signing.bundle),
            )

        return await self._answered(context, "ca.show", answer)

    @override
    async def GetBundle(
        self, request: authority_pb2.GetBundleRequest, context: _Context
    ) -> agent_pb2.Bundle:
        del request

        async def answer(identity: "Identity") -> agent_pb2.Bundle:
            return bundle_message(identity.issuer.bundle())

        return await self._answered(context, "bundle.show", answer)

    @override
    async def MintX509(
        self, request: authority_pb2.MintX509Request, context: _Context
    ) -> agent_pb2.X509Svid:
        async def answer(identity: "Identity") -> agent_pb2.X509Svid:
            self._charge(context)
            order = X509Order(
                csr=request.csr,
                spiffe_id=_spiffe_id(request.spiffe_id),
                requester=who_of(context).name,
                ttl_s=request.ttl_s,
                dns_names=tuple(request.dns_names),
            )
            (result,) = await identity.issuer.issue_x509([order])
            if not isinstance(result, X509Svid):
                raise result
            return svid_message(result)

        return await self._answered(context, "x509.mint", answer)

    @override
    async def MintJwt(
        self, request: authority_pb2.MintJwtRequest, context: _Context
    ) -> agent_pb2.SignJwtReply:
        async def answer(identity: "Identity") -> agent_pb2.SignJwtReply:
            self._charge(context)
            order = JwtOrder(
                spiffe_id=_spiffe_id(request.spiffe_id),
                audiences=tuple(request.audiences),
                requester=who_of(context).name,
                ttl_s=request.ttl_s,
            )
            made = await identity.issuer.issue_jwt(order)
            return agent_pb2.SignJwtReply(
                token=made.token,
                spiffe_id=str(made.spiffe_id),
                issued_ns=made.issued_ns,
                expires_ns=made.expires_ns,
            )

        return await self._answered(context, "jwt.mint", answer)

    @override
    async def VerifyLedger(
        self, request: authority_pb2.VerifyLedgerRequest, context: _Context
    ) -> authority_pb2.VerifyLedgerReply:
        async def answer(identity: "Identity") -> authority_pb2.VerifyLedgerReply:
            return await _verified(identity, _known(request))

        return await self._answered(context, "ledger.verify", answer)

    @override
    async def ListIssued(
        self, request: authority_pb2.ListIssuedRequest, context: _Context
    ) -> authority_pb2.ListIssuedReply:
        async def answer(identity: "Identity") -> authority_pb2.ListIssuedReply:
            limit = min(request.limit or _DEFAULT_LIMIT, _MAX_LIMIT)
            if request.spiffe_id:
                _parsed(request.spiffe_id)
            serial = _serial(request.serial) if request.serial else ""
            found = await identity.ledger.find(
                request.spiffe_id, serial, limit, refused=request.refused
            )
            return authority_pb2.ListIssuedReply(issued=[_issued(each) for each in found])

        return await self._answered(context, "ca.issued", answer)

    @override
    async def RequestCertificate(
        self, request: authority_pb2.RequestCertificateRequest, context: _Context
    ) -> authority_pb2.RequestCertificateReply:
        del request

        async def answer(identity: "Identity") -> authority_pb2.RequestCertificateReply:
            authority_id, csr = await identity.issuer.current.request_certificate(
                self._audit(context, "ca.csr", "a key was made for it")
            )
            return authority_pb2.RequestCertificateReply(csr=csr, authority_id=authority_id)

        return await self._answered(context, "ca.csr", answer)

    @override
    async def ImportCertificate(
        self, request: authority_pb2.ImportCertificateRequest, context: _Context
    ) -> authority_pb2.AuthorityInfo:
        async def answer(identity: "Identity") -> authority_pb2.AuthorityInfo:
            try:
                chain = tuple(request.chain)
                digest = hashlib.sha256(chain[0]).hexdigest() if chain else "none"
                audit = self._audit(context, "ca.import", f"certificate {digest}")
                return _authority(await identity.issuer.current.import_certificate(chain, audit))
            except CertificateError as error:
                # It is the operator's certificate that is wrong, not one of ours.
                raise OrderError(str(error)) from error

        return await self._answered(context, "ca.import", answer)

    def _audit(self, context: _Context, action: str, detail: str) -> Audit:
        assert self._nodes is not None  # noqa: S101 - as the identity is not
        who = who_of(context)
        now_ns = self._nodes.operators.now_ns()
        return Audit(now_ns, who.name, who.source, action, "done", detail)

    def _charge(self, context: _Context) -> None:
        """Count what a caller has signed.

        Raises:
            OverloadedError: He mints faster than he may: agents wait for the same key and ledger.
        """
        assert self._nodes is not None  # noqa: S101 - as the identity is not
        who = who_of(context).name
        told = f"{who} mints more than identity.nodes.signatures_per_s"
        self._nodes.minting.charge(who, 1, self._nodes.operators.now_ns(), told)

    async def _answered(
        self,
        context: _Context,
        action: str,
        answer: "Callable[[Identity], Awaitable[_Reply]]",
    ) -> _Reply:
        try:
            if self._identity is None:
                raise NoAuthorityError(
                    "nothing is issued here: identity.trust_domain names no trust domain"
                )
            return await answer(self._identity)
        except IdentityError as error:
            if self._nodes is not None and is_refusal(error):
                who = who_of(context)
                await self._nodes.operators.refusals.note(who.name, who.source, action, str(error))
            await _abort(context, error)


async def _verified(identity: "Identity", known: list[Head]) -> authority_pb2.VerifyLedgerReply:
    with contextlib.suppress(TimeoutError):
        # Whoever asks wants what he saw a moment ago to be in it; in a crowd there is always more.
        async with asyncio.timeout(_FLUSH_S):
            await identity.writer.flush()
    # Before the end is read: what is written meanwhile is behind that, and no head of it was cut.
    remembered = identity.heads.all
    end = await identity.ledger.head()
    key = identity.issuer.current.signing.ledger_key.public_key()
    verifier = Verifier([key], [*remembered, *known])
    after, fault = 0, ""
    while after < end.number:
        try:
            rows = await identity.ledger.read(after, min(_PAGE_ROWS, end.number - after))
        except IdentityError as error:
            if error.code != "DATA_LOSS":
                raise
            fault = str(error)
            break
        if not rows or not verifier.take(rows):
            break
        after = rows[-1].number
    report = verifier.report()
    return authority_pb2.VerifyLedgerReply(
        rows=report.head.number, head=report.head.hash, fault=fault or report.fault
    )


def _known(request: authority_pb2.VerifyLedgerRequest) -> list[Head]:
    if len(request.known) > _MAX_KNOWN:
        raise OrderError(f"more than {_MAX_KNOWN} heads")
    if any(len(each.hash) != _HASH_BYTES for each in request.known):
        raise OrderError(f"a head has a hash of {_HASH_BYTES} bytes")
    return [Head(each.number, each.hash) for each in request.known]


def _parsed(text: str) -> SpiffeId:
    try:
        return parse(text)
    except InvalidSpiffeIdError as error:
        raise OrderError(f"{text[:100]!r} is no SPIFFE ID: {error}") from error


def _serial(text: str) -> str:
    """Write a serial number as the ledger has it: of 16 one begins with a zero, which tools drop.

    "Nothing was issued" would be a wrong answer to whoever asks about a certificate that was.
    """
    digits = text.lower().replace(":", "").removeprefix("0x").lstrip("0")
    if not digits or len(digits) > _SERIAL_DIGITS or not _HEX.issuperset(digits):
        raise OrderError(
            f"{text[:100]!r} is no serial number: write it in hex, {_SERIAL_DIGITS} digits at most"
        )
    return digits.zfill(_SERIAL_DIGITS)


def _spiffe_id(text: str) -> SpiffeId:
    """Read the ID that somebody wants minted; agents believe the reserved ones."""
    wanted = _parsed(text)
    if is_reserved(wanted):
        raise OrderError(f"{wanted}: paths below /meshwarden are the service's and its agents' own")
    return wanted


def _in_order(authorities: tuple[Authority, ...]) -> list[Authority]:
    """Issuers before what they issued, as they came otherwise."""
    placed: list[Authority] = []
    left = list(authorities)
    while left:
        ids = {each.authority_id for each in left}
        # Its issuer is placed already, or isn't here; a circle is broken at its first.
        ready = [
            each
            for each in left
            if each.issuer_id == each.authority_id or each.issuer_id not in ids
        ] or left[:1]
        placed += ready
        left = [each for each in left if each not in ready]
    return placed


def _authority(authority: Authority) -> authority_pb2.AuthorityInfo:
    return authority_pb2.AuthorityInfo(
        id=authority.authority_id,
        kind=authority.kind.value,
        subject=subject_of(authority.certificate) if authority.certificate else "",
        issuer_id=authority.issuer_id,
        key_type=authority.key_type,
        serial=authority.serial,
        not_before_ns=authority.not_before_ns,
        not_after_ns=authority.not_after_ns,
        active=authority.state is State.ACTIVE,
        state=authority.state.value,
        certificate=authority.certificate,
    )


def _issued(issued: Issued) -> authority_pb2.Issued:
    row = issued.row
    return authority_pb2.Issued(
        row=row.number,
        time_ns=row.time_ns,
        spiffe_id=row.entry.spiffe_id,
        serial=row.entry.serial,
        not_after_ns=row.entry.not_after_ns,
        authority_id=row.entry.authority_id,
        requester=row.entry.requester,
        selectors=row.entry.selectors,
        outcome=issued.outcome.value,
        kind=row.entry.kind,
        detail=row.entry.detail,
    )


async def _abort(context: _Context, error: IdentityError) -> NoReturn:
    """Answer with the error's own code; never returns."""
    await context.abort(getattr(grpc.StatusCode, error.code), str(error))
    raise AssertionError("abort always raises")
