"""Entries, agents, join tokens, and the version that says when any of them changed."""

import sqlalchemy as sa
from alembic import op

revision = "r005"
down_revision = "r004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the registry's one row."""
    registry = op.create_table(
        "meshwarden_registry",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("horizon", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(registry, [{"id": 1, "version": 0, "horizon": 0}])
    op.create_table(
        "meshwarden_entry",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("spiffe_id", sa.Text, nullable=False),
        sa.Column("selectors", sa.Text, nullable=False),
        sa.Column("x509_ttl_s", sa.Integer, nullable=False),
        sa.Column("jwt_ttl_s", sa.Integer, nullable=False),
        sa.Column("dns_names", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
    )
    op.create_table(
        "meshwarden_agent",
        sa.Column("spiffe_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
        sa.Column("attestor", sa.Text, nullable=False),
        sa.Column("selectors", sa.Text, nullable=False),
        sa.Column("attested_ns", sa.BigInteger, nullable=False),
        sa.Column("svid_expires_ns", sa.BigInteger, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("certificate_sha256", sa.LargeBinary, nullable=False),
        sa.Column("previous_sha256", sa.LargeBinary, nullable=False),
        sa.Column("banned", sa.Boolean, nullable=False),
        sa.Column("can_reattest", sa.Boolean, nullable=False),
    )
    op.create_table(
        "meshwarden_removed",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False, index=True),
        sa.Column("removed_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "meshwarden_join_token",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("selectors", sa.Text, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_ns", sa.BigInteger, nullable=False),
        sa.Column("used_ns", sa.BigInteger, nullable=False),
        sa.Column("used_by", sa.LargeBinary, nullable=False),
    )
