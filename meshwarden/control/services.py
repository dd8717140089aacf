"""What control answers on its sockets, each service as thin as the message it speaks."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
from typing_extensions import override

from authz.audit import AuditEntry
from authz.revisions import RevisionStore
from meshwarden import status
from meshwarden.caller import caller_of
from meshwarden.control.decision_log import DecisionLog
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.who import who_of
from protos.meshwarden.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    internal_pb2,
    internal_pb2_grpc,
)

__all__ = ["AdminService", "IdentityService", "InternalService"]

_Context = grpc.aio.ServicerContext[Any, Any]


class IdentityService(identity_pb2_grpc.IdentityServicer):
    """Public: tells a caller who it is to us."""

    @override
    async def WhoAmI(
        self, request: identity_pb2.WhoAmIRequest, context: _Context
    ) -> identity_pb2.WhoAmIReply:
        del request
        caller = caller_of(context.invocation_metadata() or ())
        return identity_pb2.WhoAmIReply(
            spiffe_id=caller.spiffe_id,
            principal=caller.principal,
            source_ip=caller.source_ip,
            tls=caller.tls,
        )


class AdminService(admin_pb2_grpc.AdminServicer):
    """Status and reload, for the owner and those who have a role."""

    def __init__(
        self,
        publisher: PolicyPublisher,
        runtime_dir: Path,
        trail: RevisionStore | None,
        now_ns: Callable[[], int],
    ) -> None:
        """Serve one instance.

        Args:
            publisher: Where policy comes from.
            runtime_dir: Where processes write their status.
            trail: Keeps the audit trail; None where no store is open.
            now_ns: The time.
        """
        self._publisher = publisher
        self._runtime_dir = runtime_dir
        self._trail = trail
        self._now_ns = now_ns

    @override
    async def Status(
        self, request: admin_pb2.StatusRequest, context: _Context
    ) -> admin_pb2.StatusReply:
        del request, context
        load = self._publisher.state
        now_ns = self._now_ns()
        processes = status.read_all(self._runtime_dir)
        return admin_pb2.StatusReply(
            version=version("meshwarden"),
            # Control, which this is, decides nothing: what it last wrote of itself may be older.
            ready=bool(processes)
            and all(
                each.ready and (each.kind == "control" or each.digest == load.digest)
                for each in processes
            ),
            digest=load.digest,
            rule_count=load.rules,
            loaded_at_ns=load.published_ns,
            restored=load.restored,
            errors=load.errors,
            failed_at_ns=load.failed_ns,
            revision=load.revision,
            source=load.source,
            source_version=load.version,
            entries=_entries(status.read_entries(self._runtime_dir)),
            identity=_identity(status.read_identity(self._runtime_dir)),
            processes=[
                admin_pb2.ProcessStatus(
                    kind=each.kind,
                    pid=each.pid,
                    epoch=each.epoch,
                    digest=each.digest,
                    ready=each.ready,
                    age_s=(now_ns - each.started_ns) / 1e9,
                    last_error=each.error,
                    name=each.name,
                    rule_count=each.rules,
                )
                for each in processes
            ],
        )

    @override
    async def Reload(
        self, request: admin_pb2.ReloadRequest, context: _Context
    ) -> admin_pb2.ReloadReply:
        del request
        if self._trail is not None:
            who = who_of(context)
            entry = AuditEntry(self._now_ns(), who.name, who.source, "admin.reload", "done")
            await self._trail.record(entry)
        load = await self._publisher.load()
        if not load.errors:
            await status.until_all_decide_by(self._runtime_dir, load.digest)
        return admin_pb2.ReloadReply(
            accepted=not load.errors,
            digest=load.digest,
            rule_count=load.rules,
            loaded_at_ns=load.published_ns,
            errors=load.errors,
        )


class InternalService(internal_pb2_grpc.InternalServicer):
    """Internal socket: decision records from the fronts."""

    def __init__(self, log: DecisionLog) -> None:
        self._log = log

    @override
    async def Report(
        self, request: internal_pb2.ReportRequest, context: _Context
    ) -> internal_pb2.ReportReply:
        del context
        return internal_pb2.ReportReply(accepted=await self._log.keep(request.lines))


def _identity(state: status.IdentityState | None) -> admin_pb2.IdentityStatus | None:
    if state is None:
        return None
    return admin_pb2.IdentityStatus(
        trust_domain=state.trust_domain,
        entries=state.entries,
        agents=state.agents,
        waits=state.waits,
        first_name=state.first_name,
        first_ends_ns=state.first_ends_ns,
    )


def _entries(state: status.EntriesState | None) -> admin_pb2.DeclaredEntries | None:
    if state is None:
        return None
    return admin_pb2.DeclaredEntries(
        source=state.source,
        count=state.count,
        taken_ns=state.taken_ns,
        errors=state.errors,
        failed_ns=state.failed_ns,
    )
