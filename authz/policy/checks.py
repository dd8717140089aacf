"""Rows to rules: everything that must hold before a row may become a rule.

Casbin takes a rule with a misspelt effect and lets it mean the contrary; here a row that is not
right is a fault with its file and line, and a policy with a fault is not used at all.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from authz.policy.errors import ExpressionError, Fault
from authz.policy.functions.mesh import check_role
from authz.policy.language import Language, Terms, compared_constants, policy_fields
from authz.policy.nearest import did_you_mean
from authz.policy.rules import Row

__all__ = ["RowChecks", "natural_terms"]

_PRIORITY = re.compile(r"-?[0-9]{1,15}")
_EFFECTS = {"allow", "deny"}
_MAX_REMEMBERED = 4096
_MOST_HINTS = 20

Check = Callable[[str], object]


def natural_terms(language: Language) -> list[Terms]:
    """The combinations of definitions that a model has by itself: r p e m, r2 p2 e2 m2, ...

    A matcher whose number has no request, policy or effect of its own takes the first one's.
    """
    definitions = language.model.definitions
    found: list[Terms] = []
    for matcher in language.model.keys("m"):
        number = matcher[1:]
        keys = [letter + number if letter + number in definitions else letter for letter in "rpe"]
        found.append(Terms(keys[0], keys[1], keys[2], matcher))
    return found


class RowChecks:
    """Checks rows of one model, and remembers which values it has found right."""

    def __init__(self, language: Language, terms: Sequence[Terms]) -> None:
        self._language = language
        self._model = language.model
        self._fields: dict[str, list[tuple[int, set[object], Check]]] = {}
        self._optional: set[str] = set()
        for each in terms:
            self._read(each)
        self._priority = {
            key: self._model.field_index(key, "priority") for key in self._model.keys("p")
        }
        self._effect = {key: self._model.field_index(key, "eft") for key in self._model.keys("p")}
        self._good: set[tuple[int, str, str]] = set()
        self._is_mesh = language.is_mesh
        self._given: set[str] = set()
        self._asked: dict[str, Row] = {}

    def _read(self, terms: Terms) -> None:
        """Find what the matcher will ask of each field of a rule."""
        node = self._language.matcher(terms).node
        exempt = compared_constants(node, terms.policy)
        checks = self._fields.setdefault(terms.policy, [])
        for index, functions in policy_fields(node, terms.policy).items():
            for function in dict.fromkeys(functions):
                check = self._check_of(function, terms)
                if check is not None:
                    checks.append((index, exempt.get(index, set()), check))
                fields = self._model.definitions[terms.policy].fields
                if function == "meshWhen" and index == len(fields) - 1:
                    self._optional.add(terms.policy)

    def _check_of(self, function: str, terms: Terms) -> Check | None:
        language = self._language
        if function == "eval":
            return lambda text: language.condition(text, terms)
        if function == "meshWhen":
            return language.when
        known = language.functions.get(function)
        if known is None or known.prepare is None:
            return None
        return lambda text: language.pattern(function, text)

    def complete(self, row: Row) -> Row:
        """Fill in what the row may leave off: the condition of a mesh rule."""
        definition = self._model.definitions.get(row.ptype)
        if (
            definition is not None
            and row.ptype in self._optional
            and len(row.values) == len(definition.fields) - 1
        ):
            return Row(row.ptype, (*row.values, ""), row.file, row.line)
        return row

    def faults(self, row: Row) -> list[Fault]:
        """Everything that is wrong with one row; the row is complete."""
        if row.ptype in self._model.roles:
            messages = self._role(row)
        elif row.ptype[:1] == "p" and row.ptype in self._model.definitions:
            messages = self._rule(row)
        else:
            kind = "role definition" if row.ptype.startswith("g") else "policy definition"
            messages = [f"the model has no {kind} {row.ptype[:40]!r}"]
        return [Fault(row.file, row.line, message) for message in messages]

    def undefined(self) -> list[Fault]:
        """Rules that speak of a role which nobody is given; in the mesh model roles are marked."""
        return [
            Fault(row.file, row.line, f"{role!r} is a role that no g row gives{hint}")
            for role, row, hint in self._unknown_roles()
        ]

    def _unknown_roles(self) -> Iterator[tuple[str, Row, str]]:
        """With the nearest that is given, for as many as somebody reads."""
        number = 0
        for role, row in self._asked.items():
            if role not in self._given:
                number += 1
                hint = did_you_mean(role, self._given) if number <= _MOST_HINTS else ""
                yield role, row, hint

    def _role(self, row: Row) -> list[str]:
        wanted = self._model.roles[row.ptype].arity
        if len(row.values) != wanted:
            return [f"{row.ptype} takes {wanted} values, not {len(row.values)}"]
        if self._is_mesh:
            try:
                check_role(*row.values[:2])
            except ExpressionError as error:
                return [str(error)]
            self._given.add(row.values[1])
        return []

    def _rule(self, row: Row) -> list[str]:
        fields = self._model.definitions[row.ptype].fields
        values = row.values
        if len(values) != len(fields):
            missing = ", ".join(fields[len(values) :])
            hint = f" ({missing} missing)" if missing else ""
            return [f"{row.ptype} takes {len(fields)} values, not {len(values)}{hint}"]
        if self._is_mesh and values[0].startswith("role:"):
            self._asked.setdefault(values[0], row)
        messages: list[str] = []
        effect = self._effect[row.ptype]
        if effect >= 0 and values[effect] not in _EFFECTS and not self._language.options.any_effect:
            hint = did_you_mean(values[effect][:40], ("allow", "deny"))
            messages.append(f"unknown effect {values[effect][:40]!r}; it is allow or deny{hint}")
        priority = self._priority[row.ptype]
        if priority >= 0 and not _PRIORITY.fullmatch(values[priority]):
            messages.append(f"priority {values[priority][:40]!r} is not a whole number")
        for index, exempt, check in self._fields.get(row.ptype, ()):
            value = values[index]
            key = (index, row.ptype, value)
            if key in self._good or value in exempt:
                continue
            try:
                check(value)
            except ExpressionError as error:
                messages.append(f"{fields[index]}: {error}")
            else:
                if len(self._good) >= _MAX_REMEMBERED:
                    self._good.clear()
                self._good.add(key)
        return messages
