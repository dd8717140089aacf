"""Rules and roles of one model, and decisions over them; the part of the engine that can change.

A Snapshot holds an Engine that nobody changes any more; the drop-in Enforcer holds one that follows
its management calls rule by rule.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Any

from authz.policy.decision import Decision
from authz.policy.effects import Effect, parse_effect
from authz.policy.errors import ExpressionError
from authz.policy.evaluate import Scene, holds
from authz.policy.language import Language, Matcher, Terms
from authz.policy.levels import subject_levels
from authz.policy.model import Model
from authz.policy.options import EngineOptions
from authz.policy.program import Program
from authz.policy.release import emptied
from authz.policy.rules import Row, Rule

__all__ = ["Engine"]

_DEFAULT = Terms()
# How many rules it takes to tell what to file by, and how many to look at for that.
_FIRST_ARRANGEMENT = 64
_SAMPLE = 512
_SLICE = 100
# Where a deny beats every allow, that is what ranks say: any deny rule comes before this.
_ALLOWING = 1 << 29
# The same for ranks that the drop-in gives; it leaves wide gaps between them.
_BEHIND = 1 << 80


class Engine:
    """The rules and roles of one model.

    Nothing here checks rows: see `checks`. Not safe for a change during a decision in another
    thread.

    Attributes:
        rules: For each policy definition, its rules by id.
    """

    def __init__(self, model: Model, options: EngineOptions = EngineOptions()) -> None:  # noqa: B008
        self.model = model
        self.language = Language(model, options)
        self.rules: dict[str, dict[int, Rule]] = {key: {} for key in model.keys("p")}
        self._effect_index = {key: model.field_index(key, "eft") for key in self.rules}
        self._priority_index = {key: model.field_index(key, "priority") for key in self.rules}
        self._next_id = 0
        self._deny_first = all(
            _denies_first(model.definitions[key].text) for key in model.keys("e")
        )
        self._programs: dict[Terms, Program] = {}
        # While many rules come in, equal words become one object: less to hold, and quicker to tell
        # equal when a decision meets them.
        self._words: dict[str, str] | None = None
        self._by_values: dict[str, dict[tuple[str, ...], list[Rule]]] = {}
        self._arrange_at = dict.fromkeys(self.rules, _FIRST_ARRANGEMENT)

    def matcher(self, terms: Terms = _DEFAULT) -> Matcher:
        """The matcher and effect that a decision with these definitions uses."""
        return self.program(terms).matcher

    def program(self, terms: Terms = _DEFAULT) -> Program:
        """What decides with these definitions. Cost: O(rules) when first asked for.

        Raises:
            PolicyError: The definitions are not there, or don't go together.
        """
        found = self._programs.get(terms)
        if found is None:
            rules = self.rules.get(terms.policy, {})
            found = Program(
                self.language,
                terms,
                rules,
                deny_first=self._deny_first and not self._ranked_pairs(terms.policy),
            )
            found.arrange([rule.values for rule in _sampled(list(rules.values()))])
            for rule in rules.values():
                found.add(rule)
            self._programs[terms] = found
        return found

    def prepare(self, every: Iterable[Terms], rows: Sequence[Row]) -> None:
        """Get ready for many rows to come, which settle() then files where they stay.

        Raises:
            PolicyError: The definitions don't go together.
        """
        self._words = {}
        for terms in every:
            sample = [row.values for row in _sampled(rows) if row.ptype == terms.policy]
            self.program(terms).arrange(sample)
            self._arrange_at[terms.policy] = max(_FIRST_ARRANGEMENT, 4 * len(rows))

    def settle(self) -> Iterator[None]:
        """End what prepare() began: file the rules that have come since.

        One kind of table after the other: tables that grow together also take their pauses to grow
        together.

        Yields:
            Nothing, every few milliseconds.

        Raises:
            ExpressionError: Rules are ordered by roles, and these go in a circle.
        """
        words, self._words = self._words or {}, None
        yield from emptied(words)
        for terms, program in self._programs.items():
            for step in program.steps:
                for number, rule in enumerate(self.rules[terms.policy].values()):
                    step(rule)
                    if number % _SLICE == 0:
                        yield
        for roles in self.language.roles.values():
            yield from roles.file()
        self.rank_by_subject()

    def is_ordered(self, every: Iterable[Terms]) -> bool:
        """Whether the order of rules may change a verdict of one of these."""
        return any(self.matcher(terms).effect.ordered for terms in every)

    def _ranked_pairs(self, ptype: str) -> bool:
        return self._priority_index.get(ptype, -1) >= 0 or self._by_subject

    @property
    def _by_subject(self) -> bool:
        """Whether rules are ordered by the depth of their subject's role."""
        effect = self.model.definitions.get("e")
        return effect is not None and effect.text.startswith("subjectPriority")

    def add(self, row: Row, rank: int | None = None) -> Rule | None:
        """Add one row, checked before; returns the rule, or nothing for a role.

        Args:
            row: The row.
            rank: Where the rule stands in the order of rules, for a model without priorities; None
                puts it last.

        Cost: O(fields), and now and then, as rules grow fourfold, O(rules).
        """
        roles = self.language.roles.get(row.ptype)
        if roles is not None:
            member, role, domain = self._link(row)
            roles.add(member, role, domain)
            definition = self.model.roles[row.ptype]
            if definition.parameters:
                given = row.values[2 + definition.domains :]
                roles.set_parameters(member, role, domain, *given)
            self.roles_changed()
            return None
        rule = self._new_rule(row)
        if rank is not None:
            behind = self._deny_first and rule.effect != "deny"
            rule.rank = rank + _BEHIND if behind else rank
        rules = self.rules[row.ptype]
        rules[rule.id] = rule
        if row.ptype in self._by_values:
            self._by_values[row.ptype].setdefault(rule.values, []).append(rule)
        if self._words is None:
            for terms, program in self._programs.items():
                if terms.policy == row.ptype:
                    program.add(rule)
            if len(rules) >= self._arrange_at[row.ptype]:
                self.arrange(row.ptype)
        return rule

    def _new_rule(self, row: Row) -> Rule:
        index = self._effect_index[row.ptype]
        effect = "allow" if index < 0 else row.values[index]
        number = self._next_id
        self._next_id += 1
        rank: Any = number
        priority = self._priority_index[row.ptype]
        if priority >= 0:
            rank = (int(row.values[priority]), number)
        elif self._by_subject:
            # Casbin places a rule by its subject when the policy is loaded, and last when it comes
            # later.
            rank = (inf, number)
        elif self._deny_first and effect != "deny":
            rank = number + _ALLOWING
        values = row.values
        if self._words is not None:
            same = self._words.setdefault
            values = tuple([same(value, value) for value in values])
        return Rule(number, row.ptype, values, row.file, row.line, effect, rank)

    def _link(self, row: Row) -> tuple[str, str, str]:
        member, role, *rest = row.values
        return member, role, rest[0] if self.model.roles[row.ptype].domains else ""

    def remove(self, ptype: str, values: tuple[str, ...]) -> bool:
        """Remove one rule or role with these values; returns whether there was one.

        Cost: O(fields); the first removal of a rule is O(rules).
        """
        roles = self.language.roles.get(ptype)
        if roles is not None:
            removed = roles.remove(*self._link(Row(ptype, values)))
            self.roles_changed()
            return removed
        known = self._by_values.get(ptype)
        if known is None:
            known = self._by_values[ptype] = {}
            for rule in self.rules[ptype].values():
                known.setdefault(rule.values, []).append(rule)
        same = known.get(values)
        if not same:
            return False
        self.withdraw(same[0])
        return True

    def withdraw(self, rule: Rule) -> None:
        """Remove one rule that add() has returned. Cost: O(fields)."""
        known = self._by_values.get(rule.ptype)
        if known is not None:
            same = known[rule.values]
            same.remove(rule)
            if not same:
                del known[rule.values]
        del self.rules[rule.ptype][rule.id]
        for terms, program in self._programs.items():
            if terms.policy == rule.ptype:
                program.remove(rule)

    def roles_changed(self) -> None:
        """Drop what was remembered about roles; call it after touching them directly."""
        for program in self._programs.values():
            program.forget()

    def arrange(self, ptype: str) -> None:
        """File the rules of one definition anew, by what tells them apart best. Cost: O(rules)."""
        rules = list(self.rules[ptype].values())
        self._arrange_at[ptype] = max(_FIRST_ARRANGEMENT, 4 * len(rules))
        for terms, program in self._programs.items():
            if terms.policy == ptype:
                program.arrange([rule.values for rule in _sampled(rules)])
                for rule in rules:
                    program.file(rule)

    def rank_by_subject(self) -> None:
        """Order rules by the depth of their subject's role, where the effect asks for it.

        Raises:
            ExpressionError: Roles go in a circle.
        """
        if not self._by_subject:
            return
        for ptype, rules in self.rules.items():
            levels = subject_levels(self.language.roles)
            domain = self.model.field_index(ptype, "dom")
            for rule in rules.values():
                place = rule.values[domain] if domain >= 0 else ""
                rule.rank = (levels.get((place, rule.values[0]), 0), rule.id)
            self.arrange(ptype)

    def in_order(self, ptype: str) -> list[Rule]:
        """Every rule of one definition, the first to decide first."""
        return sorted(self.rules[ptype].values(), key=lambda rule: rule.rank)

    def matches(self, request: Any, terms: Terms = _DEFAULT) -> Iterator[tuple[Rule, bool]]:
        """Each rule that matches, in order, and whether it does so only because it raised."""
        node = self.matcher(terms).node
        scene = Scene(request, (), self.language.calls(terms))
        for rule in self.in_order(terms.policy):
            scene.rule = rule.values
            try:
                if holds(node, scene):
                    yield rule, False
            except Exception:  # noqa: BLE001 - judged: closed, whatever it was
                yield rule, True

    def decide(self, request: Any, terms: Terms = _DEFAULT) -> Decision:
        """Decide one request."""
        return self.program(terms).decide(request)

    def decider(self) -> Callable[[Any], Decision]:
        """What decides with the model's first definitions; stays the same whatever rules come.

        A model may lack one of these, and then raises once it is asked.
        """
        if set(_DEFAULT) <= set(self.model.definitions):
            return self.program().decide
        return self.decide

    def as_pycasbin(self, decision: Decision, terms: Terms = _DEFAULT) -> tuple[bool, list[str]]:
        """What pycasbin's enforce_ex returns for a decision.

        Where a single denying rule ends the matter, pycasbin names no rule for an allowed request.
        """
        rule = decision.rule
        effect = self.matcher(terms).effect
        if rule is None or (decision.allowed and effect is Effect.ALLOW_AND_DENY):
            return decision.allowed, []
        return decision.allowed, list(rule.values)

    def decide_by_scan(self, request: Any, terms: Terms = _DEFAULT) -> Decision:
        """Decide by trying every rule: what decide() must always agree with.

        Cost: O(rules).
        """
        effect = self.matcher(terms).effect
        if not self.rules[terms.policy]:
            return self.program(terms).blank(request)
        first: dict[str, Rule] = {}
        faults: list[Rule] = []
        for rule, raised in self.matches(request, terms):
            if raised:
                faults.append(rule)
                if rule.effect != "deny":
                    continue
            first.setdefault(rule.effect, rule)
        return _verdict(effect, first, tuple(faults))


def _verdict(effect: Effect, first: dict[str, Rule], faults: tuple[Rule, ...]) -> Decision:
    """The decision, from the first matching rule of each effect."""
    found = [first[each] for each in effect.counts if each in first]
    if not found:
        return Decision(effect.otherwise, None, faults)
    rule = min(found, key=lambda each: each.rank) if effect.ordered else found[0]
    return Decision(rule.effect == "allow", rule, faults)


def _denies_first(effect: str) -> bool:
    try:
        return parse_effect(effect) is Effect.ALLOW_AND_DENY
    except ExpressionError:
        return False  # It is refused as soon as something is to be decided by it.


def _sampled(every: Sequence[Any]) -> Sequence[Any]:
    """Some of them, spread evenly."""
    return every[:: max(1, len(every) // _SAMPLE)]
