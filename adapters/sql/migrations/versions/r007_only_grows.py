"""Nothing that is stored is replaced or swept away either."""

from alembic import op

revision = "r007"
down_revision = "r006"
branch_labels = None
depends_on = None

_KEYS = {"meshwarden_revision": ("stream", "number"), "meshwarden_audit": ("id",)}


def upgrade() -> None:
    """Close what the triggers on UPDATE and DELETE leave open in each database."""
    if op.get_bind().dialect.name == "sqlite":
        # What INSERT OR REPLACE removes fires no trigger on DELETE.
        for table, keys in _KEYS.items():
            same = " AND ".join(f"{key} = NEW.{key}" for key in keys)
            op.execute(
                f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - of ours
                f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
                f"BEGIN SELECT RAISE(ABORT, '{table} only grows'); END"
            )
        return
    for table in _KEYS:
        op.execute(
            f"CREATE TRIGGER {table}_stays BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION meshwarden_only_grows()"
        )
