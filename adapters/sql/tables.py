"""Tables of the revision store, the same in every database; migrations/ makes them."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

__all__ = ["AUDIT", "METADATA", "REPLICA", "REVISION"]

METADATA = MetaData()

REVISION = Table(
    "meshwarden_revision",
    METADATA,
    Column("stream", Text, primary_key=True),
    # Its uniqueness is the lock: of two commits on one parent the database refuses the second.
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    # The version of what `body` holds; a reader refuses a newer one.
    Column("format", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Rows by which it differs from its parent; none where a version made it that didn't count.
    Column("added", Integer),
    Column("removed", Integer),
)

AUDIT = Table(
    "meshwarden_audit",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

REPLICA = Table(
    "meshwarden_replica",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    Column("loaded_ns", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("seen_ns", BigInteger, nullable=False),
    Column("shadow_digest", Text, nullable=False),
    Column("shadow_same", BigInteger, nullable=False),
    Column("shadow_would_allow", BigInteger, nullable=False),
    Column("shadow_would_deny", BigInteger, nullable=False),
)

TOKEN = Table(
    "meshwarden_token",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    # SHA-256 of the token's text: the text itself is nowhere.
    Column("digest", LargeBinary, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    # 0 is never.
    Column("revoked_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger, nullable=False),
)
