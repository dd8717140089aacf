"""Entries, agents and join tokens in a database."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, delete, not_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from adapters.identity.audit import record
from adapters.identity.database import Database, open_database
from adapters.identity.registry_rows import (
    agent_columns,
    agent_of,
    entry_columns,
    entry_of,
    fingerprint_of,
    token_columns,
    token_of,
)
from adapters.sql.registry_tables import AGENT, ENTRY, JOIN_TOKEN, REGISTRY, REMOVED
from ca.attestation import AttestationError
from ca.entries import API, Entry
from ca.registry import (
    AgentRecord,
    Audit,
    BannedAgentError,
    Changes,
    DuplicateEntryError,
    JoinToken,
    NoSuchAgentError,
    NoSuchEntryError,
    NoSuchTokenError,
    NotBannedError,
    RegistryStore,
    TokenRefusal,
)

__all__ = ["SqlRegistryStore", "open_registry"]

_CHANNEL = "meshwarden_registry"
_UNKNOWN = "the join token is unknown, was revoked, or ended with its agent's eviction"
_PROBE = "SELECT version FROM meshwarden_registry"
# How long it is remembered that something was removed, for replicas that were away.
_REMEMBERED_NS = 3600 * 1_000_000_000
# How long an expired token is shown.
_SHOWN_NS = 24 * _REMEMBERED_NS
# Values that one statement takes: SQLite before 3.32 took 999.
_CHUNK = 500
# Agents forgotten in one transaction, and named by the trail.
_FORGOTTEN, _NAMED = 1000, 3


def open_registry(url: str, file: Path) -> RegistryStore:
    """Open the registry in PostgreSQL, or without a URL in an SQLite file."""
    return SqlRegistryStore(open_database(url, file, _CHANNEL))


class SqlRegistryStore(RegistryStore):
    """Keeps the registry in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def changes(self, since: int) -> Changes:
        async def run(connection: AsyncConnection) -> Changes:
            # First of all: what is written meanwhile is then read twice, never missed.
            row = (await connection.execute(select(REGISTRY))).mappings().one()
            whole = since == 0 or since < row["horizon"] or since > row["version"]
            after = 0 if whole else since
            entries = await _rows(connection, select(ENTRY).where(ENTRY.c.version > after))
            agents = await _rows(connection, select(AGENT).where(AGENT.c.version > after))
            removed: Sequence[RowMapping] = ()
            if not whole:
                removed = await _rows(connection, select(REMOVED).where(REMOVED.c.version > after))
            return Changes(
                version=row["version"],
                whole=whole,
                entries=tuple(map(entry_of, entries)),
                removed_entries=_of_kind("entry", removed),
                agents=tuple(map(agent_of, agents)),
                removed_agents=_of_kind("agent", removed),
            )

        return await self._database.read(run)

    @override
    async def write_entries(
        self, puts: Sequence[Entry], removals: Sequence[str], audit: Audit, *, dry_run: bool = False
    ) -> Sequence[Entry]:
        async def run(connection: AsyncConnection) -> list[Entry]:
            version = await self._next_version(connection, audit.time_ns)
            for gone in removals:
                found = await connection.execute(delete(ENTRY).where(ENTRY.c.id == gone))
                if found.rowcount != 1:
                    raise NoSuchEntryError(f"there is no entry {gone!r}")
                await _bury(connection, "entry", [gone], version, audit.time_ns)
            kept = await _put(connection, [_at_version(each, version) for each in puts], audit)
            if dry_run:
                raise _DryRunError(kept)
            await self._finish(connection, audit)
            return kept

        try:
            return await self._database.run(run)
        except _DryRunError as error:
            return error.kept
        except IntegrityError as error:
            # Our own look came before: only a statement outside this program gets here.
            raise DuplicateEntryError("an entry is the same as another one") from error

    @override
    async def agent(self, spiffe_id: str) -> AgentRecord | None:
        async def run(connection: AsyncConnection) -> AgentRecord | None:
            rows = await _rows(connection, select(AGENT).where(AGENT.c.spiffe_id == spiffe_id))
            return agent_of(rows[0]) if rows else None

        return await self._database.read(run)

    @override
    async def put_agent(
        self,
        agent: AgentRecord,
        audit: Audit | None,
        *,
        by_certificate: bytes = b"",
        twin_id: str = "",
    ) -> int:
        values = agent_columns(agent)
        mine = AGENT.c.spiffe_id == agent.spiffe_id

        async def run(connection: AsyncConnection) -> int:
            now_ns = audit.time_ns if audit else 0
            version = await self._next_version(connection, now_ns)
            rows = await _rows(connection, select(AGENT).where(mine))
            known = agent_of(rows[0]) if rows else None
            if known and known.banned:
                raise AttestationError(f"the agent {agent.spiffe_id} is banned")
            is_twin = AGENT.c.spiffe_id == twin_id
            if twin_id and await _rows(connection, select(AGENT).where(is_twin)):
                raise AttestationError(
                    f"this node is {twin_id} already, by the same evidence written in another way"
                )
            if known and audit is None and known.attested_ns != agent.attested_ns:
                raise NoSuchAgentError(f"the agent {agent.spiffe_id} was attested anew")
            if by_certificate and (known is None or known.end_ns(by_certificate) is None):
                raise AttestationError(
                    f"the agent {agent.spiffe_id} was evicted or attested anew meanwhile: attest "
                    "as at first"
                )
            if known:
                changed = update(AGENT).where(mine).values({**values, "version": version})
                await connection.execute(changed)
            elif audit is None:
                raise NoSuchAgentError(f"the agent {agent.spiffe_id} was evicted")
            else:
                await connection.execute(AGENT.insert(), {**values, "version": version})
                await _unbury(connection, "agent", [agent.spiffe_id])
            await self._finish(connection, audit)
            return version

        return await self._database.run(run)

    @override
    async def remove_agent(self, spiffe_id: str, audit: Audit) -> None:
        async def run(connection: AsyncConnection) -> None:
            version = await self._next_version(connection, audit.time_ns)
            mine = AGENT.c.spiffe_id == spiffe_id
            found = await connection.execute(delete(AGENT).where(mine, not_(AGENT.c.banned)))
            if found.rowcount != 1:
                if await _rows(connection, select(AGENT).where(mine)):
                    raise BannedAgentError(
                        f"the agent {spiffe_id} is banned, and an evicted one may attest again: "
                        "let it back in first, if that is meant"
                    )
                raise NoSuchAgentError(f"there is no agent {spiffe_id}")
            await _bury(connection, "agent", [spiffe_id], version, audit.time_ns)
            await _spend_tokens(connection, spiffe_id)
            await self._finish(connection, audit)

        await self._database.run(run)

    @override
    async def forget_agents(self, expired_before_ns: int, audit: Audit) -> Sequence[str]:
        is_old = AGENT.c.svid_expires_ns < expired_before_ns
        old = select(AGENT.c.spiffe_id).where(is_old, not_(AGENT.c.banned))
        old = old.order_by(AGENT.c.spiffe_id).limit(_FORGOTTEN)

        async def look(connection: AsyncConnection) -> list[str]:
            return [each["spiffe_id"] for each in await _rows(connection, old)]

        async def run(connection: AsyncConnection) -> list[str]:
            # Before the look: nobody renews or bans one in between.
            version = await self._next_version(connection, audit.time_ns)
            gone = await look(connection)
            for some in _chunks(gone):
                await connection.execute(delete(AGENT).where(AGENT.c.spiffe_id.in_(some)))
            if gone:
                await _bury(connection, "agent", gone, version, audit.time_ns)
                names = ", ".join(gone[:_NAMED])
                detail = f"{len(gone)}, {audit.detail}: {names}"
                await self._finish(connection, replace(audit, detail=detail))
            return gone

        # Mostly there is none: who writes must not wait for that.
        return await self._database.run(run) if await self._database.read(look) else ()

    @override
    async def ban_agent(self, spiffe_id: str, *, banned: bool, audit: Audit) -> None:
        async def run(connection: AsyncConnection) -> None:
            version = await self._next_version(connection, audit.time_ns)
            # Let back in, it has to attest: none of its certificates becomes good again.
            values = {
                "banned": banned,
                "version": version,
                "certificate_sha256": b"",
                "previous_sha256": b"",
            }
            mine = AGENT.c.spiffe_id == spiffe_id
            if not banned:
                # One that isn't banned keeps its certificates: this would take them away.
                mine &= AGENT.c.banned
            found = await connection.execute(update(AGENT).where(mine).values(values))
            if found.rowcount != 1:
                rows = await _rows(connection, select(AGENT).where(AGENT.c.spiffe_id == spiffe_id))
                if rows:
                    raise NotBannedError(f"the agent {spiffe_id} is not banned")
                raise NoSuchAgentError(f"there is no agent {spiffe_id}")
            if banned:
                await _spend_tokens(connection, spiffe_id)
            await self._finish(connection, audit)

        await self._database.run(run)

    @override
    async def add_token(self, token: JoinToken, audit: Audit) -> None:
        values = token_columns(token)

        async def run(connection: AsyncConnection) -> None:
            old = JOIN_TOKEN.c.expires_ns < token.created_ns - _SHOWN_NS
            await connection.execute(delete(JOIN_TOKEN).where(old))
            await connection.execute(JOIN_TOKEN.insert(), values)
            await record(connection, audit)

        await self._database.run(run)

    @override
    async def take_token(
        self, secret_sha256: bytes, key_sha256: bytes, now_ns: int
    ) -> JoinToken | TokenRefusal:
        this = JOIN_TOKEN.c.secret_sha256 == secret_sha256
        is_mine = or_(JOIN_TOKEN.c.used_ns == 0, JOIN_TOKEN.c.used_by == key_sha256)
        # One statement: of two at once the database makes the second wait, and then look again.
        taking = (
            update(JOIN_TOKEN)
            .where(this, is_mine, JOIN_TOKEN.c.expires_ns > now_ns)
            .values(used_ns=now_ns, used_by=key_sha256)
        )

        async def run(connection: AsyncConnection) -> JoinToken | TokenRefusal:
            taken = (await connection.execute(taking)).rowcount == 1
            rows = await _rows(connection, select(JOIN_TOKEN).where(this))
            if not rows:
                return TokenRefusal(_UNKNOWN)
            if taken:
                return token_of(rows[0])
            if rows[0]["expires_ns"] <= now_ns:
                ago_s = (now_ns - rows[0]["expires_ns"]) // 1_000_000_000
                return TokenRefusal(f"the join token {rows[0]['id']} expired {ago_s} s ago")
            return TokenRefusal(f"the join token {rows[0]['id']} was used already")

        return await self._database.run(run)

    @override
    async def tokens(self) -> Sequence[JoinToken]:
        async def run(connection: AsyncConnection) -> list[JoinToken]:
            newest = select(JOIN_TOKEN).order_by(JOIN_TOKEN.c.created_ns.desc()).limit(1000)
            return [token_of(row) for row in await _rows(connection, newest)]

        return await self._database.read(run)

    @override
    async def remove_token(self, token_id: str, audit: Audit) -> None:
        async def run(connection: AsyncConnection) -> None:
            found = await connection.execute(delete(JOIN_TOKEN).where(JOIN_TOKEN.c.id == token_id))
            if found.rowcount != 1:
                raise NoSuchTokenError(f"there is no join token {token_id!r}")
            await record(connection, audit)

        await self._database.run(run)

    @override
    async def record(self, audit: Audit) -> None:
        async def run(connection: AsyncConnection) -> None:
            await record(connection, audit)

        await self._database.run(run)

    @override
    def watch(self) -> AsyncGenerator[None]:
        return self._database.watch(_PROBE)

    @override
    async def close(self) -> None:
        await self._database.close()

    async def _next_version(self, connection: AsyncConnection, now_ns: int) -> int:
        """Count the version up; the row stays locked until the commit."""
        counted = update(REGISTRY).values(version=REGISTRY.c.version + 1)
        version = (await connection.execute(counted.returning(REGISTRY.c.version))).scalar_one()
        forgotten = REMOVED.c.removed_ns < now_ns - _REMEMBERED_NS
        newest = select(REMOVED.c.version).where(forgotten).order_by(REMOVED.c.version.desc())
        horizon = (await connection.execute(newest.limit(1))).scalar()
        if horizon is not None:
            await connection.execute(delete(REMOVED).where(REMOVED.c.version <= horizon))
            await connection.execute(update(REGISTRY).values(horizon=horizon))
        return int(version)

    async def _finish(self, connection: AsyncConnection, audit: Audit | None) -> None:
        if audit is not None:
            await record(connection, audit)
        await self._database.notify(connection)


