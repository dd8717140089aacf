"""The SPIFFE Workload API: message in, message out.

Source: SPIFFE Workload API, sections 4 to 6; SPIFFE Workload Endpoint, sections 3 and 6.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

import grpc
import grpc.aio
from google.protobuf.struct_pb2 import Struct
from typing_extensions import override

from ca import jwt_svid
from ca.bundle import Bundle
from ca.entries import shortened
from ca.errors import OrderError, TokenError
from ca.pace import Pace
from ca.selectors import Selector
from ca.spiffe_id import InvalidSpiffeIdError, parse
from meshwarden.agent.attestation import Attestation
from meshwarden.agent.identities import Identities
from meshwarden.agent.peers import Caller, PeerError
from meshwarden.agent.renewer import LinkDownError, Refused
from meshwarden.agent.svids import Claim, WorkloadSvids
from meshwarden.agent.tokens import Tokens, TooSoon
from meshwarden.sds.service import Reason
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc

__all__ = ["Refusal", "WorkloadApi"]

_LOG = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]

_HEADER = ("workload.spiffe.io", "true")  # Workload Endpoint, section 3.
# How long a call waits for what the agent doesn't have yet, before it is told to come again.
_PATIENCE_S = 10.0
# Lines of the log about callers that are refused: a second for each user, and at once.
_LINES = (0.5, 20)
# A machine that starts asks for all that runs on it; who makes up identities goes on.
_NEWCOMERS_BURST_S = 300

_Message = TypeVar("_Message", pb.X509SVIDResponse, pb.X509BundlesResponse, pb.JWTBundlesResponse)

_Code = grpc.StatusCode
_TENTH_NS = 100_000_000


class Refusal(Enum):
    """Why a call is refused: by metrics' name, and gRPC's code."""

    BAD_REQUEST = "bad_request", _Code.INVALID_ARGUMENT
    BAD_TOKEN = "bad_token", _Code.INVALID_ARGUMENT
    CALLER_ENDED = "caller_ended", _Code.UNAVAILABLE
    NO_HEADER = "no_header", _Code.INVALID_ARGUMENT
    NO_IDENTITY = "no_identity", _Code.PERMISSION_DENIED
    NOT_READY = "not_ready", _Code.UNAVAILABLE
    NOT_SIGNED = "not_signed", _Code.PERMISSION_DENIED
    NOT_THEIRS = "not_theirs", _Code.PERMISSION_DENIED
    SERVER_AWAY = "server_away", _Code.UNAVAILABLE
    TOO_MANY_CALLS = "too_many_calls", _Code.RESOURCE_EXHAUSTED
    TOO_MANY_IDENTITIES = "too_many_identities", _Code.RESOURCE_EXHAUSTED
    TOO_MANY_TOKENS = "too_many_tokens", _Code.RESOURCE_EXHAUSTED
    UNKNOWN_CALLER = "unknown_caller", _Code.PERMISSION_DENIED


class WorkloadApi(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    """Serves workloads, each by what is found on its process when it calls.

    Attributes:
        refusals: How many calls were refused, or ended, by the name of the reason.
        streams: How many calls go on: of the Workload API, and of SDS.
    """

    def __init__(  # noqa: PLR0913 - what a workload is served by
        self,
        attestation: Attestation,
        identities: Identities,
        tokens: Tokens,
        now_ns: Callable[[], int],
        why_waiting: Callable[[], str],
        *,
        identities_per_s: float = 1.0,
    ) -> None:
        """Serve one node.

        Args:
            attestation: Knows who calls, and what is true of him.
            identities: Knows what he is due.
            tokens: Has JWT-SVIDs.
            now_ns: The time.
            why_waiting: Says what the agent waits for, in words.
            identities_per_s: Identities that one user's processes may be the first to ask for, of
                templates; 300 seconds' worth may come at once.
        """
        self._attestation = attestation
        self._identities = identities
        self._tokens = tokens
        self._now_ns = now_ns
        self._why_waiting = why_waiting
        self._lines = Pace(*_LINES)
        self._newcomers = Pace(
            identities_per_s, max(1, round(identities_per_s * _NEWCOMERS_BURST_S))
        )
        self.refusals = Counter({each.value[0]: 0 for each in Refusal})
        self.streams = Counter(workload=0, sds=0)
        # All streams of one view send one message.
        self._messages: WeakKeyDictionary[WorkloadSvids, pb.X509SVIDResponse] = WeakKeyDictionary()

    @override
    async def FetchX509SVID(
        self, request: pb.X509SVIDRequest, context: _Context
    ) -> AsyncIterator[pb.X509SVIDResponse]:
        del request

        def written(view: WorkloadSvids) -> pb.X509SVIDResponse:
            message = self._messages.get(view)
            if message is None:
                message = self._messages[view] = _x509_svids(view)
            return message

        async for message in self._changes(context, written):
            yield message

    @override
    async def FetchX509Bundles(
        self, request: pb.X509BundlesRequest, context: _Context
    ) -> AsyncIterator[pb.X509BundlesResponse]:
        del request
        async for message in self._changes(context, _x509_bundles):
            yield message

    @override
    async def FetchJWTBundles(
        self, request: pb.JWTBundlesRequest, context: _Context
    ) -> AsyncIterator[pb.JWTBundlesResponse]:
        del request
        async for message in self._changes(context, _jwt_bundles):
            yield message

    @override
    async def FetchJWTSVID(
        self, request: pb.JWTSVIDRequest, context: _Context
    ) -> pb.JWTSVIDResponse:
        caller = await self._caller(context)
        selectors, _ = await self._attest(context, caller)
        try:
            audiences = jwt_svid.check_audiences(tuple(dict.fromkeys(request.audience)))
        except OrderError as error:
            await self._refuse(context, Refusal.BAD_REQUEST, str(error))
        claims = await self._claims(context, selectors)
        if request.spiffe_id:
            claims = await self._only(context, claims, request.spiffe_id)
        reply, hints = pb.JWTSVIDResponse(), {""}
        for claim in claims:
            entry = self._identities.entry(claim)
            few = selectors if entry is None else shortened(entry, selectors)
            try:
                made = await self._tokens.token(claim, audiences, few, caller.peer.uid)
            except LinkDownError as error:
                await self._refuse(context, Refusal.SERVER_AWAY, f"no token can be had: {error}")
            if isinstance(made, TooSoon):
                await self._slow_down(context, caller, claim, made)
            if isinstance(made, Refused):
                why = f"{claim.spiffe_id}: {made.reason}"
                await self._refuse(context, Refusal.NOT_SIGNED, why)
            hint = entry.hint if entry is not None else ""
            # Section 6.2.1: unique in a response.
            reply.svids.add(
                spiffe_id=str(claim.spiffe_id),
                svid=made.token,
                hint="" if hint in hints else hint,
            )
            hints.add(hint)
        return reply

    @override
    async def ValidateJWTSVID(
        self, request: pb.ValidateJWTSVIDRequest, context: _Context
    ) -> pb.ValidateJWTSVIDResponse:
        selectors = await self._found(context)
        if not request.audience or not request.svid:
            why = "name an audience and give a token"
            await self._refuse(context, Refusal.BAD_REQUEST, why)
        # Who may not have the bundle may not have it used either.
        await self._claims(context, selectors)
        try:
            valid = self._validate(request.svid, request.audience)
        except TokenError as error:
            await self._refuse(context, Refusal.BAD_TOKEN, str(error))
        claims = Struct()
        claims.update(valid.claims)
        return pb.ValidateJWTSVIDResponse(spiffe_id=str(valid.spiffe_id), claims=claims)

    def _validate(self, token: str, audience: str) -> jwt_svid.ValidJwt:
        """Verify by the bundle of the token's own trust domain: JWT-SVID standard, section 4."""
        domain = jwt_svid.trust_domain_of(token)
        for bundle in self._identities.bundles:
            if bundle.trust_domain == domain:
                return jwt_svid.validate(token, audience, bundle.jwks, domain, self._now_ns())
        raise TokenError(f"there is no bundle of the trust domain {domain!r}")

    async def envoy_views(self, context: _Context) -> AsyncGenerator[WorkloadSvids, None]:
        """Follow what an Envoy gets, for SDS on the same socket; it sends no header of SPIFFE's.

        Ends the call when that is nothing, with the reason.
        """
        caller = await self._known(context)
        with self._counted("sds"):
            async with contextlib.aclosing(self._views_of(context, caller)) as views:
                async for view in views:
                    yield view

    def note_envoy(self, why: Reason) -> None:
        """Count a call of an Envoy's that SDS has ended."""
        self.refusals[Refusal[why.upper()].value[0]] += 1

    def note_crowd(self) -> None:
        """Count a call that was one too many of a user's."""
        self.refusals[Refusal.TOO_MANY_CALLS.value[0]] += 1

    def note_nack(self, context: _Context, words: str) -> None:
        """Log what an Envoy has refused, as seldom as other refusals."""
        caller = self._attestation.caller(context.peer())
        if caller is not None:
            self._note(caller, words, logging.WARNING)

    async def _views(self, context: _Context) -> AsyncIterator[WorkloadSvids]:
        caller = await self._caller(context)
        with self._counted("workload"):
            async with contextlib.aclosing(self._views_of(context, caller)) as views:
                async for view in views:
                    yield view

    async def _views_of(
        self, context: _Context, caller: Caller
    ) -> AsyncGenerator[WorkloadSvids, None]:
        """Follow what a caller gets; end the call when that is nothing, with the reason."""
        selectors, notes = await self._attest(context, caller)
        await self._admit(context, caller, selectors)
        async with contextlib.aclosing(self._identities.subscribe(selectors)) as views:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    view = await anext(views)
            except TimeoutError:
                await self._refuse(context, Refusal.NOT_READY, self._why_waiting())
            while True:
                if not view.svids:
                    await self._deny(context, caller, view.why, notes)
                yield view
                view = await anext(views)

    async def _changes(
        self, context: _Context, written: Callable[[WorkloadSvids], _Message]
    ) -> AsyncIterator[_Message]:
        """Follow what is told of a caller's view; what changes nothing of that is not told."""
        told: _Message | None = None
        async for view in self._views(context):
            message = written(view)
            if message != told:
                told = message
                yield message

    async def _found(self, context: _Context) -> frozenset[Selector]:
        caller = await self._caller(context)
        return (await self._attest(context, caller))[0]

    async def _caller(self, context: _Context) -> Caller:
        if _HEADER not in (context.invocation_metadata() or ()):
            why = "the metadata 'workload.spiffe.io: true' is missing"
            await self._refuse(context, Refusal.NO_HEADER, why)
        return await self._known(context)

    async def _known(self, context: _Context) -> Caller:
        caller = self._attestation.caller(context.peer())
        if caller is None:
            await self._refuse(context, Refusal.UNKNOWN_CALLER, "the caller can't be told")
        return caller

    async def _attest(
        self, context: _Context, caller: Caller
    ) -> tuple[frozenset[Selector], tuple[str, ...]]:
        try:
            found = await self._attestation.attest(caller)
        except PeerError as error:
            await self._refuse(context, Refusal.CALLER_ENDED, str(error))
        return found.selectors, found.notes

    async def _claims(self, context: _Context, selectors: frozenset[Selector]) -> tuple[Claim, ...]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                claims = await self._identities.claims(selectors)
        except TimeoutError:
            await self._refuse(context, Refusal.NOT_READY, self._why_waiting())
        if isinstance(claims, str):
            await self._deny(context, await self._caller(context), claims, ())
        return claims

    async def _only(
        self, context: _Context, claims: tuple[Claim, ...], spiffe_id: str
    ) -> tuple[Claim, ...]:
        try:
            wanted = parse(spiffe_id)
        except InvalidSpiffeIdError as error:
            why = f"this is no SPIFFE ID: {error}"
            await self._refuse(context, Refusal.BAD_REQUEST, why)
        chosen = tuple(claim for claim in claims if claim.spiffe_id == wanted)
        if not chosen:
            theirs = ", ".join(sorted({str(claim.spiffe_id) for claim in claims}))
            why = f"{wanted} is not the caller's; he is {theirs}"
            await self._refuse(context, Refusal.NOT_THEIRS, why)
        return chosen[:1]

    async def _deny(
        self, context: _Context, caller: Caller, why: str, notes: tuple[str, ...]
    ) -> NoReturn:
        """Answer who has no identity with the reason: what was found, and what is nearest."""
        told = "; ".join((f"no identity issued: {why}", *notes))
        self._note(caller, told)
        await self._refuse(context, Refusal.NO_IDENTITY, told)

    async def _admit(
        self, context: _Context, caller: Caller, selectors: frozenset[Selector]
    ) -> None:
        """Refuse who makes up identities faster than they can be signed for all of the machine."""
        many = min(self._identities.newcomers(selectors), self._newcomers.burst)
        if not many:
            return
        uid = caller.peer.uid
        wait_ns = self._newcomers.take(str(uid), many, self._now_ns())
        if wait_ns:
            wait_s = math.ceil(wait_ns / _TENTH_NS) / 10
            told = (
                f"processes of user {uid} have asked for too many new identities: try again in "
                f"{wait_s} s. Those that are there already are given on"
            )
            self._note(caller, told)
            await self._refuse(context, Refusal.TOO_MANY_IDENTITIES, told)

    async def _slow_down(
        self, context: _Context, caller: Caller, claim: Claim, made: TooSoon
    ) -> NoReturn:
        """Answer who has tokens for ever other audiences signed."""
        wait_s = math.ceil(made.wait_ns / _TENTH_NS) / 10
        who = f"user {caller.peer.uid}" if made.is_users else str(claim.spiffe_id)
        told = (
            f"{who} has had too many tokens signed: try again in {wait_s} s. "
            "Those that are there already are given on"
        )
        self._note(caller, told)
        await self._refuse(context, Refusal.TOO_MANY_TOKENS, told)

    def _note(self, caller: Caller, told: str, level: int = logging.INFO) -> None:
        """Log a refusal, but not each: every user of the machine may ask without end."""
        if not self._lines.take(str(caller.peer.uid), 1, self._now_ns()):
            _LOG.log(level, "pid %d of user %d: %s", caller.peer.pid, caller.peer.uid, told)

    async def _refuse(self, context: _Context, why: Refusal, message: str) -> NoReturn:
        name, code = why.value
        self.refusals[name] += 1
        await context.abort(code, message)
        raise AssertionError("abort raises")

    @contextlib.contextmanager
    def _counted(self, api: str) -> Iterator[None]:
        self.streams[api] += 1
        try:
            yield
        finally:
            self.streams[api] -= 1


def _x509_svids(view: WorkloadSvids) -> pb.X509SVIDResponse:
    own, *others = view.bundles
    authorities = b"".join(own.x509_authorities)
    return pb.X509SVIDResponse(
        svids=[
            pb.X509SVID(
                spiffe_id=svid.spiffe_id,
                x509_svid=b"".join(svid.chain),
                x509_svid_key=svid.key,
                bundle=authorities,
                hint=svid.hint,
            )
            for svid in view.svids
        ],
        federated_bundles={_id_of(each): b"".join(each.x509_authorities) for each in others},
    )


def _x509_bundles(view: WorkloadSvids) -> pb.X509BundlesResponse:
    return pb.X509BundlesResponse(
        bundles={_id_of(each): b"".join(each.x509_authorities) for each in view.bundles}
    )


def _jwt_bundles(view: WorkloadSvids) -> pb.JWTBundlesResponse:
    return pb.JWTBundlesResponse(bundles={_id_of(each): each.jwks for each in view.bundles})


def _id_of(bundle: Bundle) -> str:
    return f"spiffe://{bundle.trust_domain}"
