"""`meshwarden policy get` and `list`: the rules that are in force, row by row and in numbers."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import PLACE, Form, echo_policy, show, show_data, styled, table
from meshwarden.cli.policy_effects import place
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.policy_place import FolderOption, Place, RevisionOption, wanted_policy

if TYPE_CHECKING:
    from authz.policy.model import Model
    from authz.policy.rules import Row

__all__ = ["Fields", "get", "list_rules", "parse_fields", "title"]

_EFFECT = "eft"
# A row that the model has no place for, as only a policy with a fault has.
_UNKNOWN = tuple(f"v{number}" for number in range(32))

Fields = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="NAME=VALUE",
        help="A field of the model by its name, for a model of one's own; may be repeated.",
    ),
]


class RowForm(enum.StrEnum):
    """What -o takes."""

    HUMAN = "human"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which rows are wanted.

    Attributes:
        fields: Field's name to what it has to be, or to match with `*` for any characters where
            no row says just that.
        role: A role that the row speaks of; "" is any.
        ptype: Its type; "" is any.
        file: The file that it was written in, likewise.
        literal: Fields that some row has just so: of `*` then only those, not every one.
    """

    fields: dict[str, str] = field(default_factory=dict)
    role: str = ""
    ptype: str = ""
    file: str = ""
    literal: frozenset[str] = frozenset()

    def has(self, row: "Row", model: "Model") -> bool:
        """Whether a row is wanted."""
        if self.ptype and row.ptype != self.ptype:
            return False
        if self.file and not _is_like(row.file, self.file):
            return False
        if self.role and not _speaks_of(row, self.role):
            return False
        held = dict(_named(row, model))
        return all(
            name in held
            and (held[name] == wanted if name in self.literal else _is_like(held[name], wanted))
            for name, wanted in self.fields.items()
        )


def get(  # noqa: PLR0913, PLR0917 - each is an option
    who: Annotated[str, typer.Option(metavar="WHO", help="Of this caller or role.")] = "",
    service: Annotated[str, typer.Option(metavar="NAME", help="About this service.")] = "",
    method: Annotated[str, typer.Option(metavar="NAME", help="About this method.")] = "",
    path: Annotated[str, typer.Option(metavar="PATH", help="About this path, as written.")] = "",
    effect: Annotated[str, typer.Option(metavar="EFFECT", help="allow or deny.")] = "",
    role: Annotated[
        str, typer.Option(metavar="NAME", help="Rules about this role, and who has it.")
    ] = "",
    fields: Fields = None,
    ptype: Annotated[str, typer.Option(metavar="TYPE", help="p, g, p2, ...")] = "",
    file: Annotated[str, typer.Option(metavar="NAME", help="Written in this file.")] = "",
    folder: FolderOption = None,
    revision: RevisionOption = None,
    config: ConfigFile = None,
    output: Annotated[
        RowForm, typer.Option("--output", "-o", help="For people, for programs, or as policy.")
    ] = RowForm.HUMAN,
) -> None:
    """Print the policy that is in force, row by row, or those of its rows that match.

    What a filter is given is compared with what the row says; where no row says just that, `*`
    stands for any characters. Who may do something, and by which rule, is what `policy who-can`
    tells.
    """
    from authz.policy.model import parse_model  # noqa: PLC0415

    asked = {"who": who, "service": service, "method": method, "path": path, _EFFECT: effect}
    given = {name: value for name, value in asked.items() if value} | parse_fields(fields)
    where = wanted_policy(config, folder, revision)
    model = parse_model(where.text.model, where.text.model_file)
    _check_fields(given, model)
    wanted = _Filter(given, role, ptype, file, _literal(given, where.text.rows, model))
    rows = [row for row in where.text.rows if wanted.has(row, model)]
    if output is RowForm.CSV:
        from meshwarden.authoring.folder_export import csv_lines  # noqa: PLC0415

        echo_policy(csv_lines(rows))
    elif output is not RowForm.HUMAN:
        data = [_plain(row, model) for row in rows]
        show_data(data, Form(output.value))
    else:
        _print_rows(where, model, rows)


