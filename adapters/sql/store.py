"""Revisions in a database, through SQLAlchemy; what differs between databases is in `Dialect`."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import RowMapping, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from typing_extensions import override

from adapters.sql.audit import audit_columns
from adapters.sql.connections import TIMEOUT_S, Transactions
from adapters.sql.replicas import SqlReplicaBoard
from adapters.sql.tables import AUDIT, REVISION
from adapters.sql.tokens import SqlTokenStore
from authz.admin_tokens import TokenStore
from authz.policy.rules import PolicyText
from authz.replicas import ReplicaBoard
from authz.revisions import (
    AuditEntry,
    ConflictError,
    Draft,
    NewerFormatError,
    NoRevisionError,
    Revision,
    RevisionStore,
    StoreUnavailableError,
)

__all__ = ["SqlRevisionStore"]

_FORMAT = 1
_LOOK_TIMEOUT_S = 2.0
# A body inflates to at most this: a damaged or hostile row must not take the memory of control.
_BODY_BYTES = 1 << 30
_SUMMARY = [column for column in REVISION.c if column.name not in {"format", "body"}]


class _Body(msgspec.Struct, frozen=True):
    """What a revision's body holds, compressed."""

    text: PolicyText
    bind: dict[str, str]


class SqlRevisionStore(RevisionStore):
    """Keeps revisions in one database.

    Args:
        engine: SQLAlchemy's engine.
        watch: Yields when there may be something new.
        notify: Run inside the transaction of a commit, to wake those who watch.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        watch: Callable[[], AsyncIterator[None]],
        notify: Callable[[AsyncConnection], Awaitable[None]],
    ) -> None:
        self._transactions = Transactions(engine, StoreUnavailableError)
        self._watch = watch
        self._notify = notify

    @override
    async def head(self, stream: str) -> Revision | None:
        # Asked at each look by those who watch: on a connection that went silent unnoticed, they
        # must not wait as long as one who writes may.
        is_remote = self._transactions.dialect == "postgresql"
        limit_s = _LOOK_TIMEOUT_S if is_remote else TIMEOUT_S
        found = await self._transactions.read(_history(stream, 1), limit_s)
        return found[0] if found else None

    @override
    async def history(
        self, stream: str, limit: int, before: int = 0, after: int = 0
    ) -> Sequence[Revision]:
        return await self._transactions.read(_history(stream, limit, before, after))

    @override
    async def read(self, stream: str, number: int) -> tuple[Revision, Draft]:
        wanted = select(REVISION).where(REVISION.c.stream == stream, REVISION.c.number == number)

        async def run(connection: AsyncConnection) -> RowMapping | None:
            return (await connection.execute(wanted)).mappings().first()

        row = await self._transactions.read(run)
        if row is None:
            raise NoRevisionError(f"there is no revision {number} of {stream!r}")
        if row["format"] > _FORMAT:
            raise NewerFormatError(
                f"revision {number} of {stream!r} is of format {row['format']}, written by a newer "
                f"version of the program; this one reads up to {_FORMAT}"
            )
        revision = _revision(row)
        body = await asyncio.to_thread(_unpacked, row["body"], f"revision {number} of {stream!r}")
        draft = Draft(
            text=body.text,
            digest=revision.digest,
            author=revision.author,
            message=revision.message,
            origin=revision.origin,
            bind=body.bind,
            added=revision.added,
            removed=revision.removed,
        )
        return revision, draft

    @override
    async def commit(self, stream: str, parent: int, draft: Draft, audit: AuditEntry) -> Revision:
        revision = Revision(
            stream=stream,
            number=parent + 1,
            parent=parent,
            author=draft.author,
            created_ns=audit.time_ns,
            message=draft.message,
            digest=draft.digest,
            origin=draft.origin,
            rows=len(draft.text.rows),
            added=draft.added,
            removed=draft.removed,
        )
        body = await asyncio.to_thread(_packed, draft)
        values = {**_columns(revision), "format": _FORMAT, "body": body}
        trail = {**audit_columns(audit), "revision": f"{stream}/{revision.number}"}

        async def run(connection: AsyncConnection) -> None:
            newest = select(REVISION.c.number).where(REVISION.c.stream == stream)
            newest = newest.order_by(REVISION.c.number.desc()).limit(1)
            if ((await connection.execute(newest)).scalar() or 0) != parent:
                raise _StaleError
            await connection.execute(REVISION.insert(), values)
            await connection.execute(AUDIT.insert(), trail)
            await self._notify(connection)

        try:
            await self._transactions.run(run)
        except (_StaleError, IntegrityError) as error:
            other = await self.head(stream)
            if other is None or other.number <= parent:
                raise NoRevisionError(f"there is no revision {parent} of {stream!r}") from error
            raise ConflictError(other) from error
        return revision

    @override
    async def record(self, entry: AuditEntry) -> None:
        async def run(connection: AsyncConnection) -> None:
            await connection.execute(AUDIT.insert(), audit_columns(entry))

        await self._transactions.run(run)

    @override
    async def audit(self, limit: int) -> Sequence[AuditEntry]:
        wanted = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)

        async def run(connection: AsyncConnection) -> list[AuditEntry]:
            rows = (await connection.execute(wanted)).mappings()
            return [
                AuditEntry(**{name: value for name, value in row.items() if name != "id"})
                for row in rows
            ]

        return await self._transactions.read(run)

    @override
    def changes(self) -> AsyncIterator[None]:
        return self._watch()

    @property
    @override
    def replicas(self) -> ReplicaBoard:
        return SqlReplicaBoard(self._transactions.run)

    @property
    @override
    def tokens(self) -> TokenStore:
        return SqlTokenStore(self._transactions.run, self._transactions.read)

    @override
    async def close(self) -> None:
        await self._transactions.close()


def _history(
    stream: str, limit: int, before: int = 0, after: int = 0
) -> Callable[[AsyncConnection], Awaitable[list[Revision]]]:
    """Read summaries, newest first."""
    wanted = select(*_SUMMARY).where(REVISION.c.stream == stream, REVISION.c.number > after)
    if before:
        wanted = wanted.where(REVISION.c.number < before)
    wanted = wanted.order_by(REVISION.c.number.desc()).limit(limit)

    async def run(connection: AsyncConnection) -> list[Revision]:
        rows = (await connection.execute(wanted)).mappings()
        return [_revision(row) for row in rows]

    return run


class _StaleError(Exception):
    """The parent is no longer the newest."""


def _packed(draft: Draft) -> bytes:
    return zlib.compress(msgspec.json.encode(_Body(draft.text, dict(draft.bind))), level=1)


def _unpacked(body: bytes, what: str) -> _Body:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, _BODY_BYTES)
        if not inflater.eof:
            raise StoreUnavailableError(f"{what} is damaged: it is too large or cut short")
        return msgspec.json.decode(data, type=_Body)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise StoreUnavailableError(f"{what} is damaged: {error}") from error


def _revision(row: RowMapping) -> Revision:
    return Revision(
        stream=row["stream"],
        number=row["number"],
        parent=row["parent"],
        author=row["author"],
        created_ns=row["created_ns"],
        message=row["message"],
        digest=row["digest"],
        origin=row["origin"],
        rows=row["row_count"],
        added=row["added"],
        removed=row["removed"],
    )


def _columns(revision: Revision) -> Mapping[str, Any]:
    return {
        "stream": revision.stream,
        "number": revision.number,
        "parent": revision.parent,
        "author": revision.author,
        "created_ns": revision.created_ns,
        "message": revision.message,
        "digest": revision.digest,
        "origin": revision.origin,
        "row_count": revision.rows,
        "added": revision.added,
        "removed": revision.removed,
    }
