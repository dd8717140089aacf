"""The Access service: roles given and taken, the admin policy's revisions, tokens."""

import asyncio
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import grpc.aio
from typing_extensions import override

from authz.admin_policy import ROLES, AdminPolicy, Question
from authz.admin_tokens import ID_BYTES, SECRET_BYTES, Token, is_token_name, new_token
from authz.audit import AuditEntry
from authz.authoring.diff import count_lines
from authz.errors import AuthzError
from authz.policy.errors import PolicyError
from authz.policy.mesh import mesh_model
from authz.policy.rules import Row
from authz.revisions import Draft, NoRevisionError, RevisionStore, StoreUnavailableError
from meshwarden import clock
from meshwarden.control.access_state import ADMIN_STREAM, AccessState
from meshwarden.control.refusals import Refusals
from meshwarden.control.who import Who, who_of
from meshwarden.policy_messages import (
    checked_line,
    limit_of,
    number_of,
    revision_message,
    row_from,
    text_message,
)
from protos.meshwarden.v1 import access_pb2, access_pb2_grpc, policy_pb2

__all__ = ["AccessService", "Administration"]

_Context = grpc.aio.ServicerContext[Any, Any]
_ME = "/meshwarden.v1.Access/Me"
_MAX_ROWS = 10_000
_DAY_S = 86_400
_MIN_LIFETIME_S = 1
# What became of a token can be looked up that long after its end; the audit trail keeps it anyway.
_FORGET_NS = 90 * _DAY_S * 1_000_000_000


class NoStoreError(AuthzError):
    """There is no store here in which roles and tokens could be; its owner can configure one."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class LastAdminError(AuthzError):
    """The change would leave nobody with the role admin; give it to somebody else first."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


