"""`meshwarden status` and `reload` of a service on another machine, in the words of this one's."""

from pathlib import Path
from typing import Any

from meshwarden import clock
from meshwarden.cli.policy_client import admin_service
from meshwarden.errors import SupervisorError
from meshwarden.status import EntriesState, IdentityState, entries_answer, identity_answer
from protos.meshwarden.v1 import admin_pb2, admin_pb2_grpc, live_pb2, live_pb2_grpc

__all__ = ["ask_elsewhere", "entries_of", "identity_of"]

# The service on this machine is not asked: its folder is of no interest.
_NOWHERE = Path()


def ask_elsewhere(op: str, timeout_s: float) -> dict[str, Any]:
    """Ask the service that the command's options have chosen.

    Args:
        op: "status" or "reload".
        timeout_s: Longest wait for each answer, in seconds.

    Returns:
        What the supervisor of a service on this machine would answer.

    Raises:
        SupervisorError: It can't be reached, or it says no.
    """
    return _status(timeout_s) if op == "status" else _reload(timeout_s)


def _status(timeout_s: float) -> dict[str, Any]:
    with admin_service(_NOWHERE, admin_pb2_grpc.AdminStub) as admin:
        reply = admin.Status(admin_pb2.StatusRequest(), timeout=timeout_s)
    with admin_service(_NOWHERE, live_pb2_grpc.LiveStub) as live:
        known = live.Replicas(live_pb2.ReplicasRequest(), timeout=timeout_s)
    now_ns = clock.now_ns()
    return {
        "ready": reply.ready,
        "policy": {
            "digest": reply.digest,
            "rules": reply.rule_count,
            "revision": reply.revision,
            "source": reply.source,
            "version": reply.source_version,
            "age_s": _age_s(now_ns, reply.loaded_at_ns) if reply.digest else None,
            "restored": reply.restored,
            "errors": list(reply.errors),
            "failing_for_s": _age_s(now_ns, reply.failed_at_ns) if reply.failed_at_ns else 0,
        },
        "identity": identity_of(reply, now_ns),
        "entries": entries_of(reply, now_ns),
        "processes": [
            {
                "kind": each.kind,
                "name": each.name,
                "pid": each.pid,
                "epoch": each.epoch,
                "ready": each.ready,
                "digest": each.digest,
                "rules": each.rule_count,
                "age_s": round(each.age_s, 1),
                "error": each.last_error,
            }
            for each in reply.processes
        ],
        "replicas": [_replica(each, now_ns) for each in known.replicas],
        "replicas_error": known.error,
    }


def _reload(timeout_s: float) -> dict[str, Any]:
    with admin_service(_NOWHERE, admin_pb2_grpc.AdminStub) as admin:
        reply = admin.Reload(admin_pb2.ReloadRequest(), timeout=timeout_s)
    if reply.accepted:
        return {"digest": reply.digest, "rules": reply.rule_count}
    still = f"policy {reply.digest[:12]} stays in force" if reply.digest else "no policy"
    said = {"errors": list(reply.errors), "digest": reply.digest}
    raise SupervisorError("\n".join((*reply.errors, still)), said)


def _replica(each: live_pb2.Replica, now_ns: int) -> dict[str, Any]:
    return {
        "id": each.id,
        "host": each.host,
        "address": each.address,
        "version": each.version,
        "revision": each.revision,
        "digest": each.digest,
        "age_s": _age_s(now_ns, each.loaded_ns) if each.digest else None,
        "error": each.error,
        "up_s": _age_s(now_ns, each.started_ns),
        "seen_s_ago": round(each.seen_s_ago, 1),
        "stale": each.is_stale,
    }


def entries_of(reply: admin_pb2.StatusReply, now_ns: int) -> dict[str, Any] | None:
    """Say how the declared entries are, as the supervisor does; None where there are none."""
    if not reply.HasField("entries"):
        return None
    told = reply.entries
    errors = tuple(told.errors)
    state = EntriesState(told.source, told.count, told.taken_ns, errors, told.failed_ns)
    return entries_answer(state, now_ns)


def identity_of(reply: admin_pb2.StatusReply, now_ns: int) -> dict[str, Any] | None:
    """Say how the authority is, as the supervisor does; None where there is none."""
    if not reply.HasField("identity"):
        return None
    told = reply.identity
    state = IdentityState(
        told.trust_domain,
        told.entries,
        told.agents,
        told.waits,
        told.first_name,
        told.first_ends_ns,
    )
    return identity_answer(state, now_ns)


def _age_s(now_ns: int, then_ns: int) -> float:
    return round((now_ns - then_ns) / 1e9, 1)
