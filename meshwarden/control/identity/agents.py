"""The Agent service: what an agent may ask once it has an identity.

An agent gets certificates for the entries that are its own, and for no others: whatever it sends,
the SPIFFE ID comes from the entry, filled from the workload's selectors where it is a template.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf.message import Message

from ca import spiffe_id
from ca.entries import MANY_SELECTORS, Match, Miss, WorkloadEntry, match, shortened
from ca.entry_index import AgentEntries
from ca.errors import IdentityError
from ca.issue import JwtOrder, X509Order, X509Svid
from ca.pace import Pace
from ca.selectors import InvalidSelectorError, Selector
from meshwarden.control.identity.door import AgentCall, Door
from meshwarden.control.identity.edge import (
    Context,
    Handler,
    MessageError,
    Messages,
    abort,
    handlers,
    is_refusal,
    one,
)
from meshwarden.control.identity.parts import Parts
from meshwarden.control.identity.streams import StuckError
from meshwarden.crowd import Crowd
from meshwarden.identity_messages import selectors_from, svid_message
from protos.meshwarden.v1 import agent_pb2

__all__ = ["MAX_ORDERS", "AgentService", "NotYoursError"]

MAX_ORDERS = 200
"""Of one batch: at a third of a millisecond each, others wait for it."""

# Calls of one agent that sent nothing yet; an honest one's are on their way, all at once it may be.
_MAX_UNREAD = 1_000
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_TOKEN_BYTES = 256 * 1024
# Of one workload: two for each of 2,000 groups that its user is in.
_MAX_SELECTORS = 4_096
_NAME = "meshwarden.v1.Agent"
_Request = TypeVar("_Request", bound=Message)


class NotYoursError(IdentityError):
    """The agent may not issue for this entry, or not for this workload; the message says why."""

    code = "PERMISSION_DENIED"


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an agent may have, for an order of it; the selectors are for the ledger."""

    entry: WorkloadEntry
    match: Match
    selectors: tuple[str, ...]


