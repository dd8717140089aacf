"""What the ledger says was refused is found without reading what was issued."""

import sqlalchemy as sa
from alembic import op

revision = "r010"
down_revision = "r009"
branch_labels = None
depends_on = None

_LEDGER = "meshwarden_ledger"


def upgrade() -> None:
    """Index refusals alone: an issue pays nothing for it."""
    refused = sa.text("event = 'refused'")
    op.create_index(
        f"{_LEDGER}_refused", _LEDGER, ["number"], sqlite_where=refused, postgresql_where=refused
    )
