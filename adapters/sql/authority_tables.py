"""Tables of authorities and of what they issued; migrations/ makes them."""

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text

__all__ = ["AUTHORITY", "LEDGER", "TRUST_DOMAIN"]

_METADATA = MetaData()

TRUST_DOMAIN = Table(
    "meshwarden_trust_domain",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)

AUTHORITY = Table(
    "meshwarden_authority",
    _METADATA,
    Column("authority_id", Text, primary_key=True),
    Column("trust_domain", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("key_type", Text, nullable=False),
    Column("issuer_id", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("not_before_ns", BigInteger, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    # What the keeper finds the private key by: sealed, or worthless without the keeper.
    Column("handle", LargeBinary, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    # The order in which they came, so that a bundle's order never changes.
    Column("position", BigInteger, nullable=False),
)

LEDGER = Table(
    "meshwarden_ledger",
    _METADATA,
    # Its uniqueness keeps the chain one chain, should a lock ever fail.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("spiffe_id", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("authority_id", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("selectors", Text, nullable=False),  # A JSON list of text.
    Column("detail", Text, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
)