class _DryRunError(Exception):
    """Takes back what a transaction did, and tells what it was."""

    def __init__(self, kept: Sequence[Entry]) -> None:
        super().__init__("nothing was changed")
        self.kept = kept


async def _spend_tokens(connection: AsyncConnection, agent_id: str) -> None:
    """The key that used a token may use it again until it expires; this agent's may not."""
    used = (JOIN_TOKEN.c.agent_id == agent_id) & (JOIN_TOKEN.c.used_ns != 0)
    await connection.execute(delete(JOIN_TOKEN).where(used))


async def _rows(connection: AsyncConnection, wanted: Any) -> Sequence[RowMapping]:
    return (await connection.execute(wanted)).mappings().all()


def _of_kind(kind: str, removed: Sequence[RowMapping]) -> tuple[str, ...]:
    return tuple(each["id"] for each in removed if each["kind"] == kind)


async def _bury(
    connection: AsyncConnection, kind: str, gone: Sequence[str], version: int, now_ns: int
) -> None:
    await _unbury(connection, kind, gone)
    buried = {"kind": kind, "version": version, "removed_ns": now_ns}
    await connection.execute(REMOVED.insert(), [{**buried, "id": each} for each in gone])


async def _unbury(connection: AsyncConnection, kind: str, back: Sequence[str]) -> None:
    for some in _chunks(back):
        mine = (REMOVED.c.kind == kind) & REMOVED.c.id.in_(some)
        await connection.execute(delete(REMOVED).where(mine))


