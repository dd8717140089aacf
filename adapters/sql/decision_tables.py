"""PostgreSQL's tables of decisions: the steps that make them, and all that is said to them.

A step that has been released is never edited: a new format is a new step, at the end.
"""

from collections.abc import Sequence

from adapters.sql.decisions import COLUMNS, NUMBERS, PARTED

__all__ = ["FORMAT", "NUMBERS_EACH", "STEPS", "Statements"]

NUMBERS_EACH = 10_000_000
"""The numbers of a partition: more than the rows that it may ever get."""

_FIRST = (
    "CREATE SEQUENCE {s}.numbers",
    # Text is compared byte by byte: a search for what begins so uses an index, whatever the locale.
    """\
CREATE TABLE {s}.decision (
    number bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    time_ns bigint NOT NULL,
    verdict text NOT NULL,
    status bigint NOT NULL,
    rule_file text NOT NULL,
    rule_line bigint NOT NULL,
    rule_text text NOT NULL,
    reason text NOT NULL,
    digest text NOT NULL,
    principal text COLLATE "C" NOT NULL,
    "user" text COLLATE "C" NOT NULL,
    service text NOT NULL,
    method text NOT NULL,
    path text COLLATE "C" NOT NULL,
    source_ip text NOT NULL,
    host text NOT NULL,
    front text NOT NULL,
    misses text NOT NULL,
    faults text NOT NULL,
    headers text NOT NULL,
    claims text NOT NULL
) PARTITION BY RANGE (number)""",
    "CREATE INDEX decision_by_time ON {s}.decision (time_ns)",
    "CREATE INDEX decision_denied ON {s}.decision (time_ns) WHERE verdict = 'deny'",
    "CREATE INDEX decision_by_principal ON {s}.decision (principal, time_ns)",
    "CREATE INDEX decision_by_path ON {s}.decision (path, time_ns)",
)

STEPS: Sequence[Sequence[str]] = (_FIRST,)
"""The statements of each, in order, with {s} for the schema's quoted name."""

FORMAT = len(STEPS)
"""What this version of the program reads and writes."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('meshwarden decisions ' || {name}))"
_HAS_SCHEMA = "SELECT (to_regnamespace({name}) IS NOT NULL)::integer"
_MAKE_FORMAT = (
    "CREATE TABLE IF NOT EXISTS {s}.format (version integer NOT NULL)",
    "INSERT INTO {s}.format SELECT 0 WHERE NOT EXISTS (SELECT FROM {s}.format)",
)
_LAST = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {s}.numbers"
_PARTITIONS = """\
SELECT c.relname, pg_total_relation_size(c.oid)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = '{s}.decision'::regclass"""
_DELETE = """\
DELETE FROM {s}.decision WHERE number IN
    (SELECT number FROM {s}.decision WHERE time_ns < %s ORDER BY time_ns LIMIT %s)"""
_INSERT = """\
INSERT INTO {s}.decision (number, {columns})
SELECT nextval('{s}.numbers'), {given} FROM json_to_recordset(%s) AS r ({typed})
WHERE NOT EXISTS (SELECT FROM {s}.decision d WHERE d.id = r.id AND d.number >= %s)
ON CONFLICT DO NOTHING"""
# Attached when it is made: unlike CREATE TABLE ... PARTITION OF, this waits for no reader.
_PARTITION = (
    "CREATE TABLE {s}.decision_{number} (LIKE {s}.decision INCLUDING ALL)",
    # Each decision is kept once.
    "CREATE UNIQUE INDEX ON {s}.decision_{number} (id)",
    """\
ALTER TABLE {s}.decision ATTACH PARTITION {s}.decision_{number}
FOR VALUES FROM ({first}) TO ({end})""",
)


class Statements:
    """What is said to the server, with a schema's name in it.

    Attributes:
        schema: Its name, quoted.
        lock: Waits for the turn of this transaction to write.
        has_schema: Gives 1 where it is there.
        make_schema: Makes it.
        make_format: Makes the table of one number, the format.
        format: Gives that number.
        set_format: Takes a new one.
        last: Gives the last number that a record got.
        skip: Takes the number that the next record gets.
        partitions: Gives the name and the bytes of each.
        select: Gives number and `COLUMNS` of records; conditions come behind.
        greatest: The last record's number, as a part of a condition.
        delete: Takes a time and a limit, and deletes what is older.
        insert: Takes records as JSON, and the number from which on they are looked for first.
    """

    def __init__(self, schema: str) -> None:
        names = {
            "s": '"' + schema.replace('"', '""') + '"',
            "name": "'" + schema.replace("'", "''") + "'",
            "columns": ", ".join(f'"{name}"' for name in COLUMNS),
            "given": ", ".join(_given(name) for name in COLUMNS),
            "typed": ", ".join(f'"{name}" {_type(name)}' for name in COLUMNS),
        }
        self._names = names
        self.schema = names["s"]
        self.lock = _LOCK.format(**names)
        self.has_schema = _HAS_SCHEMA.format(**names)
        self.make_schema = f"CREATE SCHEMA {self.schema}"
        self.make_format = [each.format(**names) for each in _MAKE_FORMAT]
        self.format = "SELECT version FROM {s}.format".format(**names)  # noqa: S608
        self.set_format = "UPDATE {s}.format SET version = %s".format(**names)  # noqa: S608
        self.last = _LAST.format(**names)
        self.skip = "SELECT setval('{s}.numbers'::regclass, %s, false)".format(**names)
        self.partitions = _PARTITIONS.format(**names)
        self.select = "SELECT number, {columns} FROM {s}.decision".format(**names)  # noqa: S608
        self.greatest = "(SELECT coalesce(max(number), 0) FROM {s}.decision)".format(**names)  # noqa: S608
        self.delete = _DELETE.format(**names)
        self.insert = _INSERT.format(**names)

    def partition(self, number: int) -> list[str]:
        """Make a partition."""
        first = number * NUMBERS_EACH
        more = {"number": number, "first": first, "end": first + NUMBERS_EACH}
        return [each.format(**self._names, **more) for each in _PARTITION]

    def newest_of(self, number: int) -> str:
        """Give the time of a partition's newest record."""
        return "SELECT max(time_ns) FROM {s}.decision_{number}".format(**self._names, number=number)  # noqa: S608

    def drop(self, number: int) -> str:
        """Drop a partition."""
        return f"DROP TABLE {self.schema}.decision_{number}"


def _type(name: str) -> str:
    return "json" if name in PARTED else "bigint" if name in NUMBERS else "text"


def _given(name: str) -> str:
    """A field that came, or what its absence stands for."""
    if name in PARTED:
        return f"coalesce(r.{name}::text, '{'{}' if PARTED[name] is dict else '[]'}')"
    absent = "0" if name in NUMBERS else "''"
    return f'coalesce(r."{name}", {absent})'
