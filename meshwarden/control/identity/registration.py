"""The Registration service: who shall get which identity, as operators say it."""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import uuid_utils
from typing_extensions import override

from ca.entries import API, Entry
from ca.entry_draft import Draft, EntryRules, Fault, agent_id_fault, agent_spiffe_id, check_draft
from ca.errors import IdentityError, IdentityStoreError
from ca.join_token import SECRET_BYTES, TokenText
from ca.registry import Audit, JoinToken, NoSuchAgentError, NoSuchEntryError
from ca.selectors import InvalidSelectorError, Selector
from meshwarden.config_checks import did_you_mean
from meshwarden.control.identity.edge import is_refusal
from meshwarden.control.identity.forgetting import forget
from meshwarden.control.identity.parts import Parts
from meshwarden.control.who import Who, who_of
from meshwarden.identity_messages import (
    agent_message,
    draft_from,
    entry_message,
    selectors_from,
    token_message,
)
from protos.meshwarden.v1 import registration_pb2, registration_pb2_grpc

__all__ = ["InvalidEntryError", "RegistrationService"]

_MAX_ENTRIES = 1000
_MAX_PAGE = 1000
_MAX_SELECTORS = 32
# A nearest name costs as much as there are names.
_LOOKED_AT = 1000
_DEFAULT_TOKEN_TTL_S = 600
_SECOND_NS = 1_000_000_000
_Context = grpc.aio.ServicerContext[Any, Any]
_Reply = TypeVar("_Reply")


class InvalidEntryError(IdentityError):
    """Something can't be registered; the message has a line for each fault there is."""

    code = "INVALID_ARGUMENT"


class DeclaredError(IdentityError):
    """A file declares the entry; change that file, or it would be changed back."""

    code = "FAILED_PRECONDITION"


