"""How each replica is."""

import sqlalchemy as sa
from alembic import op

revision = "r003"
down_revision = "r002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; its rows are the replicas' own, and come and go with them."""
    op.create_table(
        "meshwarden_replica",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("loaded_ns", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("started_ns", sa.BigInteger, nullable=False),
        sa.Column("seen_ns", sa.BigInteger, nullable=False),
        sa.Column("shadow_digest", sa.Text, nullable=False),
        sa.Column("shadow_same", sa.BigInteger, nullable=False),
        sa.Column("shadow_would_allow", sa.BigInteger, nullable=False),
        sa.Column("shadow_would_deny", sa.BigInteger, nullable=False),
    )
