"""Rules and roles of one model, and decisions over them; the part of the engine that can change.

A Snapshot holds an Engine that nobody changes any more; the drop-in Enforcer holds one that
follows its management calls rule by rule.
"""

from collections.abc import Iterator
from typing import Any

from authz.policy.decision import Decision
from authz.policy.effects import Effect
from authz.policy.evaluate import Scene, holds
from authz.policy.language import Language, Matcher, Terms
from authz.policy.model import Model
from authz.policy.options import EngineOptions
from authz.policy.rules import Row, Rule

__all__ = ["Engine"]

_DEFAULT = Terms()


class Engine:
    """The rules and roles of one model.

    Nothing here checks rows: see `checks`. Not safe for a change during a decision in another
    thread.
    """

    def __init__(self, model: Model, options: EngineOptions = EngineOptions()) -> None:  # noqa: B008
        self.model = model
        self.language = Language(model, options)
        self.rules: dict[str, dict[int, Rule]] = {key: {} for key in model.keys("p")}
        self._effect_index = {key: model.field_index(key, "eft") for key in self.rules}
        self._priority_index = {key: model.field_index(key, "priority") for key in self.rules}
        self._next_id = 0
        self._matchers: dict[Terms, Matcher] = {}

    def matcher(self, terms: Terms = _DEFAULT) -> Matcher:
        """The matcher and effect that a decision with these definitions uses."""
        found = self._matchers.get(terms)
        if found is None:
            found = self._matchers[terms] = self.language.matcher(terms)
        return found

    def add(self, row: Row) -> Rule | None:
        """Add one row, checked before; returns the rule, or nothing for a role."""
        roles = self.language.roles.get(row.ptype)
        if roles is not None:
            definition = self.model.roles[row.ptype]
            member, role, *rest = row.values
            domain = rest[0] if definition.domains else ""
            roles.add(member, role, domain)
            return None
        index = self._effect_index[row.ptype]
        effect = "allow" if index < 0 else row.values[index]
        rank: Any = self._next_id
        priority = self._priority_index[row.ptype]
        if priority >= 0:
            rank = (int(row.values[priority]), self._next_id)
        rule = Rule(self._next_id, row.ptype, row.values, row.file, row.line, effect, rank)
        self._next_id += 1
        self.rules[row.ptype][rule.id] = rule
        return rule

    def in_order(self, ptype: str) -> list[Rule]:
        """Every rule of one definition, the first to decide first."""
        return sorted(self.rules[ptype].values(), key=lambda rule: rule.rank)

    def matches(self, request: Any, terms: Terms = _DEFAULT) -> Iterator[tuple[Rule, bool]]:
        """Each rule that matches, in order, and whether it does so only because it raised."""
        node = self.matcher(terms).node
        scene = Scene(request, (), self.language)
        for rule in self.in_order(terms.policy):
            scene.rule = rule.values
            try:
                if holds(node, scene):
                    yield rule, False
            except Exception:  # noqa: BLE001 - judged: closed, whatever it was
                yield rule, True

    def decide_by_scan(self, request: Any, terms: Terms = _DEFAULT) -> Decision:
        """Decide by trying every rule: what decide() must always agree with.

        Cost: O(rules).
        """
        effect = self.matcher(terms).effect
        if not self.rules[terms.policy]:
            return self._without_rules(request, terms)
        first: dict[str, Rule] = {}
        faults: list[Rule] = []
        for rule, raised in self.matches(request, terms):
            if raised:
                faults.append(rule)
                if rule.effect != "deny":
                    continue
            first.setdefault(rule.effect, rule)
        return verdict(effect, first, tuple(faults))

    decide = decide_by_scan

    def _without_rules(self, request: Any, terms: Terms) -> Decision:
        """An empty policy: Casbin tries the matcher once, with every field of the rule empty."""
        matcher = self.matcher(terms)
        blank = ("",) * len(self.model.definitions[terms.policy].fields)
        try:
            allowed = holds(matcher.node, Scene(request, blank, self.language))
        except Exception:  # noqa: BLE001 - judged: closed
            allowed = False
        return Decision(allowed or matcher.effect.otherwise, None)


def verdict(effect: Effect, first: dict[str, Rule], faults: tuple[Rule, ...]) -> Decision:
    """The decision, from the first matching rule of each effect."""
    found = [first[each] for each in effect.counts if each in first]
    if not found:
        return Decision(effect.otherwise, None, faults)
    rule = min(found, key=lambda each: each.rank) if effect.ordered else found[0]
    return Decision(rule.effect == "allow", rule, faults)
