"""Brings a database to the tables that this version of the program knows."""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from authz.revisions import NewerFormatError

__all__ = ["migrate"]

_SCRIPTS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "meshwarden_schema"
# Any number will do, so long as nobody else uses it: replicas that start together take turns.
_POSTGRESQL_LOCK = 0x6D657368


def migrate(connection: Connection) -> None:
    """Run every step that the database hasn't seen, inside the caller's transaction.

    Raises:
        NewerFormatError: A newer version of the program has been here.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
    script = ScriptDirectory(str(_SCRIPTS), version_locations=[str(_SCRIPTS / "versions")])
    context = MigrationContext.configure(
        connection, opts={"version_table": _VERSION_TABLE, "script": script}
    )
    current = context.get_current_revision()
    known = {each.revision for each in script.walk_revisions()}
    if current is not None and current not in known:
        raise NewerFormatError(
            f"the database's tables are of step {current!r}, which a newer version made; "
            f"this one knows up to {script.get_current_head()!r}"
        )
    with Operations.context(context):
        for step in reversed(list(script.iterate_revisions("head", current or "base"))):
            step.module.upgrade()
    head = script.get_current_head()
    if head != current:
        context.stamp(script, head or "base")