class BadTokenRequestError(AuthzError):
    """The token can't be made so; the message says what to ask for."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


class NoTokenError(AuthzError):
    """There is no live token of that name or id; the message has the nearest."""

    code: ClassVar[str] = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Administration:
    """What roles and tokens stand on.

    Attributes:
        store: Where the admin policy and tokens are.
        state: What is known of them here.
        refusals: Where a refused call or change goes.
    """

    store: RevisionStore
    state: AccessState
    refusals: Refusals

    @classmethod
    def on(cls, store: RevisionStore, now_ns: Callable[[], int]) -> Self:
        """Begin with a store of which nothing is known yet."""
        return cls(store, AccessState(store, now_ns), Refusals(store.record, now_ns))

    async def run(self) -> None:
        """Write down what calls leave behind, for ever."""
        await asyncio.gather(self.state.run(), self.refusals.run())

    async def flush(self) -> None:
        """Write down what is still to be written."""
        await self.state.write_uses()
        await self.refusals.flush()


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
        self._lifetime_s = token_days * _DAY_S
        self._random = random
        self._now_ns = now_ns

    @override
    async def Me(self, request: access_pb2.MeRequest, context: _Context) -> access_pb2.MeReply:
        del request
        who = who_of(context)
        roles: Sequence[str] = ROLES
        if not who.is_local:
            state = (await self._fresh()).state
            roles = self._roles(state, who.name, who.source)
        return access_pb2.MeReply(name=who.name, source=who.source, roles=roles)

    @override
    async def Members(
        self, request: access_pb2.MembersRequest, context: _Context
    ) -> access_pb2.MembersReply:
        del request, context
        state = (await self._fresh()).state
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
        state = (await self._fresh()).state
        rows = state.policy.given(request.who, request.role)
        message = request.message or f"Give {request.who} the role {request.role}"
        parent = request.parent if request.HasField("parent") else None
        change = _Change(who_of(context), "access.grant", rows, message, parent=parent)
        return await self._make(change)

    @override
    async def Revoke(
        self, request: access_pb2.RevokeRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        state = (await self._fresh()).state
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
        return await self._make(
            _Change(
                who_of(context),
                "access.apply",
                [row_from(row) for row in request.text.rows],
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
        store = (await self._fresh()).store
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
        here = await self._fresh()
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
        store = (await self._fresh()).store
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
        who = who_of(context)
        here = await self._fresh()
        store, state = here.store, here.state
        if not is_token_name(request.name):
            raise BadTokenRequestError(
                f"{request.name[:60]!r} is no name for a token: write lower-case letters, digits, "
                "dots, dashes and underscores, at most 63, the first a letter or digit"
            )
        lifetime_s = request.lifetime_s or self._lifetime_s
        if not _MIN_LIFETIME_S <= lifetime_s <= self._lifetime_s:
            raise BadTokenRequestError(
                f"a token lives for {_MIN_LIFETIME_S} s to {self._lifetime_s // _DAY_S} days "
                "(admin.token_days), and always ends"
            )
        now_ns = self._now_ns()
        made = new_token(self._random(ID_BYTES + SECRET_BYTES))
        expires_ns = now_ns + lifetime_s * 1_000_000_000
        token = Token(made.id, request.name, made.digest, now_ns, who.name, expires_ns)
        detail = f"{token.name} ({token.id}), good until {_day(expires_ns)}"
        entry = AuditEntry(now_ns, who.name, who.source, "access.create_token", "done", "", detail)
        await store.tokens.add(token, entry, now_ns - _FORGET_NS)
        await state.refresh(now=True)
        return access_pb2.CreateTokenReply(
            token=_token_message(token),
            text=made.text,
            roles=self._roles(state, f"token:{token.name}", ""),
        )

    @override
    async def ListTokens(
        self, request: access_pb2.ListTokensRequest, context: _Context
    ) -> access_pb2.ListTokensReply:
        del request, context
        state = (await self._fresh()).state
        return access_pb2.ListTokensReply(tokens=map(_token_message, state.tokens))

    @override
    async def RevokeToken(
        self, request: access_pb2.RevokeTokenRequest, context: _Context
    ) -> access_pb2.RevokeTokenReply:
        who = who_of(context)
        here = await self._fresh()
        store, state = here.store, here.state
        now_ns = self._now_ns()
        wanted = request.name_or_id.removeprefix("token:")
        found = [each for each in state.tokens if wanted in {each.id, each.name}]
        live = [each for each in found if each.is_live(now_ns)]
        if not live:
            raise NoTokenError(_no_token(wanted, found, state.tokens))
        before = await _has_admin(state.policy, state)
        detail = ", ".join(f"{each.name} ({each.id})" for each in live)
        entry = AuditEntry(now_ns, who.name, who.source, "access.revoke_token", "done", "", detail)
        # Never refused, whoever is left: the reason may be that somebody else has it.
        await store.tokens.revoke([each.id for each in live], entry)
        await state.refresh(now=True)
        after = await _has_admin(state.policy, state)
        return access_pb2.RevokeTokenReply(
            tokens=map(_token_message, live), no_admin_left=before and not after
        )

    async def _fresh(self) -> Administration:
        """Give what roles and tokens stand on, as the store has it now.

        Raises:
            NoStoreError: There is none here.
            StoreUnavailableError: It can't be read.
        """
        here = self._administration
        if here is None:
            raise NoStoreError(
                "roles and tokens are kept in the store, which is not open here: it is with "
                "admin.remote = true or policy.source = 'store'"
            )
        await here.state.refresh(now=True)
        if here.state.fault:
            raise StoreUnavailableError(here.state.fault)
        return here

    async def _make(self, change: _Change) -> policy_pb2.ApplyReply:
        checked_line(change.message, "the message")
        checked_line(change.origin, "the origin")
        here = await self._fresh()
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
        if await _has_admin(state.policy, state) and not await _has_admin(proposed, state):
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

    def _roles(self, state: AccessState, name: str, source: str) -> tuple[str, ...]:
        asked = Question(name, source, _ME, "viewer", self._now_ns())
        return state.policy.decide(asked).roles

    @staticmethod
    def _nearest_member(state: AccessState, name: str) -> str:
        near = difflib.get_close_matches(name, {who for who, _ in state.policy.members()}, n=1)
        return f"did you mean {near[0]}?" if near else ""


async def _has_admin(policy: AdminPolicy, state: AccessState) -> bool:
    """Whether anybody could change a policy from elsewhere; aside, since it asks for each name."""
    return bool(await asyncio.to_thread(policy.admins, state.live_names()))


async def _refuse(refusals: Refusals, change: _Change) -> None:
    why = (
        "this would leave nobody with the role admin who can come in: give it to somebody else "
        "first. To keep all remote callers out, set admin.remote = false; the local owner may do "
        "everything either way"
    )
    await refusals.note(change.who.name, change.who.source, change.action, "no admin would be left")
    raise LastAdminError(why)


def _no_token(wanted: str, found: Sequence[Token], tokens: Sequence[Token]) -> str:
    if found:
        return f"no token {wanted!r} is live: it has expired or was revoked before"
    near = difflib.get_close_matches(wanted, {each.name for each in tokens}, n=1)
    return f"there is no token {wanted[:60]!r}{f'; did you mean {near[0]}?' if near else ''}"


def _token_message(token: Token) -> access_pb2.Token:
    return access_pb2.Token(
        id=token.id,
        name=token.name,
        created_ns=token.created_ns,
        created_by=token.created_by,
        expires_ns=token.expires_ns,
        revoked_ns=token.revoked_ns,
        used_ns=token.used_ns,
    )


def _day(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M}Z"
