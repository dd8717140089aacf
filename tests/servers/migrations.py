"""A database as an older version of the program left it."""

from collections.abc import Callable
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from adapters.sql import migrations

__all__ = ["up_to"]

_SCRIPTS = Path(migrations.__file__).parent


def up_to(revision: str) -> Callable[[Connection], None]:
    """Bring an empty database to the tables of one step, and no further."""

    def run(connection: Connection) -> None:
        script = ScriptDirectory(str(_SCRIPTS), version_locations=[str(_SCRIPTS / "versions")])
        context = MigrationContext.configure(
            connection, opts={"version_table": "meshwarden_schema", "script": script}
        )
        with Operations.context(context):
            for step in reversed(list(script.iterate_revisions(revision, "base"))):
                step.module.upgrade()
        context.stamp(script, revision)

    return run
