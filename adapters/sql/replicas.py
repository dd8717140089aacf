"""The board on which replicas say how they are: one row each, by the database's clock."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import BigInteger, RowMapping, literal_column, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from adapters.sql.tables import REPLICA
from authz.replicas import Replica, ReplicaBoard, ShadowCounts
from authz.revisions import StoreUnavailableError

__all__ = ["SqlReplicaBoard"]

_Result = TypeVar("_Result")
# Replicas' own clocks may differ by minutes: ages are told by the one clock that all share.
_NOW_NS = {
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS bigint)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000000 AS INTEGER)",
}
_MAX_ERROR_CHARACTERS = 2000


class _InTransaction(Protocol):
    def __call__(
        self, run: Callable[[AsyncConnection], Awaitable[_Result]], /
    ) -> Awaitable[_Result]: ...


class SqlReplicaBoard(ReplicaBoard):
    """Keeps the board beside the revisions.

    Args:
        in_transaction: Does something whole or not at all, within a time-out, and translates what
            goes wrong.
    """

    def __init__(self, in_transaction: _InTransaction) -> None:
        self._in_transaction = in_transaction

    @override
    async def beat(self, replica: Replica, forget_after_s: float) -> Sequence[Replica]:
        async def run(connection: AsyncConnection) -> list[Replica]:
            now = literal_column(_NOW_NS[connection.dialect.name], BigInteger)
            now_ns: int = (await connection.execute(select(now))).scalar_one()
            oldest_ns = now_ns - int(forget_after_s * 1e9)
            await connection.execute(
                REPLICA.delete().where(
                    (REPLICA.c.id == replica.id) | (REPLICA.c.seen_ns < oldest_ns)
                )
            )
            await connection.execute(REPLICA.insert(), _columns(replica, now_ns))
            wanted = select(REPLICA).order_by(REPLICA.c.host, REPLICA.c.address, REPLICA.c.id)
            rows = (await connection.execute(wanted)).mappings()
            return [_replica(row, now_ns) for row in rows]

        try:
            return await self._in_transaction(run)
        except IntegrityError as error:
            raise StoreUnavailableError(
                f"two replicas say at once that they are {replica.id}: was one's state directory "
                "copied? Each needs its own"
            ) from error

    @override
    async def leave(self, replica_id: str) -> None:
        async def run(connection: AsyncConnection) -> None:
            await connection.execute(REPLICA.delete().where(REPLICA.c.id == replica_id))

        await self._in_transaction(run)


def _columns(replica: Replica, now_ns: int) -> Mapping[str, Any]:
    return {
        "id": replica.id,
        "host": replica.host,
        "address": replica.address,
        "version": replica.version,
        "revision": replica.revision,
        "digest": replica.digest,
        "loaded_ns": replica.loaded_ns,
        # PostgreSQL's text holds anything but this.
        "error": replica.error.replace("\0", "")[:_MAX_ERROR_CHARACTERS],
        "started_ns": replica.started_ns,
        "seen_ns": now_ns,
        "shadow_digest": replica.shadow.digest,
        "shadow_same": replica.shadow.same,
        "shadow_would_allow": replica.shadow.would_allow,
        "shadow_would_deny": replica.shadow.would_deny,
    }


def _replica(row: RowMapping, now_ns: int) -> Replica:
    return Replica(
        id=row["id"],
        host=row["host"],
        address=row["address"],
        version=row["version"],
        revision=row["revision"],
        digest=row["digest"],
        loaded_ns=row["loaded_ns"],
        error=row["error"],
        started_ns=row["started_ns"],
        seen_s_ago=max(0.0, (now_ns - row["seen_ns"]) / 1e9),
        shadow=ShadowCounts(
            row["shadow_digest"],
            row["shadow_same"],
            row["shadow_would_allow"],
            row["shadow_would_deny"],
        ),
    )
