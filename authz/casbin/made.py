"""What an engine was made from: pycasbin's definitions, rules, roles and functions, taken over."""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from authz.casbin.assertion import FastRows, watch
from authz.casbin.few import decide_by_few
from authz.casbin.matching import OWN_FUNCTIONS, read_patterns_once
from authz.casbin.roles import LinkedManager, linked
from authz.casbin.rows import Rows
from authz.policy.decision import Decision
from authz.policy.effects import Effect
from authz.policy.engine import Engine
from authz.policy.errors import PolicyError
from authz.policy.language import Terms
from authz.policy.model import Definition, Model, Role
from authz.policy.options import EngineOptions
from authz.policy.roles import Roles
from authz.policy.rules import Row, Rule

__all__ = ["Made", "Unknown", "Way"]

# pycasbin takes no notice of a domain too many, and takes one that is missing for "".
_ROLE_ARITY = re.compile(r"g\d*\(\) takes \d arguments, not \d+")
# The depth at which pycasbin's own role managers stop, and Roles too.
_DEPTH = 10


class Unknown(Exception):  # noqa: N818 - no fault: the enforcer then decides pycasbin's way
    """The model has a part that only pycasbin's own interface knows, such as a role manager."""


@dataclass(slots=True, eq=False)
class _Rules:
    """The rules of one definition, taken over.

    Attributes:
        assertion: pycasbin's definition.
        rows: The list they came from.
        version: How far its changes are taken over.
        lineage: Of the list.
        by_place: The engine's rule for each place in the list.
        misfits: Places of rows that have not as many values as the definition has fields.
    """

    assertion: Any
    rows: Any
    version: Any
    by_place: dict[int, Rule] = field(default_factory=dict)
    misfits: set[int] = field(default_factory=set)
    lineage: object = None


@dataclass(slots=True, eq=False)
class _Links:
    """The links of one role definition, taken over; without a manager there are none."""

    assertion: Any
    manager: LinkedManager | None = None
    links: Roles | None = None
    changes: int = 0


class Way:
    """How decisions with one set of definitions are made, looked up once for all of them.

    Attributes:
        decide: Takes the values of a request, returns the Decision.
        taken: The rules.
        names_allowing: Whether pycasbin names the rule that allows. Where a denying rule ends the
            matter, and no other, it goes through all rules and names none.
    """

    __slots__ = ("decide", "names_allowing", "taken")

    def __init__(self, made: "Made", terms: Terms) -> None:
        self.taken = made.rules[terms.policy]
        language = made.engine.language
        matcher = language.matcher(terms)
        self.names_allowing = matcher.effect is not Effect.ALLOW_AND_DENY
        self.decide: Callable[[tuple[Any, ...]], Decision]
        if isinstance(self.taken.rows, FastRows):
            self.decide = partial(decide_by_few, language, terms, matcher, self.taken.by_place)
        else:
            self.decide = made.engine.program(terms).decide

    def row(self, decision: Decision) -> Any:
        """The row that pycasbin would name: the one at which its scan can stop.

        Returns:
            The row; [] if there is none; None if it is not what it was any more.

        Raises:
            RuntimeError: A row of the wrong size stands before it.
        """
        taken, rule = self.taken, decision.rule
        if rule is not None and decision.allowed and not self.names_allowing:
            rule = None
        if taken.misfits and (rule is None or min(taken.misfits) < rule.rank):
            raise RuntimeError("invalid policy size")
        if rule is None:
            return []
        rows = taken.rows
        if isinstance(rows, FastRows):
            return list(rule.values)
        at = bisect_left(rows.places, rule.rank)
        if at < len(rows):
            row = rows[at]
            if tuple(row) == rule.values:
                return row
        return None


