"""Casbin's model text to definitions.

Source: casbin.org/docs/syntax-for-models. Comments start with `#` (or `;` at the start of a line)
and may stand after a value, outside quotes; a backslash at the end of a line continues it.
"""

import re
from dataclasses import dataclass, field

from authz.policy.errors import Fault, PolicyError
from authz.policy.nearest import did_you_mean

__all__ = ["Definition", "Model", "Role", "parse_model", "without_comment"]

_SECTIONS = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
_KEY = re.compile(r"([rpgem])(\d*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ROLE = re.compile(r"\s*_\s*(?:,\s*_\s*){1,2}(?:,\s*\(\s*_\s*(?:,\s*_\s*)*\)\s*)?")


@dataclass(frozen=True, slots=True)
class Definition:
    """One line of a model.

    Attributes:
        key: "r", "p2", "e", "m", ...
        text: What stands after the equals sign, comments taken off.
        fields: Names in the order of the line; empty but for "r" and "p".
        line: 1-based line in the model.
    """

    key: str
    text: str
    fields: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Role:
    """One role definition.

    Attributes:
        key: "g", "g2", ...
        domains: 1 when a link has a domain, else 0.
        parameters: How many values of a row go to the link's condition.
        line: 1-based line in the model.
    """

    key: str
    domains: int
    parameters: int
    line: int

    @property
    def arity(self) -> int:
        """How many values a row has."""
        return 2 + self.domains + self.parameters


@dataclass(frozen=True, slots=True)
class Model:
    """A model whose sections are all there and whose names are all well formed.

    Attributes:
        file: How messages name the model.
        definitions: By key; "r", "p", "e" and "m" definitions.
        roles: By key.
    """

    file: str
    definitions: dict[str, Definition] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)

    def field_index(self, key: str, name: str) -> int:
        """Place of a field in a request or policy definition; -1 if it has none of that name."""
        definition = self.definitions.get(key)
        if definition is None or name not in definition.fields:
            return -1
        return definition.fields.index(name)

    def keys(self, letter: str) -> list[str]:
        """Keys of one kind, such as ["p", "p2"] for "p", in the order of the model."""
        return [key for key in self.definitions if key[0] == letter]


def parse_model(text: str, file: str) -> Model:
    """Read a model.

    Raises:
        PolicyError: A section is missing or empty, or a line is outside the language; lists all.
    """
    model = Model(file)
    faults: list[Fault] = []
    section: str | None = None
    for number, line in _logical_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = _SECTIONS.get(line[1:-1].strip())
            if section is None:
                known = [f"[{name}]" for name in _SECTIONS]
                told = did_you_mean(line, known) or f"; there are: {', '.join(known)}"
                faults.append(Fault(file, number, f"unknown section {line}{told}"))
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        message = (
            f"expected KEY = VALUE, found {line[:40]!r}"
            if not equals
            else _add(model, section, key, value, number)
        )
        if message:
            faults.append(Fault(file, number, message))
    if not faults:
        for name, letter in _SECTIONS.items():
            if letter != "g" and letter not in model.definitions:
                faults.append(Fault(file, 0, f"section [{name}] has no {letter!r}"))
    if faults:
        raise PolicyError(faults)
    return model


def _add(  # noqa: PLR0911 - one return a fault
    model: Model,
    section: str | None,
    key: str,
    value: str,
    line: int,
) -> str:
    """Add one definition; returns what is wrong with it, or nothing."""
    match = _KEY.fullmatch(key)
    if section is None or match is None or match[1] != section:
        return f"{key[:40]!r} does not belong in this section"
    if key in model.definitions or key in model.roles:
        return f"{key!r} is defined twice"
    if not value:
        return f"{key!r} is empty"
    if section == "g":
        if not _ROLE.fullmatch(value):
            return f"a role definition is _, _ or _, _, _ and not {value[:40]!r}"
        links, _, parameters = value.partition("(")
        model.roles[key] = Role(key, links.count("_") - 2, parameters.count("_"), line)
        return ""
    fields: tuple[str, ...] = ()
    if section in {"r", "p"}:
        fields = tuple(name.strip() for name in value.split(","))
        for name in fields:
            if not _NAME.fullmatch(name):
                return f"{name[:40]!r} is no field name"
        if len(set(fields)) < len(fields):
            return f"{key!r} has a field twice"
    model.definitions[key] = Definition(key, value, fields, line)
    return ""


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Join continued lines and take off comments; each with the number of its first line."""
    lines: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = without_comment(raw).strip()
        if begun is not None:
            number, line = begun[0], f"{begun[1]} {line}"  # noqa: PLW2901 - the line goes on
        if line.endswith("\\"):
            begun = (number, line[:-1].strip())
            continue
        begun = None
        if line:
            lines.append((number, line))
    if begun is not None and begun[1]:
        lines.append(begun)
    return lines


def without_comment(line: str) -> str:
    """Cut at the first # that stands outside quotes; a line that starts with ; is all comment."""
    if line.lstrip().startswith(";"):
        return ""
    quote = ""
    for at, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#":
            return line[:at]
    return line
