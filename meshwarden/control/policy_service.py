"""Revisions over gRPC: checked whole before one is made, and in force when the answer comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc.aio
from typing_extensions import override

from authz.authoring.diff import changes, count_lines
from authz.errors import AuthzError
from authz.policy.errors import PolicyError
from authz.policy.rules import PolicyText
from authz.policy.snapshot import Snapshot
from authz.revisions import (
    AuditEntry,
    Draft,
    NewerFormatError,
    NoRevisionError,
    Revision,
    RevisionStore,
)
from meshwarden.control.source import PolicyPublisher, Proven
from meshwarden.control.store_source import STREAM
from meshwarden.control.who import Who, who_of
from meshwarden.errors import FunctionModuleError
from meshwarden.follower import build_text
from meshwarden.policy_messages import (
    checked_line,
    limit_of,
    number_of,
    revision_message,
    row_faults,
    row_message,
    text_from,
    text_message,
)
from meshwarden.settings import Settings
from protos.meshwarden.v1 import policy_pb2, policy_pb2_grpc

__all__ = ["PolicyService"]

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """What somebody wants to be the next revision; nothing of it is checked yet."""

    who: Who
    action: str
    text: PolicyText
    message: str
    origin: str
    parent: int | None


class PolicyService(policy_pb2_grpc.PolicyServicer):
    """The Policy service of one instance; who may call what is judged before it is called."""

    def __init__(
        self,
        settings: Settings,
        store: RevisionStore | None,
        trail: RevisionStore | None,
        publisher: PolicyPublisher,
        now_ns: Callable[[], int],
    ) -> None:
        """Serve one store.

        Args:
            settings: How policy is built.
            store: Where revisions are kept; None when policy comes from elsewhere.
            trail: Keeps the audit trail; None where no store is open.
            publisher: Puts a new revision in force.
            now_ns: The time.
        """
        self._settings = settings
        self._store = store
        self._trail = trail
        self._publisher = publisher
        self._now_ns = now_ns

    @override
    async def Apply(
        self, request: policy_pb2.ApplyRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        store = await self._ready(context)
        text = text_from(request.text)
        faults = row_faults(text.rows)
        if faults:
            return policy_pb2.ApplyReply(errors=faults)
        parent = request.parent if request.HasField("parent") else None
        return await self._make(
            context,
            store,
            _Proposal(
                who_of(context), "policy.apply", text, request.message, request.origin, parent
            ),
            dry_run=request.dry_run,
        )

    @override
    async def Rollback(
        self, request: policy_pb2.RollbackRequest, context: _Context
    ) -> policy_pb2.ApplyReply:
        store = await self._ready(context)
        try:
            _, draft = await store.read(STREAM, number_of(request.number))
        except AuthzError as error:
            await _abort(context, error)
        message = request.message or f"Back to revision {request.number}"
        origin = f"revision {request.number}"
        parent = request.parent if request.HasField("parent") else None
        who = who_of(context)
        proposal = _Proposal(who, "policy.rollback", draft.text, message, origin, parent)
        return await self._make(context, store, proposal, dry_run=False)

    @override
    async def Get(self, request: policy_pb2.GetRequest, context: _Context) -> policy_pb2.GetReply:
        store = await self._ready(context)
        try:
            number = number_of(request.number)
            if not number:
                head = await store.head(STREAM)
                if head is None:
                    raise NoRevisionError("there is no revision yet")
                number = head.number
            revision, draft = await store.read(STREAM, number)
        except AuthzError as error:
            await _abort(context, error)
        return policy_pb2.GetReply(
            revision=revision_message(revision), text=text_message(draft.text)
        )

    @override
    async def Diff(
        self, request: policy_pb2.DiffRequest, context: _Context
    ) -> policy_pb2.DiffReply:
        store = await self._ready(context)
        reply = policy_pb2.DiffReply()
        try:
            head = await store.head(STREAM)
            if head is None:
                raise NoRevisionError("there is no revision yet")
            revision, draft = await store.read(STREAM, number_of(request.number) or head.number)
            before = number_of(request.base) if request.HasField("base") else revision.parent
            old: PolicyText | None = None
            if before:
                base, base_draft = await store.read(STREAM, before)
                old = base_draft.text
                reply.base.CopyFrom(revision_message(base))
        except AuthzError as error:
            await _abort(context, error)
        reply.revision.CopyFrom(revision_message(revision))
        reply.model_changed = old is not None and old.model != draft.text.model
        rows = old.rows if old else ()
        for change in await asyncio.to_thread(changes, rows, draft.text.rows):
            told = reply.changes.add()
            if change.old is not None:
                told.old.CopyFrom(row_message(change.old))
            if change.new is not None:
                told.new.CopyFrom(row_message(change.new))
        return reply

    @override
    async def History(
        self, request: policy_pb2.HistoryRequest, context: _Context
    ) -> policy_pb2.HistoryReply:
        store = await self._ready(context)
        try:
            found = await store.history(
                STREAM, limit_of(request.limit), number_of(request.before), number_of(request.after)
            )
        except AuthzError as error:
            await _abort(context, error)
        return policy_pb2.HistoryReply(revisions=[revision_message(each) for each in found])

    @override
    async def Audit(
        self, request: policy_pb2.AuditRequest, context: _Context
    ) -> policy_pb2.AuditReply:
        trail = self._trail or await self._ready(context)
        try:
            found = await trail.audit(limit_of(request.limit))
        except AuthzError as error:
            await _abort(context, error)
        return policy_pb2.AuditReply(
            entries=[
                policy_pb2.AuditEntry(
                    time_ns=each.time_ns,
                    who=each.who,
                    source=each.source,
                    action=each.action,
                    outcome=each.outcome,
                    revision=each.revision,
                    detail=each.detail,
                )
                for each in found
            ]
        )

    async def _ready(self, context: _Context) -> RevisionStore:
        if self._store is None:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"policy comes from {self._settings.policy.source!r} here, which has no revisions; "
                "policy.source = 'store' has them",
            )
            raise AssertionError("abort always raises")
        return self._store

    async def _make(
        self, context: _Context, store: RevisionStore, proposal: _Proposal, *, dry_run: bool
    ) -> policy_pb2.ApplyReply:
        checked_line(proposal.message, "the message")
        checked_line(proposal.origin, "the origin")
        try:
            # Step 1: build it, by the code that decides. What doesn't build never gets further.
            snapshot = await asyncio.to_thread(self._built, proposal.text)
        except PolicyError as error:
            return policy_pb2.ApplyReply(errors=[str(fault) for fault in error.faults])
        except (AuthzError, FunctionModuleError) as error:
            return policy_pb2.ApplyReply(errors=str(error).splitlines())
        reply = policy_pb2.ApplyReply(digest=snapshot.digest, rule_count=snapshot.rule_count)
        try:
            head = await store.head(STREAM)
            current = await _text_of(store, head)
            reply.unchanged = (
                head is not None and head.digest == snapshot.digest and current == proposal.text
            )
            if reply.unchanged or dry_run:
                return reply
            # Step 2: the store takes it with its audit entry, or neither.
            newest = head.number if head else 0
            seen = newest if proposal.parent is None else proposal.parent
            counts: tuple[int | None, int | None] = (None, None)
            if current is not None:
                counts = await asyncio.to_thread(count_lines, current.rows, proposal.text.rows)
            revision = await self._commit(store, proposal, snapshot.digest, seen, counts)
        except AuthzError as error:
            await _abort(context, error)
        # Step 3: put it in force here; other replicas notice it by themselves.
        built = Proven(proposal.text, snapshot.digest, snapshot.rule_count)
        await self._publisher.load(built)
        reply.revision.CopyFrom(revision_message(revision))
        return reply

    async def _commit(
        self,
        store: RevisionStore,
        proposal: _Proposal,
        digest: str,
        parent: int,
        counts: tuple[int | None, int | None],
    ) -> Revision:
        draft = Draft(
            text=proposal.text,
            digest=digest,
            author=proposal.who.name,
            message=proposal.message,
            origin=proposal.origin,
            bind=self._settings.policy.bind,
            added=counts[0],
            removed=counts[1],
        )
        audit = AuditEntry(
            self._now_ns(),
            proposal.who.name,
            proposal.who.source,
            proposal.action,
            "done",
            "",
            proposal.message,
        )
        return await store.commit(STREAM, parent, draft, audit)

    def _built(self, text: PolicyText) -> Snapshot:
        return build_text(text, self._settings.policy.bind, self._settings).snapshot


async def _text_of(store: RevisionStore, head: Revision | None) -> PolicyText | None:
    """The policy that the next revision differs from; None where only a newer program knows it."""
    if head is None:
        return PolicyText("", ())
    try:
        return (await store.read(STREAM, head.number))[1].text
    except NewerFormatError:
        # It can still be replaced by one that can be read.
        return None


async def _abort(context: _Context, error: AuthzError) -> NoReturn:
    """Answer with the error's own code; never returns."""
    await context.abort(getattr(grpc.StatusCode, error.code), str(error))
    raise AssertionError("abort always raises")
