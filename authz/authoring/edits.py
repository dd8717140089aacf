"""One rule added to a policy or taken out of it, by the names of the model's fields.

Nothing is validated here but what a person gets wrong on a command line: the names of fields, one
that is missing, a line that isn't there. Whether the policy still builds is for the engine to say.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from authz.authoring.diff import words
from authz.errors import AuthzError
from authz.policy.csv_rows import write_line
from authz.policy.mesh import mesh_model
from authz.policy.model import Definition, Model, Role, parse_model
from authz.policy.rules import PolicyText, Row

__all__ = ["Edit", "EditError", "Pick", "add", "build_link", "build_rule", "named", "remove"]

_EFFECT = "eft"
_NEAR = 3
_MAX_LISTED = 10


class EditError(AuthzError):
    """A change that can't be made as it was asked for; the message says what to write instead."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


@dataclass(frozen=True, slots=True)
class Edit:
    """A policy with one change made.

    Attributes:
        text: The policy after it.
        added: Rows that are new.
        removed: Rows that are gone, as they were written.
        same: The row that says so already, where nothing had to be changed.
    """

    text: PolicyText
    added: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()
    same: Row | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """Which line is meant.

    Attributes:
        ptype: "p", "g2", ...
        values: Field's name to value; a field that isn't named may hold anything.
        place: "FILE:LINE"; "" if it may stand anywhere.
    """

    ptype: str
    values: Mapping[str, str]
    place: str = ""


def build_rule(text: PolicyText, ptype: str, effect: str, values: Mapping[str, str]) -> Row:
    """Make the rule of some values by the model's own fields.

    Args:
        text: The policy that it is for.
        ptype: "p", "p2", ...
        effect: "allow" or "deny".
        values: Field's name to value, all but the effect.

    Raises:
        EditError: A field is missing or there is none of that name, or the model's rules can't say
            that effect.
    """
    model = parse_model(text.model, text.model_file)
    fields = _definition(model, ptype).fields
    given = dict(values)
    if _EFFECT in fields:
        if given.setdefault(_EFFECT, effect) != effect:
            raise EditError(f"{_EFFECT} is {given[_EFFECT]!r}, but {effect!r} was asked for")
    elif effect != "allow":
        raise EditError(
            f"the model's {ptype} has no field {_EFFECT!r}: a rule of it only ever allows"
        )
    is_mesh = text.model == mesh_model()
    _check_names(given, fields, ptype)
    optional = {"when"} if is_mesh else set()
    missing = [name for name in fields if name not in given and name not in optional]
    if missing:
        raise EditError(f"{', '.join(missing)} missing: a {ptype} has {', '.join(fields)}")
    row = Row(ptype, tuple(given.get(name, "").strip() for name in fields))
    if is_mesh:
        row = replace(row, values=(_principal(row.values[0], text), *row.values[1:]))
        if not row.values[-1]:
            row = replace(row, values=row.values[:-1])
    return _checked(row)


def build_link(text: PolicyText, ptype: str, values: Sequence[str]) -> Row:
    """Make the row that gives a role.

    Args:
        text: The policy that it is for.
        ptype: "g", "g2", ...
        values: Member, role, and what else the model's roles have.

    Raises:
        EditError: The model has no such roles, or they have another number of values.
    """
    model = parse_model(text.model, text.model_file)
    role = _role(model, ptype)
    if len(values) != role.arity:
        parts = ["MEMBER", "ROLE", *(["DOMAIN"] * role.domains), *(["VALUE"] * role.parameters)]
        raise EditError(f"a {ptype} has {role.arity} values, not {len(values)}: {' '.join(parts)}")
    member, *rest = (value.strip() for value in values)
    if text.model == mesh_model():
        member = _principal(member, text)
    return _checked(Row(ptype, (member, *rest)))


def add(text: PolicyText, row: Row) -> Edit:
    """Add a row behind the others, unless the policy has it."""
    same = next((each for each in text.rows if words(each) == words(row)), None)
    if same is not None:
        return Edit(text, same=same)
    return Edit(replace(text, rows=(*text.rows, row)), added=(row,))