class RegistrationService(registration_pb2_grpc.RegistrationServicer):
    """Serves operators, behind the gate.

    Args:
        parts: What it is put together from.
        rules: What entries must keep to.
        max_token_ttl_s: The longest that a join token lives.
        is_declared: Whether files declare entries here.
    """

    def __init__(
        self, parts: Parts, rules: EntryRules, max_token_ttl_s: int, *, is_declared: bool
    ) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._store = parts.registry.store
        self._rules = rules
        self._max_token_ttl_s = max_token_ttl_s
        self._is_declared = is_declared

    @override
    async def PutEntries(
        self, request: registration_pb2.PutEntriesRequest, context: _Context
    ) -> registration_pb2.PutEntriesReply:
        async def put(who: Who) -> registration_pb2.PutEntriesReply:
            entries = await self._entries([*map(draft_from, request.entries)])
            names = ", ".join(each.workload.spiffe_id for each in entries[:3])
            audit = self._audit(who, "entry.put", f"{len(entries)}: {names}")
            kept = await self._store.write_entries(entries, [], audit, dry_run=request.dry_run)
            await self._catch_up()
            return registration_pb2.PutEntriesReply(entries=map(entry_message, kept))

        return await self._answer(context, "entry.put", put)

    @override
    async def ListEntries(
        self, request: registration_pb2.ListEntriesRequest, context: _Context
    ) -> registration_pb2.ListEntriesReply:
        async def find(_: Who) -> registration_pb2.ListEntriesReply:
            await self._registry.refresh()
            selectors = _selectors(request.selectors)
            found = sorted(
                (
                    each
                    for each in self._registry.entries.all()
                    if _is_asked(each, request, selectors)
                ),
                key=lambda each: each.workload.id,
            )
            limit = min(request.limit or _MAX_PAGE, _MAX_PAGE)
            after = [each for each in found if each.workload.id > request.after]
            page = after[:limit]
            return registration_pb2.ListEntriesReply(
                entries=map(entry_message, page),
                next=page[-1].workload.id if len(after) > limit else "",
                trust_domain=self._rules.trust_domain,
            )

        return await self._answer(context, "entry.list", find)

    @override
    async def DeleteEntries(
        self, request: registration_pb2.DeleteEntriesRequest, context: _Context
    ) -> registration_pb2.DeleteEntriesReply:
        async def delete(who: Who) -> registration_pb2.DeleteEntriesReply:
            ids = [*dict.fromkeys(request.ids)]
            if not 1 <= len(ids) <= _MAX_ENTRIES:
                raise InvalidEntryError(f"{len(ids)} ids; give 1 to {_MAX_ENTRIES}")
            await self._registry.refresh()
            for each in ids:
                self._check_free(self._there(each))
            names = ", ".join(ids[:3])
            audit = self._audit(who, "entry.delete", f"{len(ids)}: {names}")
            await self._store.write_entries([], ids, audit)
            await self._catch_up()
            return registration_pb2.DeleteEntriesReply(deleted=ids)

        return await self._answer(context, "entry.delete", delete)

    @override
    async def ListAgents(
        self, request: registration_pb2.ListAgentsRequest, context: _Context
    ) -> registration_pb2.ListAgentsReply:
        async def find(_: Who) -> registration_pb2.ListAgentsReply:
            await self._registry.refresh()
            after = sorted(
                (each for each in self._registry.agents if each.spiffe_id > request.after),
                key=lambda each: each.spiffe_id,
            )
            limit = min(request.limit or _MAX_PAGE, _MAX_PAGE)
            return registration_pb2.ListAgentsReply(
                agents=map(agent_message, after[:limit]),
                next=after[limit - 1].spiffe_id if len(after) > limit else "",
            )

        return await self._answer(context, "agent.list", find)

    @override
    async def EvictAgent(
        self, request: registration_pb2.EvictAgentRequest, context: _Context
    ) -> registration_pb2.EvictAgentReply:
        agent_id = request.spiffe_id
        action = "ban" if request.ban else "unban" if request.unban else "evict"

        async def evict(who: Who) -> registration_pb2.EvictAgentReply:
            if request.ban and request.unban:
                raise InvalidEntryError("ban or unban, not both")
            audit = self._audit(who, f"agent.{action}", agent_id)
            try:
                if request.ban or request.unban:
                    await self._store.ban_agent(agent_id, banned=request.ban, audit=audit)
                else:
                    await self._store.remove_agent(agent_id, audit)
            except NoSuchAgentError as error:
                await self._catch_up()
                known = [each.spiffe_id for each in self._registry.agents]
                raise NoSuchAgentError(
                    f"{error}{did_you_mean(agent_id, known[:_LOOKED_AT])}"
                ) from error
            # Its streams end by this, here; other replicas notice by themselves.
            await self._catch_up()
            return registration_pb2.EvictAgentReply()

        return await self._answer(context, f"agent.{action}", evict)

    @override
    async def PruneAgents(
        self, request: registration_pb2.PruneAgentsRequest, context: _Context
    ) -> registration_pb2.PruneAgentsReply:
        async def prune(who: Who) -> registration_pb2.PruneAgentsReply:
            now_ns, for_s = self._parts.now_ns(), request.expired_for_s
            if request.dry_run:
                await self._registry.refresh()
                before_ns = now_ns - for_s * _SECOND_NS
                count = sum(
                    not each.banned and each.svid_expires_ns < before_ns
                    for each in self._registry.agents
                )
            else:
                count = await forget(self._store, for_s, now_ns, (who.name, who.source))
                await self._catch_up()
            return registration_pb2.PruneAgentsReply(count=count)

        return await self._answer(context, "agent.forget", prune)

    @override
    async def CreateJoinToken(
        self, request: registration_pb2.CreateJoinTokenRequest, context: _Context
    ) -> registration_pb2.CreateJoinTokenReply:
        async def create(who: Who) -> registration_pb2.CreateJoinTokenReply:
            ttl_s = request.ttl_s or min(_DEFAULT_TOKEN_TTL_S, self._max_token_ttl_s)
            if ttl_s > self._max_token_ttl_s:
                raise InvalidEntryError(
                    f"a join token lives at most {self._max_token_ttl_s} s "
                    "(identity.nodes.max_join_token_ttl_s)"
                )
            selectors = _selectors(request.selectors)
            token_id = secrets.token_hex(8)
            trust_domain = self._rules.trust_domain
            path = f"join_token/{request.agent_path or token_id}"
            agent_id = agent_spiffe_id(trust_domain, path)
            if fault := agent_id_fault(agent_id, trust_domain):
                raise InvalidEntryError(fault)
            bundle = self._parts.issuer.bundle()
            text = TokenText(secrets.token_bytes(SECRET_BYTES), bundle.sha256)
            now_ns = self._parts.now_ns()
            token = JoinToken(
                id=token_id,
                secret_sha256=text.sha256,
                agent_id=agent_id,
                selectors=selectors,
                created_ns=now_ns,
                expires_ns=now_ns + ttl_s * _SECOND_NS,
            )
            detail = f"{token_id} for {agent_id}, {ttl_s} s"
            await self._store.add_token(token, self._audit(who, "token.create", detail))
            return registration_pb2.CreateJoinTokenReply(
                token=text.reveal(), agent_id=agent_id, expires_ns=token.expires_ns, id=token_id
            )

        return await self._answer(context, "token.create", create)

    @override
    async def ListJoinTokens(
        self, request: registration_pb2.ListJoinTokensRequest, context: _Context
    ) -> registration_pb2.ListJoinTokensReply:
        async def find(_: Who) -> registration_pb2.ListJoinTokensReply:
            found = await self._store.tokens()
            return registration_pb2.ListJoinTokensReply(tokens=map(token_message, found))

        return await self._answer(context, "token.list", find)

    @override
    async def RevokeJoinToken(
        self, request: registration_pb2.RevokeJoinTokenRequest, context: _Context
    ) -> registration_pb2.RevokeJoinTokenReply:
        async def revoke(who: Who) -> registration_pb2.RevokeJoinTokenReply:
            audit = self._audit(who, "token.revoke", request.id)
            await self._store.remove_token(request.id, audit)
            return registration_pb2.RevokeJoinTokenReply()

        return await self._answer(context, "token.revoke", revoke)

    async def _entries(self, drafts: Sequence[Draft]) -> list[Entry]:
        """Make entries of drafts, with ids.

        Raises:
            InvalidEntryError: They have faults; all are told.
            NoSuchEntryError: One changes an entry that isn't there.
            DeclaredError: One changes an entry that a file declares.
        """
        if not 1 <= len(drafts) <= _MAX_ENTRIES:
            raise InvalidEntryError(f"{len(drafts)} entries; give 1 to {_MAX_ENTRIES}")
        await self._registry.refresh()
        entries, faults = [], []
        for number, draft in enumerate(drafts, 1):
            made = check_draft(draft, self._rules)
            if isinstance(made, Entry):
                entries.append(self._with_id(made))
            else:
                faults += _told(made, draft, number, len(drafts))
        if faults:
            raise InvalidEntryError("\n".join(faults))
        ids = [each.workload.id for each in entries]
        if len(set(ids)) != len(ids):
            raise InvalidEntryError("an id stands twice")
        return entries

    def _with_id(self, entry: Entry) -> Entry:
        if not entry.workload.id:
            return _replaced(entry, str(uuid_utils.uuid7()))
        there = self._there(entry.workload.id)
        self._check_free(there)
        # Whoever deletes it meanwhile wins: it is changed, not made anew.
        return replace(entry, created_ns=there.created_ns)

    def _there(self, entry_id: str) -> Entry:
        entry = self._registry.entries.get(entry_id)
        if entry is None:
            raise NoSuchEntryError(f"there is no entry {entry_id[:80]!r}")
        return entry

    def _check_free(self, entry: Entry) -> None:
        if entry.origin != API and self._is_declared:
            raise DeclaredError(
                f"entry {entry.workload.id} is declared at {entry.origin}: change it there"
            )

    def _audit(self, who: Who, action: str, detail: str) -> Audit:
        return Audit(self._parts.now_ns(), who.name, who.source, action, "done", detail[:500])

    async def _catch_up(self) -> None:
        """Take what was just written; where that fails, following the store does it soon."""
        try:
            await self._registry.refresh()
        except IdentityStoreError:
            self._registry.pulse()

    async def _answer(
        self, context: _Context, action: str, work: Callable[[Who], Awaitable[_Reply]]
    ) -> _Reply:
        who = who_of(context)
        try:
            return await work(who)
        except IdentityError as error:
            if is_refusal(error) or error.code in {"ALREADY_EXISTS", "FAILED_PRECONDITION"}:
                await self._parts.refusals.note(who.name, who.source, action, str(error))
            await _abort(context, error)


async def _abort(context: _Context, error: IdentityError) -> NoReturn:
    await context.abort(getattr(grpc.StatusCode, error.code), str(error))
    raise AssertionError("abort always raises")


def _replaced(entry: Entry, entry_id: str) -> Entry:
    return replace(entry, workload=replace(entry.workload, id=entry_id))


def _told(faults: Iterable[Fault], draft: Draft, number: int, count: int) -> list[str]:
    where = f"entry {number} ({draft.spiffe_id[:200]}): " if count > 1 else ""
    return [f"{where}{each.field}: {each.message}" for each in faults]


def _selectors(messages: Sequence[Any]) -> frozenset[Selector]:
    if len(messages) > _MAX_SELECTORS:
        raise InvalidEntryError(f"{len(messages)} selectors; at most {_MAX_SELECTORS}")
    try:
        return selectors_from(messages)
    except InvalidSelectorError as error:
        raise InvalidEntryError(str(error)) from error


def _is_asked(
    entry: Entry, request: registration_pb2.ListEntriesRequest, selectors: frozenset[Selector]
) -> bool:
    return (
        request.parent_id in {"", entry.parent_id}
        and request.spiffe_id in {"", entry.workload.spiffe_id}
        and selectors.issubset(entry.workload.selectors)
    )
