"""The table that pycasbin's SQLAlchemy adapters keep policy in: `casbin_rule`, read and written.

A row is a type and up to six values: columns ptype, v0 to v5, the first NULL ends it. pycasbin
joins a row to a line and splits that again, so a comma outside brackets would make two values of
one: such a row is refused in both directions, as it would decide otherwise there than here.

Source: casbin_sqlalchemy_adapter 1.4, CasbinRule; pycasbin's persist.load_policy_line.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from casbin.persist import load_policy_line
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    func,
    inspect,
    make_url,
    select,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from authz.errors import AuthzError
from authz.policy.errors import Fault
from authz.policy.rules import Row

__all__ = ["TABLE", "CasbinTableError", "read_table", "write_table"]

TABLE = "casbin_rule"
"""What the table is called unless its program names another one."""

_VALUES = ("v0", "v1", "v2", "v3", "v4", "v5")
_COLUMNS = ("id", "ptype", *_VALUES)
# As the adapter makes its columns.
_CHARACTERS = 255
_CONNECT_TIMEOUT_S = 5
_MAX_FAULTS = 20
_MAX_LINE = 2**32 - 1


class CasbinTableError(AuthzError):
    """A table of casbin_rule's form can't be read or written; the message says why."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


def read_table(url: str, name: str = TABLE) -> tuple[Row, ...]:
    """Read a table's rows in the order of their ids.

    Args:
        url: As SQLAlchemy has it: sqlite:///FILE, postgresql://USER@HOST/DATABASE.
        name: The table's, or a view's.

    Returns:
        The rows; the place of each is the table with its id.

    Raises:
        CasbinTableError: The database can't be read, or holds no such table; or rows can't be meant
            as they stand, which are listed by their ids.
    """
    with _connected(url, is_read=True) as connection:
        more = _check_columns(connection, name)
        table = Table(name, MetaData(), *(Column(each) for each in (*_COLUMNS, *more)))
        rows: list[Row] = []
        faults: list[Fault] = []
        for number, found in enumerate(connection.execute(select(table).order_by(table.c.id)), 1):
            identity, ptype, *values = found
            line = identity if isinstance(identity, int) else number
            row, wrong = _row(ptype, values, (*_VALUES, *more), name, min(line, _MAX_LINE))
            rows += row
            faults += wrong
    _refuse(faults)
    return tuple(rows)


def write_table(url: str, rows: Sequence[Row], name: str = TABLE, *, replace: bool = False) -> None:
    """Write rows as a table, which is made where there is none; all of them or none.

    Args:
        url: See read_table().
        rows: What the table shall hold, in this order.
        name: The table's.
        replace: Whether rows that are there go away first.

    Raises:
        CasbinTableError: The database can't be written, or the table holds rows already; or a row
            has no place in such a table, or pycasbin would read it as another one.
    """
    _refuse([fault for row in rows for fault in _unwritable(row)])
    with _connected(url, is_read=False) as connection:
        if inspect(connection).has_table(name):
            _check_columns(connection, name)
            _refuse(_too_long(connection, name, rows))
        table = _table(name, rows)
        table.create(connection, checkfirst=True)
        held = connection.execute(select(func.count()).select_from(table)).scalar() or 0
        if held and not replace:
            raise CasbinTableError(f"{name} holds {held} rows already: --replace takes their place")
        if held:
            connection.execute(table.delete())
        if rows:
            # No ids: a sequence that didn't see them would give them out again.
            connection.execute(table.insert(), [_columns(row) for row in rows])


@contextmanager
def _connected(url: str, *, is_read: bool) -> Iterator[Connection]:
    """One transaction on a database of somebody else's."""
    target = _parsed(url)
    path = target.database or ""
    if target.get_backend_name() == "sqlite" and is_read and not _is_file(target):
        # SQLite would make an empty database of that name.
        raise CasbinTableError(f"{path}: no such file")
    try:
        engine = _engine(target)
    except NoSuchModuleError as error:
        raise CasbinTableError(f"SQLAlchemy knows no database {target.drivername!r}") from error
    except ModuleNotFoundError as error:
        raise CasbinTableError(
            f"{target.drivername} needs the Python module {error.name!r}, which isn't installed; "
            "for PostgreSQL it comes with meshwarden[postgresql]"
        ) from error
    try:
        with engine.begin() as connection:
            yield connection
    except (SQLAlchemyError, UnicodeDecodeError) as error:
        inner = error.orig if isinstance(error, DBAPIError) and error.orig else error
        said = " ".join(str(inner).split())
        raise CasbinTableError(f"{target.render_as_string()}: {said}") from error
    finally:
        engine.dispose()


