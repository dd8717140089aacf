"""Tokens of the admin API, beside the revisions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol, TypeVar

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from adapters.sql.audit import audit_columns
from adapters.sql.tables import AUDIT, TOKEN
from authz.admin_tokens import Token, TokenLimitError, TokenStore
from authz.audit import AuditEntry

__all__ = ["SqlTokenStore"]

_Result = TypeVar("_Result")
# Every replica keeps all of them in memory, so that a flood of wrong ones never reaches the store.
_MAX_LIVE = 1000


class _InTransaction(Protocol):
    def __call__(
        self, run: Callable[[AsyncConnection], Awaitable[_Result]], /
    ) -> Awaitable[_Result]: ...


class SqlTokenStore(TokenStore):
    """Keeps tokens in the revisions' database.

    Args:
        in_transaction: Does something whole or not at all, within a time-out, and translates what
            goes wrong.
        reading: Does the same with what only reads.
    """

    def __init__(self, in_transaction: _InTransaction, reading: _InTransaction) -> None:
        self._in_transaction = in_transaction
        self._reading = reading

    @override
    async def add(self, token: Token, audit: AuditEntry, forget_before_ns: int) -> None:
        async def run(connection: AsyncConnection) -> None:
            ended = or_(
                TOKEN.c.expires_ns < forget_before_ns,
                (TOKEN.c.revoked_ns != 0) & (TOKEN.c.revoked_ns < forget_before_ns),
            )
            await connection.execute(TOKEN.delete().where(ended))
            live = select(func.count()).where(
                TOKEN.c.revoked_ns == 0, TOKEN.c.expires_ns > token.created_ns
            )
            if (await connection.execute(live)).scalar_one() >= _MAX_LIVE:
                raise TokenLimitError(f"there are {_MAX_LIVE} live tokens; revoke some first")
            await connection.execute(TOKEN.insert(), asdict(token))
            await connection.execute(AUDIT.insert(), audit_columns(audit))

        await self._in_transaction(run)

    @override
    async def all(self) -> Sequence[Token]:
        wanted = select(TOKEN).order_by(TOKEN.c.created_ns.desc(), TOKEN.c.id)

        async def run(connection: AsyncConnection) -> list[Token]:
            return [Token(**row) for row in (await connection.execute(wanted)).mappings()]

        return await self._reading(run)

    @override
    async def revoke(self, ids: Sequence[str], audit: AuditEntry) -> None:
        live = TOKEN.update().where(TOKEN.c.id.in_(ids), TOKEN.c.revoked_ns == 0)

        async def run(connection: AsyncConnection) -> None:
            await connection.execute(live.values(revoked_ns=audit.time_ns))
            await connection.execute(AUDIT.insert(), audit_columns(audit))

        await self._in_transaction(run)

    @override
    async def used(self, used_ns: Mapping[str, int]) -> None:
        if not used_ns:
            return
        # Another replica may have seen it later: the time never goes back.
        newest = case(used_ns, value=TOKEN.c.id)
        update = TOKEN.update().where(TOKEN.c.id.in_(used_ns), TOKEN.c.used_ns < newest)

        async def run(connection: AsyncConnection) -> None:
            await connection.execute(update.values(used_ns=newest))

        await self._in_transaction(run)
