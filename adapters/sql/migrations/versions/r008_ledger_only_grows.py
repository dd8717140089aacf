"""Nor is a row of the ledger replaced."""

from alembic import op

revision = "r008"
down_revision = "r007"
branch_labels = None
depends_on = None

_LEDGER = "meshwarden_ledger"


def upgrade() -> None:
    """Close what the triggers on UPDATE and DELETE leave open in SQLite."""
    if op.get_bind().dialect.name != "sqlite":
        return
    # What INSERT OR REPLACE removes fires no trigger on DELETE, by whichever key it does so. Two
    # triggers, so that each looks into one index.
    for name, same in (
        ("number", "number = NEW.number"),
        ("serial", "serial = NEW.serial AND event = 'intended' AND NEW.event = 'intended'"),
    ):
        op.execute(
            f"CREATE TRIGGER {_LEDGER}_no_other_{name} BEFORE INSERT ON {_LEDGER} "  # noqa: S608 - of ours
            f"WHEN EXISTS (SELECT 1 FROM {_LEDGER} WHERE {same}) "
            f"BEGIN SELECT RAISE(ABORT, '{_LEDGER} only grows'); END"
        )