class AgentService:
    """Serves agents.

    Args:
        parts: What it is put together from.
        door: Tells which agent calls.
        pace: Signatures that each agent may have.
    """

    def __init__(self, parts: Parts, door: Door, pace: Pace) -> None:
        self._issuer = parts.issuer
        self._registry = parts.registry
        self._streams = parts.streams
        self._refusals = parts.refusals
        self._now_ns = parts.now_ns
        self._agent_ttl_s = parts.agent_ttl_s
        self._door = door
        self._pace = pace
        self._unread = Crowd[str](_MAX_UNREAD)

    def handlers(self) -> Handler:
        """Give what a gRPC server calls."""
        return handlers(
            _NAME,
            {"Renew": self._renew, "SignX509": self._sign_x509, "SignJwt": self._sign_jwt},
            {"Entries": self._entries},
            self._refused,
        )

    async def _renew(self, messages: Messages, context: Context) -> bytes:
        call = await self._door.admit(context)
        self._charge(call, 1)
        request = await self._read(call, messages, agent_pb2.RenewRequest, _MAX_MESSAGE_BYTES)
        agent = call.agent
        order = X509Order(
            csr=request.csr,
            spiffe_id=spiffe_id.parse(agent.spiffe_id),
            requester=agent.spiffe_id,
            selectors=tuple(map(str, sorted(agent.selectors))),
            ttl_s=self._agent_ttl_s,
        )
        (svid,) = await self._issuer.issue_x509([order])
        if isinstance(svid, IdentityError):
            raise svid
        renewed = replace(
            agent,
            svid_expires_ns=svid.not_after_ns,
            serial=svid.serial,
            certificate_sha256=hashlib.sha256(svid.chain[0]).digest(),
            # Whatever it has besides: this reply may be lost, and what it called by still good.
            previous_sha256=call.certificate_sha256,
            previous_expires_ns=call.expires_ns,
        )
        # It is good once the registry knows it, and not before: then it is told.
        version = await self._registry.store.put_agent(renewed, None)
        # A ban may have come right behind it, and is known here already.
        self._door.check(call)
        self._registry.note(renewed, version)
        return agent_pb2.RenewReply(svid=svid_message(svid)).SerializeToString()

    async def _sign_x509(self, messages: Messages, context: Context) -> bytes:
        call = await self._door.admit(context)
        request = await self._read(call, messages, agent_pb2.SignX509Request, _MAX_BATCH_BYTES)
        if not 1 <= len(request.orders) <= MAX_ORDERS:
            raise MessageError(f"{len(request.orders)} orders; send 1 to {MAX_ORDERS}")
        self._charge(call, len(request.orders))
        results: list[X509Svid | IdentityError | None] = [None] * len(request.orders)
        orders: list[X509Order] = []
        places: list[int] = []
        # Once for all orders: making it reads every entry of this agent.
        mine = self._registry.entries_of(call.agent)
        for place, wanted in enumerate(request.orders):
            if len(wanted.selectors) > MANY_SELECTORS:
                await asyncio.sleep(0)
            try:
                claim = self._claim(call, mine, wanted.entry_id, wanted.selectors)
            except IdentityError as error:
                results[place] = error
                continue
            places.append(place)
            orders.append(
                X509Order(
                    csr=wanted.csr,
                    spiffe_id=claim.match.spiffe_id,
                    requester=call.agent.spiffe_id,
                    selectors=claim.selectors,
                    ttl_s=claim.entry.x509_ttl_s,
                    dns_names=claim.match.dns_names,
                )
            )
        if orders:
            for place, issued in zip(places, await self._issuer.issue_x509(orders), strict=True):
                results[place] = issued
        self._door.check(call)  # It may have taken seconds, behind a slow database.
        for outcome in results:
            if isinstance(outcome, IdentityError) and is_refusal(outcome):
                await self._note("SignX509", call, outcome)
        return agent_pb2.SignX509Reply(results=map(_result, results)).SerializeToString()

    async def _sign_jwt(self, messages: Messages, context: Context) -> bytes:
        call = await self._door.admit(context)
        self._charge(call, 1, "tokens")
        request = await self._read(call, messages, agent_pb2.SignJwtRequest, _MAX_TOKEN_BYTES)
        mine = self._registry.entries_of(call.agent)
        claim = self._claim(call, mine, request.entry_id, request.selectors)
        svid = await self._issuer.issue_jwt(
            JwtOrder(
                spiffe_id=claim.match.spiffe_id,
                audiences=tuple(request.audiences),
                requester=call.agent.spiffe_id,
                selectors=claim.selectors,
                ttl_s=claim.entry.jwt_ttl_s,
            )
        )
        self._door.check(call)
        return agent_pb2.SignJwtReply(
            token=svid.token,
            spiffe_id=str(svid.spiffe_id),
            issued_ns=svid.issued_ns,
            expires_ns=svid.expires_ns,
        ).SerializeToString()

    async def _entries(self, messages: Messages, context: Context) -> None:
        call = await self._door.admit(context)
        request = await self._read(call, messages, agent_pb2.EntriesRequest, _MAX_MESSAGE_BYTES)
        with self._streams.opened(call.agent.spiffe_id, call.expires_ns):
            try:
                await self._follow(call, request.digest, context)
            except StuckError as error:
                await self._refused("Entries", context, error)
                # It goes behind what waits already. Until its reader takes both, or goes away, the
                # stream is there, and counts.
                await abort(context, error)

    async def _follow(self, call: AgentCall, digest: bytes, context: Context) -> None:
        streams = self._streams
        sent, bundles = None, b""
        while True:
            changed = self._registry.changed  # Before the look: no change falls between.
            self._door.check(call)
            agent = self._registry.agent(call.agent.spiffe_id) or call.agent
            found = self._registry.entries_of(agent)
            if sent is None and digest != found.digest:
                replies = streams.replies.between(None, found)
            elif sent is not None and sent.digest != found.digest:
                replies = streams.replies.between(sent, found)
            elif sent is None or bundles != streams.bundles:
                replies = [streams.replies.unchanged(found)]
            else:
                replies = []
            for reply in replies:
                # The fields of two messages, one after the other, are one message with both.
                news = streams.bundles if bundles != streams.bundles else b""
                bundles = streams.bundles
                await streams.write(context, news + reply)
            sent = found
            await changed.wait()

    async def _read(
        self, call: AgentCall, messages: Messages, kind: type[_Request], max_bytes: int
    ) -> _Request:
        """Read what a call asks for, of an agent that is one still: it sends it when it likes.

        Raises:
            LateError: It does not come.
            LostIdentityError: It was evicted, banned or attested anew since it was let in.
            MessageError: There is none, it is too large, or no message.
            OverloadedError: Too many of its calls have none yet.
        """
        with self._unread.joined(call.agent.spiffe_id, "calls of this agent have no message yet"):
            request = await one(messages, kind, max_bytes)
        self._door.check(call)
        return request

    def _claim(
        self,
        call: AgentCall,
        mine: AgentEntries,
        entry_id: str,
        messages: Iterable[agent_pb2.Selector],
    ) -> _Claim:
        """Find what an order may have.

        Raises:
            NotYoursError: Nothing.
            MessageError: Its selectors are none.
        """
        entry = mine.entries.get(entry_id)
        if entry is None:
            raise NotYoursError(_why_not(call, mine, entry_id))
        found = _found(messages)
        if not found and "{{" not in entry.spiffe_id:
            # An agent makes them ahead of the first workload: then those that it will have.
            found = frozenset(entry.selectors)
        made = match(entry, found)
        if isinstance(made, Miss):
            raise NotYoursError(f"entry {entry_id} is not that workload's: {made.reason}")
        if self._makes_an_admin(entry_id, made):
            raise NotYoursError(
                f"entry {entry_id} is a template, and {made.spiffe_id} administers the service: "
                "only entries that name it give it"
            )
        return _Claim(entry, made, tuple(map(str, sorted(shortened(entry, found)))))

    def _makes_an_admin(self, entry_id: str, made: Match) -> bool:
        """Whether a template is filled to what another entry has the admin flag for.

        An agent says what it is filled with: of every node that has one, the key of its agent would
        be an administrator's.
        """
        kept = self._registry.entries.get(entry_id)
        is_template = kept is not None and "{{" in kept.workload.spiffe_id
        return is_template and str(made.spiffe_id) in self._registry.admins()

    def _charge(self, call: AgentCall, cost: int, kind: str = "certificates") -> None:
        """Count what an agent asks for.

        Tokens are counted apart: a workload orders as many as it likes by naming audiences, and
        must not keep others of its node from having their certificates renewed.

        Raises:
            OverloadedError: It asks faster than it may.
        """
        agent_id = call.agent.spiffe_id
        told = f"{agent_id} asks for more {kind} than identity.nodes.signatures_per_s"
        self._pace.charge(f"{kind} {agent_id}", cost, self._now_ns(), told)

    async def _refused(self, method: str, context: Context, error: IdentityError) -> None:
        who, source = self._door.names(context)
        await self._refusals.note(who, source, f"agent.{_action(method)}", str(error))

    async def _note(self, method: str, call: AgentCall, error: IdentityError) -> None:
        who = call.agent.spiffe_id.removeprefix("spiffe://")
        await self._refusals.note(who, call.source, f"agent.{_action(method)}", str(error))


def _action(method: str) -> str:
    return {"SignX509": "sign_x509", "SignJwt": "sign_jwt"}.get(method, method.lower())


def _why_not(call: AgentCall, mine: AgentEntries, entry_id: str) -> str:
    # An agent learns no more of others' entries than that.
    return (
        f"entry {entry_id[:80]!r} is none of the {len(mine.entries)} of {call.agent.spiffe_id}: it "
        "is gone, or its parent is neither this agent nor an alias of its node"
    )


def _found(messages: Iterable[agent_pb2.Selector]) -> frozenset[Selector]:
    given = [*messages]
    if len(given) > _MAX_SELECTORS:
        raise MessageError(f"{len(given)} selectors; at most {_MAX_SELECTORS}")
    try:
        return selectors_from(given)
    except InvalidSelectorError as error:
        raise MessageError(str(error)) from error


def _result(outcome: X509Svid | IdentityError | None) -> agent_pb2.X509Result:
    if isinstance(outcome, X509Svid):
        return agent_pb2.X509Result(svid=svid_message(outcome))
    code, message = (outcome.code, str(outcome)) if outcome else ("INTERNAL", "it was forgotten")
    return agent_pb2.X509Result(refusal=agent_pb2.Refusal(code=code, message=message))
