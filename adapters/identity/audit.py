"""What the audit trail says of identities, put there in the transaction of the change itself."""

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sql.audit import audit_columns
from adapters.sql.tables import AUDIT
from authz.audit import AuditEntry
from ca.registry import Audit

__all__ = ["record"]


async def record(connection: AsyncConnection, audit: Audit) -> None:
    """Add one entry."""
    entry = AuditEntry(
        audit.time_ns, audit.who, audit.source, audit.action, audit.outcome, "", audit.detail
    )
    await connection.execute(AUDIT.insert(), audit_columns(entry))