def list_rules(
    by: Annotated[
        str,
        typer.Option(
            metavar="FIELD", help="A field of the model, or 'file'; else who or what comes next."
        ),
    ] = "",
    folder: FolderOption = None,
    revision: RevisionOption = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Sum up the policy that is in force: its services, and how many rules each has.

    By another field with --by: `--by who` lists callers and roles, `--by file` the files that the
    rules were written in. `policy get` prints the rules.
    """
    from authz.policy.model import parse_model  # noqa: PLC0415

    where = wanted_policy(config, folder, revision)
    model = parse_model(where.text.model, where.text.model_file)
    fields = model.definitions["p"].fields
    by = by or ("service" if "service" in fields else fields[1 if len(fields) > 1 else 0])
    if by != "file":
        _check_fields({by: ""}, model)
    found: dict[str, dict[str, int]] = {}
    for row in where.text.rows:
        held = {**dict(_named(row, model)), "file": row.file or "api"}
        if by not in held or (row.ptype[0] == "g" and by != "file"):
            continue
        count = found.setdefault(held[by], {"allow": 0, "deny": 0, "roles": 0})
        kind = "roles" if row.ptype[0] == "g" else held.get(_EFFECT, "allow")
        count[kind] = count.get(kind, 0) + 1
    rows = sorted(found.items())
    if output.is_data:
        show_data([{by: name, **count} for name, count in rows], output)
        return
    show(styled((title(where), "bold")))
    head = (by, "allow", "deny", *(["roles"] if by == "file" else []))
    cells = [(name, *(str(count[each] or "") for each in head[1:])) for name, count in rows]
    show(table(head, cells) if cells else "no rule: all is denied")


def title(where: Place) -> str:
    """One line on a policy: which it is, and how much there is in it."""
    rules = sum(row.ptype[0] == "p" for row in where.text.rows)
    roles = len(where.text.rows) - rules
    told = where.name
    if where.revision is not None:
        told += f" by {where.revision.author}, {time_text(where.revision.created_ns)}"
    return f"{told}: {_counted(rules, 'rule')}, {_counted(roles, 'role')} given"


def parse_fields(fields: Sequence[str] | None) -> dict[str, str]:
    """Read --field options.

    Raises:
        BadParameter: One isn't NAME=VALUE.
    """
    found: dict[str, str] = {}
    for each in fields or ():
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--field {each}: write NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _named(row: "Row", model: "Model") -> Iterable[tuple[str, str]]:
    """The values of a row by the names of its fields; a condition that is left off is empty."""
    from authz.authoring.edits import named  # noqa: PLC0415

    definition = model.definitions.get(row.ptype)
    role = model.roles.get(row.ptype)
    fields = (
        definition.fields if definition else named(role) if role else _UNKNOWN[: len(row.values)]
    )
    padded = (*row.values, *("" for _ in fields[len(row.values) :]))
    return zip(fields, padded, strict=False)


def _literal(given: Mapping[str, str], rows: Iterable["Row"], model: "Model") -> frozenset[str]:
    held = {item for row in rows for item in _named(row, model)}
    return frozenset(name for name, wanted in given.items() if (name, wanted) in held)


def _is_like(value: str, wanted: str) -> bool:
    return value == wanted or fnmatchcase(value, wanted)


def _speaks_of(row: "Row", role: str) -> bool:
    names = {role, f"role:{role}"}
    return any(value in names for value in row.values[: 2 if row.ptype[0] == "g" else 1])


def _check_fields(given: Iterable[str], model: "Model") -> None:
    """Refuse a filter that no row could ever meet.

    Raises:
        EditError: The model has no such field.
    """
    import difflib  # noqa: PLC0415

    from authz.authoring.edits import EditError  # noqa: PLC0415

    known = list(
        dict.fromkeys(name for key in model.keys("p") for name in model.definitions[key].fields)
    )
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise EditError(f"the model's rules have no field {name!r}{hint}; {', '.join(known)}")


def _plain(row: "Row", model: "Model") -> dict[str, Any]:
    values = dict(_named(row, model))
    return {"ptype": row.ptype, "values": values, "file": row.file, "line": row.line}


def _print_rows(where: Place, model: "Model", rows: Sequence["Row"]) -> None:
    show(styled((title(where), "bold")))
    if not rows:
        show("no row matches" if where.text.rows else "no rule: all is denied")
        return
    for ptype in dict.fromkeys(row.ptype for row in rows):
        own = [dict(_named(row, model)) | {" ": place(row)} for row in rows if row.ptype == ptype]
        names = list(own[0])
        if _EFFECT in names:
            names.remove(_EFFECT)
            names.insert(0, _EFFECT)
        if "when" in names and not any(each["when"] for each in own):
            names.remove("when")
        shown = {_EFFECT: "", " ": PLACE}
        show("")
        head = [shown.get(name, name) for name in names]
        show(table(head, [[each.get(name, "") for name in names] for each in own]))
