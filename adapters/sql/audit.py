"""The audit trail's rows, for every store that adds one in a transaction of its own."""

from collections.abc import Mapping
from typing import Any

from authz.audit import AuditEntry

__all__ = ["audit_columns"]


def audit_columns(entry: AuditEntry) -> Mapping[str, Any]:
    """Give an entry as the row that keeps it."""
    texts = {
        "who": entry.who,
        "source": entry.source,
        "action": entry.action,
        "outcome": entry.outcome,
        "revision": entry.revision,
        "detail": entry.detail,
    }
    # PostgreSQL's text holds anything but a NUL, and what was refused must be kept all the same.
    kept = {name: text.replace("\0", "\N{REPLACEMENT CHARACTER}") for name, text in texts.items()}
    return {"time_ns": entry.time_ns, **kept}