def remove(text: PolicyText, pick: Pick) -> Edit:
    """Take out the one line that is meant; lines that say the very same go together.

    Raises:
        EditError: No line is meant, or several that say different things.
    """
    model = parse_model(text.model, text.model_file)
    if pick.ptype[:1] == "g":
        fields = named(_role(model, pick.ptype))
    else:
        fields = _definition(model, pick.ptype).fields
    _check_names(pick.values, fields, pick.ptype)
    wanted = {name: value.removeprefix("spiffe://") for name, value in pick.values.items()}
    found = [
        row
        for row in text.rows
        if row.ptype == pick.ptype
        and (not pick.place or _place(row) == pick.place)
        and all(value == wanted.get(name, value) for name, value in _named_values(row, fields))
    ]
    if not found:
        raise EditError("\n".join(_not_found(text.rows, pick, wanted, fields)))
    if len({words(row) for row in found}) > 1:
        raise EditError("\n".join(_ambiguous(found)))
    gone = {id(row) for row in found}
    left = tuple(row for row in text.rows if id(row) not in gone)
    return Edit(replace(text, rows=left), removed=tuple(found))


def named(role: Role) -> tuple[str, ...]:
    """What the values of a row that gives a role are called."""
    more = ("domain",) if role.domains else ()
    return ("member", "role", *more, *(f"value{at + 1}" for at in range(role.parameters)))


def _definition(model: Model, ptype: str) -> Definition:
    found = model.definitions.get(ptype)
    if found is None or ptype[:1] != "p":
        raise EditError(f"the model has no {ptype!r}; it has {', '.join(model.keys('p'))}")
    return found


def _role(model: Model, ptype: str) -> Role:
    found = model.roles.get(ptype)
    if found is None:
        told = f"it has {', '.join(model.roles)}" if model.roles else "it has no roles at all"
        raise EditError(f"the model has no {ptype!r}; {told}")
    return found


def _check_names(given: Iterable[str], fields: Sequence[str], ptype: str) -> None:
    for name in given:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise EditError(f"a {ptype} has no field {name!r}{hint}; it has {', '.join(fields)}")


def _principal(who: str, text: PolicyText) -> str:
    """A caller as rules name it; one that nobody could ever be is refused.

    Raises:
        EditError: It is a name without a slash, which no certificate holds.
    """
    who = who.removeprefix("spiffe://")
    if who == "*" or "/" in who or ":" in who:
        return who
    known = {row.values[0] for row in text.rows if row.values}
    # What is meant is most often the account of somebody that the policy knows.
    near = sorted(name for name in known if name.endswith((f"/{who}", f":{who}")))
    near = near or difflib.get_close_matches(who, sorted(known), n=_NEAR, cutoff=0.4)
    hint = f"; do you mean {' or '.join(near[:_NEAR])}?" if near else ""
    raise EditError(
        f"{who!r} names nobody: write *, TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT, role:NAME or "
        f"user:ISSUER/SUBJECT{hint}"
    )


def _checked(row: Row) -> Row:
    """A row that a file can hold.

    Raises:
        EditError: It can't.
    """
    try:
        write_line(row)
    except ValueError as error:
        raise EditError(str(error)) from error
    return row


def _named_values(row: Row, fields: Sequence[str]) -> Iterable[tuple[str, str]]:
    # A condition that a row leaves off is an empty one.
    padded = (*row.values, *("" for _ in fields[len(row.values) :]))
    return zip(fields, padded, strict=False)


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}" if row.file else "api"


def _line(row: Row) -> str:
    return f"{_place(row)}: {', '.join(words(row))}"


def _not_found(
    rows: Sequence[Row], pick: Pick, wanted: Mapping[str, str], fields: Sequence[str]
) -> Iterable[str]:
    asked = ", ".join(f"{name} {value!r}" for name, value in wanted.items())
    if pick.place:
        asked = f"{asked} at {pick.place}" if asked else pick.place
    yield f"no {pick.ptype} has {asked}"

    def likeness(row: Row) -> tuple[int, float]:
        held = dict(_named_values(row, fields))
        equal = sum(held[name] == value for name, value in wanted.items())
        ratios = (
            difflib.SequenceMatcher(None, held[name], value).ratio()
            for name, value in wanted.items()
        )
        return equal, sum(ratios)

    candidates = [row for row in rows if row.ptype == pick.ptype]
    if candidates and wanted:
        yield "the nearest:"
        # Comparing letters is slow: only among those that agree on most fields.
        by_fields = sorted(
            candidates,
            key=lambda row: (
                -sum(value == wanted.get(name) for name, value in _named_values(row, fields))
            ),
        )[:200]
        for row in sorted(by_fields, key=likeness, reverse=True)[:_NEAR]:
            yield f"  {_line(row)}"


def _ambiguous(found: Sequence[Row]) -> Iterable[str]:
    yield f"{len(found)} lines are meant; name one by more of its fields, or by its place with --at"
    for row in found[:_MAX_LISTED]:
        yield f"  {_line(row)}"
    if len(found) > _MAX_LISTED:
        yield f"  ... and {len(found) - _MAX_LISTED} more"
