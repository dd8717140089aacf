"""When the certificate ends that an agent's newest one was renewed by."""

import sqlalchemy as sa
from alembic import op

revision = "r009"
down_revision = "r008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it; of those that are there it is only known that they end before the newest."""
    op.add_column(
        "meshwarden_agent",
        sa.Column("previous_expires_ns", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.execute("UPDATE meshwarden_agent SET previous_expires_ns = svid_expires_ns")
