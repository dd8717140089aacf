"""Tables of entries, agents and join tokens, the same in every database; migrations/ makes them."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, Text

from adapters.sql.tables import METADATA

__all__ = ["AGENT", "ENTRY", "JOIN_TOKEN", "REGISTRY", "REMOVED"]

REGISTRY = Table(
    "meshwarden_registry",
    METADATA,
    # One row. Whoever writes counts its version up first, and holds it until the commit: so
    # versions appear in their order.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    # What was removed up to this version is forgotten: a reader that is older reads everything.
    Column("horizon", BigInteger, nullable=False),
)

ENTRY = Table(
    "meshwarden_entry",
    METADATA,
    Column("id", Text, primary_key=True),
    # Of parent, SPIFFE ID and selectors: no two entries are the same.
    Column("fingerprint", Text, nullable=False, unique=True),
    # The registry's version at its last change; the entry's own version too.
    Column("version", BigInteger, nullable=False, index=True),
    Column("parent_id", Text, nullable=False),
    Column("spiffe_id", Text, nullable=False),
    Column("selectors", Text, nullable=False),
    Column("x509_ttl_s", Integer, nullable=False),
    Column("jwt_ttl_s", Integer, nullable=False),
    Column("dns_names", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),
)

AGENT = Table(
    "meshwarden_agent",
    METADATA,
    Column("spiffe_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, index=True),
    Column("attestor", Text, nullable=False),
    Column("selectors", Text, nullable=False),
    Column("attested_ns", BigInteger, nullable=False),
    Column("svid_expires_ns", BigInteger, nullable=False),
    Column("serial", Text, nullable=False),
    Column("certificate_sha256", LargeBinary, nullable=False),
    Column("previous_sha256", LargeBinary, nullable=False),
    # A replica of the version before leaves it out.
    Column("previous_expires_ns", BigInteger, nullable=False, server_default="0"),
    Column("banned", Boolean, nullable=False),
    Column("can_reattest", Boolean, nullable=False),
)

REMOVED = Table(
    "meshwarden_removed",
    METADATA,
    # "entry" or "agent".
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False, index=True),
    Column("removed_ns", BigInteger, nullable=False),
)

JOIN_TOKEN = Table(
    "meshwarden_join_token",
    METADATA,
    Column("id", Text, primary_key=True),
    # The secret itself is nowhere.
    Column("secret_sha256", LargeBinary, nullable=False, unique=True),
    Column("agent_id", Text, nullable=False),
    Column("selectors", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    # 0 and empty: not yet.
    Column("used_ns", BigInteger, nullable=False),
    Column("used_by", LargeBinary, nullable=False),
)
