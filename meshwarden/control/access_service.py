"""The Access service: roles given and taken, the admin policy's revisions, tokens."""

import asyncio
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc.aio
from typing_extensions import override

from authz.admin_policy import ROLES, AdminPolicy
from authz.audit import AuditEntry
from authz.authoring.diff import count_lines
from authz.errors import AuthzError
from authz.policy.errors import PolicyError
from authz.policy.mesh import mesh_model
from authz.policy.rules import Row
from authz.revisions import Draft, NoRevisionError
from meshwarden import clock
from meshwarden.control.access_state import ADMIN_STREAM, AccessState
from meshwarden.control.access_tokens import Tokens
from meshwarden.control.administration import Administration, fresh
from meshwarden.control.refusals import Refusals
from meshwarden.control.who import Who, who_of
from meshwarden.policy_messages import (
    checked_line,
    limit_of,
    number_of,
    revision_message,
    row_faults,
    row_from,
    text_message,
)
from protos.meshwarden.v1 import access_pb2, access_pb2_grpc, policy_pb2

__all__ = ["AccessService"]

_Context = grpc.aio.ServicerContext[Any, Any]
_MAX_ROWS = 10_000


class LastAdminError(AuthzError):
    """The change would leave nobody with the role admin; give it to somebody else first."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class _Change:
    """What somebody wants the next revision of the admin policy to be."""

    who: Who
    action: str
    rows: Sequence[Row]
    message: str
    origin: str = ""
    parent: int | None = None
    is_dry_run: bool = False


class AccessService(access_pb2_grpc.AccessServicer):
    """The Access service of one instance."""

    def __init__(
        self,
        administration: Administration | None,
        token_days: int,
        random: Callable[[int], bytes],
        now_ns: Callable[[], int],
    ) -> None:
        """Serve one instance.

        Args:
            administration: See there; None where no store is open.
            token_days: How long a token lives unless told otherwise, and at most.
            random: Gives so many bytes from the system's source of secrets.
            now_ns: The time.
        """
        self._administration = administration
        self._tokens = Tokens(token_days, random, now_ns)
        self._now_ns = now_ns

    @override
    async def Me(self, request: access_pb2.MeRequest, context: _Context) -> access_pb2.MeReply:
        del request
        who = who_of(context)
        roles: Sequence[str] = ROLES
        if not who.is_local:
            here = await fresh(self._administration)
            roles = here.roles_of(who.name, who.source, self._now_ns())
        return access_pb2.MeReply(name=who.name, source=who.source, roles=roles)

    @override
    async def Members(
        self, request: access_pb2.MembersRequest, context: _Context
    ) -> access_pb2.MembersReply:
        del request, context
        state = (await fresh(self._administration)).state
        reply = access_pb2.MembersReply(
            rules=sum(row.ptype == "p" for row in state.policy.rows),
            revision=revision_message(state.revision) if state.revision else None,
        )
        live = state.live_names()
        for who, role in state.policy.members():
            name = who.removeprefix("token:")
            is_dead = name != who and name not in live
            reply.members.add(who=who, role=role, no_live_token=is_dead)
        return reply

    @override
    async def Grant(
        self, request: access_pb2.GrantRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        state = (await fresh(self._administration)).state
        rows = state.policy.given(request.who, request.role)
        message = request.message or f"Give {request.who} the role {request.role}"
        parent = request.parent if request.HasField("parent") else None
        change = _Change(who_of(context), "access.grant", rows, message, parent=parent)
        return await self._make(change)

    @override
    async def Revoke(
        self, request: access_pb2.RevokeRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        state = (await fresh(self._administration)).state
        rows: Sequence[Row] = state.policy.rows
        given = [role for who, role in state.policy.members() if who == request.who]
        taken = [role for role in given if request.role in {"", role}]
        if not taken:
            has = (
                f"it has {', '.join(given)}" if given else self._nearest_member(state, request.who)
            )
            wanted = f"the role {request.role}" if request.role else "any role"
            raise NoRevisionError(
                f"{request.who!r} is not given {wanted} by name{has and '; '}{has}"
            )
        for role in taken:
            rows = AdminPolicy.taken(rows, request.who, role)
        message = request.message or f"Take {', '.join(taken)} from {request.who}"
        parent = request.parent if request.HasField("parent") else None
        change = _Change(who_of(context), "access.revoke", rows, message, parent=parent)
        return await self._make(change)

    @override
    async def Apply(
        self, request: policy_pb2.ApplyRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        if request.text.model.strip() not in {"", mesh_model().strip()}:
            return policy_pb2.ApplyReply(
                errors=[
                    "the admin policy has the built-in model and no other: leave out model.conf"
                ]
            )
        rows = [row_from(row) for row in request.text.rows]
        faults = row_faults(rows)
        if faults:
            return policy_pb2.ApplyReply(errors=faults)
        return await self._make(
            _Change(
                who_of(context),
                "access.apply",
                rows,
                request.message,
                request.origin,
                request.parent if request.HasField("parent") else None,
                request.dry_run,
            )
        )

    @override
    async def Rollback(
        self, request: policy_pb2.RollbackRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        store = (await fresh(self._administration)).store
        number = number_of(request.number)
        _, draft = await store.read(ADMIN_STREAM, number)
        return await self._make(
            _Change(
                who_of(context),
                "access.rollback",
                draft.text.rows,
                request.message or f"Back to revision {number}",
                f"revision {number}",
                request.parent if request.HasField("parent") else None,
            )
        )

    @override
    async def Get(self, request: policy_pb2.GetRequest, context: _Context) -> policy_pb2.GetReply:
        del context
        here = await fresh(self._administration)
        store, state = here.store, here.state
        number = number_of(request.number) or (state.revision.number if state.revision else 0)
        if not number:
            raise NoRevisionError("nobody was given a role yet: there is no revision")
        revision, draft = await store.read(ADMIN_STREAM, number)
        return policy_pb2.GetReply(
            revision=revision_message(revision), text=text_message(draft.text)
        )

    @override
    async def History(
        self, request: policy_pb2.HistoryRequest, context: _Context
    ) -> policy_pb2.HistoryReply:
        del context
        store = (await fresh(self._administration)).store
        found = await store.history(
            ADMIN_STREAM,
            limit_of(request.limit),
            number_of(request.before),
            number_of(request.after),
        )
        return policy_pb2.HistoryReply(revisions=[revision_message(each) for each in found])

    @override
    async def CreateToken(
        self, request: access_pb2.CreateTokenRequest, context: _Context
    ) -> access_pb2.CreateTokenReply:
        here = await fresh(self._administration)
        return await self._tokens.create(here, who_of(context), request)

    @override
    async def ListTokens(
        self, request: access_pb2.ListTokensRequest, context: _Context
    ) -> access_pb2.ListTokensReply:
        del request, context
        return self._tokens.listed(await fresh(self._administration))

    @override
    async def RevokeToken(
        self, request: access_pb2.RevokeTokenRequest, context: _Context
    ) -> access_pb2.RevokeTokenReply:
        here = await fresh(self._administration)
        return await self._tokens.revoke(here, who_of(context), request)

    async def _make(self, change: _Change) -> policy_pb2.ApplyReply:
        checked_line(change.message, "the message")
        checked_line(change.origin, "the origin")
        here = await fresh(self._administration)
        store, state = here.store, here.state
        if len(change.rows) > _MAX_ROWS:
            return policy_pb2.ApplyReply(errors=[f"there are more than {_MAX_ROWS} rows"])
        try:
            # Step 1: build it, by the code that decides. What doesn't build never gets further.
            proposed = await asyncio.to_thread(AdminPolicy, change.rows, clock.local_now)
        except PolicyError as error:
            return policy_pb2.ApplyReply(errors=[str(fault) for fault in error.faults])
        reply = policy_pb2.ApplyReply(
            digest=proposed.digest,
            rule_count=sum(row.ptype == "p" for row in proposed.rows),
            unchanged=state.revision is not None and proposed.rows == state.policy.rows,
        )
        # Step 2: somebody must be left who can change it again.
        if await here.has_admin(state.policy) and not await here.has_admin(proposed):
            await _refuse(here.refusals, change)
        if reply.unchanged or change.is_dry_run:
            return reply
        # Step 3: the store takes it with its audit entry, or neither. The parent is the revision
        # that the steps above have looked at.
        newest = state.revision.number if state.revision else 0
        added, removed = count_lines(state.policy.rows, proposed.rows)
        draft = Draft(
            text=proposed.text,
            digest=proposed.digest,
            author=change.who.name,
            message=change.message,
            origin=change.origin,
            added=added,
            removed=removed,
        )
        entry = AuditEntry(
            self._now_ns(), change.who.name, change.who.source, change.action, "done", "",
            change.message,
        )  # fmt: skip
        parent = newest if change.parent is None else change.parent
        made = await store.commit(ADMIN_STREAM, parent, draft, entry)
        # Step 4: in force here when the answer comes, and on other replicas within a second.
        await state.refresh(now=True)
        reply.revision.CopyFrom(revision_message(made))
        return reply

    @staticmethod
    def _nearest_member(state: AccessState, name: str) -> str:
        near = difflib.get_close_matches(name, {who for who, _ in state.policy.members()}, n=1)
        return f"did you mean {near[0]}?" if near else ""


async def _refuse(refusals: Refusals, change: _Change) -> None:
    why = (
        "this would leave nobody with the role admin who can come in: give it to somebody else "
        "first. To keep all remote callers out, set admin.remote = false; the local owner may do "
        "everything either way"
    )
    await refusals.note(change.who.name, change.who.source, change.action, "no admin would be left")
    raise LastAdminError(why)
