"""Over gRPC: the policy in force, how the replicas are, and the candidate beside the policy."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
from typing_extensions import override

from authz.errors import NoPolicyError
from authz.policy.errors import PolicyError
from authz.replicas import STALE_S, ShadowCounts
from authz.revisions import NoRevisionError, RevisionStore
from meshwarden import clock, publication, shadow, status
from meshwarden.control.shadow import ShadowKeeper
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.store_source import STREAM
from meshwarden.control.who import who_of
from meshwarden.errors import FunctionModuleError
from meshwarden.policy_messages import text_from, text_message
from protos.meshwarden.v1 import live_pb2, live_pb2_grpc, shadow_pb2, shadow_pb2_grpc
from telemetry.record import DecisionRecord
from telemetry.sink import ArchiveUnavailableError, DecisionArchive, Search

__all__ = ["LiveService", "ShadowService"]

_Context = grpc.aio.ServicerContext[Any, Any]
_DEFAULT_EXAMPLES = 5
_MAX_EXAMPLES = 100
# Looked through for those of one candidate: others' come before its own only if it is new.
_SEARCHED = 1000


class LiveService(live_pb2_grpc.LiveServicer):
    """Tells what is in force."""

    def __init__(self, state_dir: Path, replicas: Callable[[], status.Replicas]) -> None:
        """Tell of one instance.

        Args:
            state_dir: Where its policy is published.
            replicas: How it and the others are.
        """
        self._state_dir = state_dir
        self._replicas = replicas

    @override
    async def Get(self, request: live_pb2.GetLiveRequest, context: _Context) -> live_pb2.LivePolicy:
        try:
            found = await asyncio.to_thread(publication.load, self._state_dir)
        except (FileNotFoundError, publication.BrokenPublicationError) as error:
            raise NoPolicyError("no policy is in force here yet") from error
        return live_pb2.LivePolicy(
            text=text_message(found.text),
            bind=found.bind,
            digest=found.digest,
            source=found.source,
            revision=found.revision,
            published_ns=found.published_ns,
        )

    @override
    async def Replicas(
        self, request: live_pb2.ReplicasRequest, context: _Context
    ) -> live_pb2.ReplicasReply:
        known = self._replicas()
        older_s = max(0.0, (clock.now_ns() - known.read_ns) / 1e9) if known.read_ns else 0.0
        return live_pb2.ReplicasReply(
            replicas=[
                live_pb2.Replica(
                    id=each.id,
                    host=each.host,
                    address=each.address,
                    version=each.version,
                    revision=each.revision,
                    digest=each.digest,
                    loaded_ns=each.loaded_ns,
                    error=each.error,
                    started_ns=each.started_ns,
                    seen_s_ago=each.seen_s_ago + older_s,
                    is_stale=each.seen_s_ago + older_s > STALE_S,
                )
                for each in known.replicas
            ],
            error=known.error,
            read_ns=known.read_ns,
        )


class ShadowService(shadow_pb2_grpc.ShadowServicer):
    """Sets, shows and takes away the candidate."""

    def __init__(
        self,
        keeper: ShadowKeeper,
        store: RevisionStore | None,
        publisher: PolicyPublisher,
        archive: DecisionArchive | None,
        replicas: Callable[[], status.Replicas],
    ) -> None:
        """Serve one instance.

        Args:
            keeper: Keeps the candidate.
            store: Where revisions are; None when policy comes from elsewhere.
            publisher: Of the policy in force.
            archive: Where decisions are found again; None where no sink of the settings can.
            replicas: How this one and the others are.
        """
        self._keeper = keeper
        self._store = store
        self._publisher = publisher
        self._archive = archive
        self._replicas = replicas

    @override
    async def Set(
        self, request: shadow_pb2.SetShadowRequest, context: _Context
    ) -> shadow_pb2.SetShadowReply:
        text, origin = text_from(request.text), request.origin
        if request.WhichOneof("candidate") == "revision":
            if self._store is None:
                raise NoRevisionError("policy doesn't come from the store here: name a folder")
            _, draft = await self._store.read(STREAM, request.revision)
            text, origin = draft.text, f"revision {request.revision}"
        try:
            made = await self._keeper.set(text, origin, request.message, who_of(context))
        except PolicyError as error:
            return shadow_pb2.SetShadowReply(errors=[str(fault) for fault in error.faults])
        except FunctionModuleError as error:
            return shadow_pb2.SetShadowReply(errors=str(error).splitlines())
        return shadow_pb2.SetShadowReply(candidate=_candidate(made))

    @override
    async def Show(
        self, request: shadow_pb2.ShowShadowRequest, context: _Context
    ) -> shadow_pb2.ShowShadowReply:
        found = self._keeper.candidate
        reply = shadow_pb2.ShowShadowReply(
            errors=self._keeper.errors, live_digest=self._publisher.state.digest
        )
        if found is None:
            return reply
        reply.candidate.CopyFrom(_candidate(found))
        reply.counts.CopyFrom(_counts(self._keeper.counts))
        reply.replicas.extend(
            shadow_pb2.ReplicaCounts(
                host=each.host, address=each.address, counts=_counts(each.shadow)
            )
            for each in self._replicas().replicas
            if each.shadow.digest == found.digest
        )
        limit = min(request.examples or _DEFAULT_EXAMPLES, _MAX_EXAMPLES)
        if self._archive is None:
            reply.no_examples = "decisions.sinks names none that can be searched"
        else:
            try:
                examples = await asyncio.to_thread(_examples, self._archive, found, limit)
            except ArchiveUnavailableError as error:
                reply.no_examples = str(error)
            else:
                reply.examples.extend(map(_example, examples))
        if request.with_text:
            text = await asyncio.to_thread(self._keeper.text)
            if text is not None:
                reply.text.CopyFrom(text_message(text))
        return reply

    @override
    async def Stop(
        self, request: shadow_pb2.StopShadowRequest, context: _Context
    ) -> shadow_pb2.StopShadowReply:
        before = await self._keeper.stop(request.digest, who_of(context))
        return shadow_pb2.StopShadowReply(candidate=_candidate(before) if before else None)


def _examples(
    archive: DecisionArchive, candidate: shadow.Candidate, limit: int
) -> list[DecisionRecord]:
    found = []
    for verdict in ("would_deny", "would_allow"):
        wanted = Search(verdict=verdict, since_ns=candidate.set_ns, limit=_SEARCHED)
        records = [each.record for each in archive.search(wanted)]
        found += [each for each in records if each.digest == candidate.digest][-limit:]
    return found


def _candidate(candidate: shadow.Candidate) -> shadow_pb2.Candidate:
    return shadow_pb2.Candidate(
        digest=candidate.digest,
        rules=candidate.rules,
        author=candidate.author,
        origin=candidate.origin,
        message=candidate.message,
        set_ns=candidate.set_ns,
        is_fixed=candidate.is_fixed,
    )


def _counts(counts: ShadowCounts) -> shadow_pb2.ShadowCounts:
    return shadow_pb2.ShadowCounts(
        same=counts.same, would_allow=counts.would_allow, would_deny=counts.would_deny
    )


def _example(record: DecisionRecord) -> shadow_pb2.Example:
    rule = f"{record.rule_file}:{record.rule_line}" if record.rule_file else record.rule_text
    return shadow_pb2.Example(
        id=record.id,
        time_ns=record.time_ns,
        verdict=record.verdict,
        principal=record.principal,
        user=record.user,
        service=record.service,
        method=record.method,
        path=record.path,
        rule=rule,
        reason=record.reason,
    )