async def _put(connection: AsyncConnection, puts: Sequence[Entry], audit: Audit) -> list[Entry]:
    """Add or change entries, and give them as they are kept.

    Raises:
        DuplicateEntryError: One would be the same as another one.
        NoSuchEntryError: One that is changed is no longer there.
    """
    await _refuse_duplicates(connection, puts)
    created = await _creation_times(connection, [each.workload.id for each in puts])
    if gone := [each for each in puts if each.created_ns and each.workload.id not in created]:
        raise NoSuchEntryError(f"entry {gone[0].workload.id!r} was deleted meanwhile")
    kept = [replace(each, created_ns=created.get(each.workload.id, audit.time_ns)) for each in puts]
    for each in kept:
        if each.workload.id in created:
            mine = ENTRY.c.id == each.workload.id
            await connection.execute(update(ENTRY).where(mine).values(entry_columns(each)))
    added = [entry_columns(each) for each in kept if each.workload.id not in created]
    if added:
        await connection.execute(ENTRY.insert(), added)
        await _unbury(connection, "entry", [each["id"] for each in added])
    return kept


async def _refuse_duplicates(connection: AsyncConnection, puts: Sequence[Entry]) -> None:
    wanted: dict[str, Entry] = {}
    for each in puts:
        same = wanted.setdefault(fingerprint_of(each), each)
        if same is not each:
            raise DuplicateEntryError(
                f"{each.workload.spiffe_id} stands twice with the same parent and selectors"
            )
    changed = {each.workload.id for each in puts}
    for some in _chunks([*wanted]):
        there = select(ENTRY.c.id, ENTRY.c.fingerprint, ENTRY.c.origin)
        for row in await _rows(connection, there.where(ENTRY.c.fingerprint.in_(some))):
            each = wanted[row["fingerprint"]]
            if row["id"] != each.workload.id:
                also = ", which this call changes too" if row["id"] in changed else ""
                origin = row["origin"]
                how = "registered by command" if origin == API else f"declared at {origin}"
                raise DuplicateEntryError(
                    f"{each.workload.spiffe_id} with the same parent and selectors is entry "
                    f"{row['id']} already, {how}{also}"
                )


async def _creation_times(connection: AsyncConnection, ids: Sequence[str]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for some in _chunks(ids):
        there = select(ENTRY.c.id, ENTRY.c.created_ns).where(ENTRY.c.id.in_(some))
        found.update({row["id"]: row["created_ns"] for row in await _rows(connection, there)})
    return found


def _chunks(values: Sequence[str]) -> Sequence[Sequence[str]]:
    return [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]


def _at_version(entry: Entry, version: int) -> Entry:
    return replace(entry, workload=replace(entry.workload, version=version))