class Made:
    """An engine, and what it was made from.

    Attributes:
        engine: Decides.
        rules: Where its rules came from, by the key of their definition.
        ways: Made so far; see way().
        changes: Odd while the engine is being changed; a decision during which it moved is void.
    """

    def __init__(self, model: Any, functions: dict[str, Any]) -> None:
        watch(model)
        self.changes = 0
        self.ways: dict[Terms, Way] = {}
        sections = model.model
        self._sections = [(key, section, len(section)) for key, section in sections.items()]
        self._definitions = [
            (section, key, assertion, assertion.value)
            for section in sections.values()
            for key, assertion in section.items()
        ]
        self._role_names = frozenset(sections.get("g", ()))
        self._given = dict(functions)
        self._functions = self._own(functions)
        options = EngineOptions(
            backtracking_regex=True,
            now=_now,
            functions=self._functions,
            any_effect=True,
        )
        self.engine = Engine(engine_model(model), options)
        self._links = [self._take_links(key, sections["g"][key]) for key in self._role_names]
        self.rules = {key: self._take_rules(key, sections["p"][key]) for key in sections["p"]}

    def way(self, terms: Terms) -> Way:
        """How decisions with these definitions are made.

        Raises:
            PolicyError: They are not there, or the matcher is outside the language.
            Unknown: The matcher asks for a role with more or fewer names than it is defined with.
        """
        way = self.ways.get(terms)
        if way is None:
            try:
                way = self.ways[terms] = Way(self, terms)
            except PolicyError as error:
                if any(_ROLE_ARITY.fullmatch(fault.message) for fault in error.faults):
                    raise Unknown(str(error)) from error
                raise
        return way

    def _own(self, functions: dict[str, Any]) -> dict[str, Callable[..., Any]]:
        """Those of the enforcer's functions that are neither pycasbin's own nor roles."""
        return {
            name: function
            for name, function in functions.items()
            if OWN_FUNCTIONS.get(name) is not function and name not in self._role_names
        }

    def _take_links(self, key: str, assertion: Any) -> _Links:
        manager = _manager_of(assertion)
        if manager is None:
            # pycasbin then compares names, which is what no links come to.
            return _Links(assertion)
        watched = linked(manager)
        if watched is None or watched.max_hierarchy_level != _DEPTH:
            raise Unknown(key)
        changes = watched.changes
        watched.settle()
        links = self.engine.language.roles[key] = watched.links
        read_patterns_once(links, self.engine.language)
        return _Links(assertion, watched, links, changes)

    def _take_rules(self, key: str, assertion: Any) -> _Rules:
        rows = assertion.policy
        if isinstance(rows, FastRows):
            taken = _Rules(assertion, rows, None)
            self._refill(key, taken)
            return taken
        if not isinstance(rows, Rows):
            raise Unknown(key)
        taken = _Rules(assertion, rows, rows.follow(), lineage=rows.lineage)
        for place, row in zip(rows.places, rows, strict=True):
            self._add(key, taken, place, row)
        return taken

    def _refill(self, key: str, taken: _Rules) -> None:
        """Take over what a FastEnforcer lets be seen for one request: a few rules."""
        taken.by_place.clear()
        taken.misfits.clear()
        taken.version = taken.rows.version
        fields = self.engine.model.definitions[key].fields
        at = fields.index("eft") if "eft" in fields else -1
        for place, row in enumerate(taken.rows):
            if len(row) != len(fields):
                taken.misfits.add(place)
                continue
            effect = "allow" if at < 0 else row[at]
            taken.by_place[place] = Rule(place, key, tuple(row), "", 0, effect, place)

    def _add(self, key: str, taken: _Rules, place: int, row: Any) -> None:
        values = tuple(row)
        if len(values) != len(self.engine.model.definitions[key].fields):
            taken.misfits.add(place)
            return
        if not all(type(value) is str for value in values):
            raise Unknown(key)
        rule = self.engine.add(Row(key, values), place)
        if rule is not None:
            taken.by_place[place] = rule

    def _remove(self, taken: _Rules, place: int) -> None:
        taken.misfits.discard(place)
        rule = taken.by_place.pop(place, None)
        if rule is not None:
            self.engine.withdraw(rule)

    def fits(self, model: Any, functions: dict[str, Any]) -> bool:
        """Whether definitions, functions and role managers are those that it was made from."""
        sections = model.model
        for name, section, size in self._sections:
            if sections.get(name) is not section or len(section) != size:
                return False
        for section, key, assertion, value in self._definitions:
            if section.get(key) is not assertion or assertion.value is not value:
                return False
        for taken in self._links:
            assertion, manager = taken.assertion, taken.manager
            if (assertion.cond_rm if assertion.params_tokens else assertion.rm) is not manager:
                return False
            if manager is not None and not manager.has_made(taken.links):
                return False
        return functions == self._given or self._same_functions(functions)

    def _same_functions(self, functions: dict[str, Any]) -> bool:
        """Whether only such functions differ as mean nothing here."""
        if self._own(functions) != self._functions:
            return False
        self._given = dict(functions)
        return True

    def is_current(self) -> bool:
        """Whether every rule and link is taken over; fits() holds."""
        for taken in self.rules.values():
            rows = taken.assertion.policy
            if rows is not taken.rows or rows.version != taken.version:
                return False
        for links in self._links:
            if links.manager is not None and links.manager.changes != links.changes:
                return False
        return True

    def catch_up(self) -> bool:
        """Take over what changed; False if only a new start can."""
        if not all(self._catch_up_rules(key, taken) for key, taken in self.rules.items()):
            return False
        for links in self._links:
            if links.manager is not None and links.changes != links.manager.changes:
                links.changes = links.manager.changes
                links.manager.settle()
                self.engine.roles_changed()
        return True

    def _catch_up_rules(self, key: str, taken: _Rules) -> bool:
        rows = taken.assertion.policy
        if isinstance(rows, FastRows):
            if rows is taken.rows and rows.version != taken.version:
                self._refill(key, taken)
            return rows is taken.rows
        if not isinstance(rows, Rows) or rows.lineage is not taken.lineage:
            return False
        taken.rows = rows
        changes = rows.since(taken.version)
        if changes is None:
            return False
        # Another thread may have gone on since: what it did comes next time.
        taken.version += len(changes)
        for place, row in changes:
            if row is None:
                self._remove(taken, place)
            else:
                self._add(key, taken, place, row)
        return True


def engine_model(model: Any) -> Model:
    """Pycasbin's model, in the engine's form.

    The order of the list decides, whatever it was made by: pycasbin sorts by priority and by
    subject when it loads. So neither is left for the engine to go by.

    Raises:
        Unknown: A matcher reads a rule's priority.
    """
    made = Model("model")
    sections = model.model
    for section in ("r", "p", "e", "m"):
        for key, assertion in sections.get(section, {}).items():
            fields = tuple([token.removeprefix(key + "_") for token in assertion.tokens])
            value = assertion.text
            if section == "p" and "priority" in fields:
                if any(f"{key}_priority" in each.value for each in sections["m"].values()):
                    raise Unknown(key)
                fields = tuple(["(priority)" if each == "priority" else each for each in fields])
            if section == "e" and value.startswith("subjectPriority"):
                value = value.replace("subjectPriority", "priority", 1)
            made.definitions[key] = Definition(key, value, fields, 0)
    for key, assertion in sections.get("g", {}).items():
        domains = max(len(assertion.tokens) - 2, 0)
        made.roles[key] = Role(key, domains, len(assertion.params_tokens), 0)
    return made


def _manager_of(assertion: Any) -> Any:
    """What answers for a role definition: its conditional manager where it has conditions."""
    return assertion.cond_rm if assertion.params_tokens else assertion.rm


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005, TID251 - pycasbin's timeMatch reads local time as well
