"""Authorities, and the ledger of what they issued."""

import sqlalchemy as sa
from alembic import op

revision = "r006"
down_revision = "r005"
branch_labels = None
depends_on = None

_LEDGER = "meshwarden_ledger"


def upgrade() -> None:
    """Make the tables; the ledger takes no change from anybody."""
    op.create_table(
        "meshwarden_trust_domain",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "meshwarden_authority",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("trust_domain", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("key_type", sa.Text, nullable=False),
        sa.Column("issuer_id", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("not_before_ns", sa.BigInteger, nullable=False),
        sa.Column("not_after_ns", sa.BigInteger, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("handle", sa.LargeBinary, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.create_table(
        _LEDGER,
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("spiffe_id", sa.Text, nullable=False),
        sa.Column("serial", sa.Text, nullable=False),
        sa.Column("not_after_ns", sa.BigInteger, nullable=False),
        sa.Column("authority_id", sa.Text, nullable=False),
        sa.Column("requester", sa.Text, nullable=False),
        sa.Column("selectors", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    # No serial twice: the database refuses the second intent.
    intended = sa.text("event = 'intended'")
    op.create_index(
        f"{_LEDGER}_serial",
        _LEDGER,
        ["serial"],
        unique=True,
        sqlite_where=intended,
        postgresql_where=intended,
    )
    op.create_index(f"{_LEDGER}_spiffe_id", _LEDGER, ["spiffe_id", "number"])
    outcome = sa.text("last > 0")
    op.create_index(
        f"{_LEDGER}_last", _LEDGER, ["last"], sqlite_where=outcome, postgresql_where=outcome
    )
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {_LEDGER}_no_{event.lower()} BEFORE {event} ON {_LEDGER} "
                f"BEGIN SELECT RAISE(ABORT, '{_LEDGER} only grows'); END"
            )
        return
    op.execute(
        f"CREATE TRIGGER {_LEDGER}_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON {_LEDGER} "
        "FOR EACH STATEMENT EXECUTE FUNCTION meshwarden_only_grows()"
    )