def _parsed(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError as error:
        raise CasbinTableError(
            "write the database as SQLAlchemy does: sqlite:///FILE, "
            "postgresql://USER@HOST:PORT/DATABASE"
        ) from error
    if target.drivername == "postgresql":
        # The driver that Meshwarden brings, where none is named.
        return target.set(drivername="postgresql+psycopg")
    return target


def _engine(target: URL) -> Engine:
    arguments: dict[str, Any] = {}
    if target.get_backend_name() == "postgresql":
        arguments["connect_timeout"] = _CONNECT_TIMEOUT_S
    return create_engine(target, connect_args=arguments)


def _is_file(target: URL) -> bool:
    return bool(target.database) and Path(target.database or "").is_file()


def _check_columns(connection: Connection, name: str) -> tuple[str, ...]:
    """Whether a table has the columns of a casbin_rule.

    Returns:
        Columns for more values than Casbin's adapter knows: they must be empty.

    Raises:
        CasbinTableError: It hasn't, or there is no such table.
    """
    about = inspect(connection)
    if not about.has_table(name):
        known = sorted((*about.get_table_names(), *about.get_view_names()))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise CasbinTableError(
            f"there is no table {name!r}{hint}; there are: {', '.join(known) or 'none at all'}"
        )
    columns = {each["name"]: each["type"] for each in about.get_columns(name)}
    missing = [each for each in _COLUMNS if each not in columns]
    if missing:
        raise CasbinTableError(
            f"{name} has no column {', '.join(missing)}; a table of Casbin's has "
            f"{', '.join(_COLUMNS)}, this one has {', '.join(columns)}"
        )
    more = [each for each in columns if each not in _COLUMNS]
    for each in more:
        if isinstance(columns[each], Boolean):
            raise CasbinTableError(
                f"{name} has a column {each!r}, which may mark rows as deleted: those would come "
                "alive; make a view without them, and name it by --table"
            )
    return tuple(each for each in more if each[0] == "v" and each[1:].isdigit())


def _row(
    ptype: Any, values: Sequence[Any], names: Sequence[str], table: str, line: int
) -> tuple[list[Row], list[Fault]]:
    """One row of a table; what is wrong with it instead, if anything is."""
    wrong: list[str] = []
    if not isinstance(ptype, str) or ptype[:1] not in {"p", "g"}:
        told = "NULL" if ptype is None else repr(ptype)
        wrong.append(f"ptype is {told[:40]}; it starts with p or g")
    end = next((at for at, value in enumerate(values) if value is None), len(values))
    behind = [names[at] for at in range(end, len(values)) if values[at] is not None]
    if behind:
        wrong.append(
            f"{names[end]} is NULL, but {behind[0]} is not: Casbin would lose what stands behind"
        )
    elif end == 0:
        wrong.append("has no values")
    elif end > len(_VALUES):
        wrong.append(f"{names[len(_VALUES)]} is in use; Casbin's adapter reads up to v5")
    texts = [value for value in values[:end] if isinstance(value, str)]
    if len(texts) < end:
        other = next(at for at in range(end) if not isinstance(values[at], str))
        wrong.append(f"{names[other]} is {values[other]!r}, which is no text")
    row = Row(str(ptype), tuple(text.strip() for text in texts), table, line)
    if not wrong:
        wrong += _torn(row)
    return ([], [Fault(table, line, said) for said in wrong]) if wrong else ([row], [])


def _unwritable(row: Row) -> Iterable[Fault]:
    if len(row.values) > len(_VALUES):
        said = f"has {len(row.values)} values; v0 to v5 hold {len(_VALUES)}"
        yield Fault(row.file or "api", row.line, said)
    for said in _torn(row):
        yield Fault(row.file or "api", row.line, said)


class _Read:
    """Takes what pycasbin makes of a line; it stands in for a model."""

    def __init__(self, ptype: str) -> None:
        self.policy: list[list[str]] = []
        self.model = {ptype[0]: {ptype: self}}


def _torn(row: Row) -> Iterable[str]:
    """Whether pycasbin would take a row for another one."""
    read = _Read(row.ptype)
    try:
        load_policy_line(", ".join((row.ptype, *row.values)), read)
    except IndexError:  # A bracket that closes nothing.
        read.policy = []
    if read.policy != [list(row.values)]:
        yield (
            "has a comma outside brackets, or a bracket without its other half: pycasbin would "
            f"read another row: {', '.join(row.values)[:80]}"
        )


def _too_long(connection: Connection, name: str, rows: Sequence[Row]) -> list[Fault]:
    room = {
        each["name"]: getattr(each["type"], "length", None)
        for each in inspect(connection).get_columns(name)
    }
    faults: list[Fault] = []
    for row in rows:
        for column, value in zip(_VALUES, row.values, strict=False):
            most = room[column]
            if most is not None and len(value) > most:
                said = f"has {len(value)} characters for {column}, which holds {most}"
                faults.append(Fault(row.file or "api", row.line, said))
    return faults


def _table(name: str, rows: Iterable[Row]) -> Table:
    longest = max((len(value) for row in rows for value in row.values), default=0)
    kind = String(_CHARACTERS) if longest <= _CHARACTERS else Text()
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("ptype", String(_CHARACTERS)),
        *(Column(each, kind) for each in _VALUES),
    )


def _columns(row: Row) -> dict[str, str | None]:
    padded = (*row.values, *(None for _ in _VALUES[len(row.values) :]))
    return {"ptype": row.ptype, **dict(zip(_VALUES, padded, strict=True))}


def _refuse(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    shown = [str(fault) for fault in faults[:_MAX_FAULTS]]
    if len(faults) > _MAX_FAULTS:
        shown.append(f"... and {len(faults) - _MAX_FAULTS} more")
    raise CasbinTableError("\n".join(shown))
