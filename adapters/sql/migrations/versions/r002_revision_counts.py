"""How many rows a revision adds and removes: the history tells it without reading policies."""

import sqlalchemy as sa
from alembic import op

revision = "r002"
down_revision = "r001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; revisions that are there already go without, since nothing changes them."""
    op.add_column("meshwarden_revision", sa.Column("added", sa.Integer))
    op.add_column("meshwarden_revision", sa.Column("removed", sa.Integer))
