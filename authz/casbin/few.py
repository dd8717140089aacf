"""Decides by a handful of rules, one after the other: what a FastEnforcer lets be seen of a policy.

With other rules for each request there is nothing to be gained from an index, nor from compiling.
"""

from collections.abc import Mapping
from typing import Any

from authz.policy.decision import Decision
from authz.policy.evaluate import Scene, holds
from authz.policy.language import Language, Matcher, Terms
from authz.policy.rules import Rule

__all__ = ["decide_by_few"]


def decide_by_few(
    language: Language,
    terms: Terms,
    matcher: Matcher,
    rules: Mapping[int, Rule],
    request: tuple[Any, ...],
) -> Decision:
    """Decide one request by these rules, in their order; Engine.decide() with them agrees.

    Args:
        language: What the texts of the model and the rules mean.
        terms: The definitions to decide with.
        matcher: Theirs.
        rules: By place.
        request: The values.

    Cost: O(rules).
    """
    node, effect = matcher
    scene = Scene(request, (), language.calls(terms))
    first: dict[str, Rule] = {}
    faults: list[Rule] = []
    seen = False
    for rule in rules.values():
        seen = True
        scene.rule = rule.values
        try:
            matches = holds(node, scene)
        except Exception:  # noqa: BLE001 - judged: closed, whatever it was
            faults.append(rule)
            matches = rule.effect == "deny"
        if matches:
            first.setdefault(rule.effect, rule)
    if not seen:
        scene.rule = ("",) * len(language.model.definitions[terms.policy].fields)
        try:
            allowed = holds(node, scene)
        except Exception:  # noqa: BLE001 - judged: closed
            allowed = False
        return Decision(allowed or effect.otherwise, None)
    found = [first[each] for each in effect.counts if each in first]
    if not found:
        return Decision(effect.otherwise, None, tuple(faults))
    rule = min(found, key=lambda each: each.id) if effect.ordered else found[0]
    return Decision(rule.effect == "allow", rule, tuple(faults))
