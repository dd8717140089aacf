"""The slow side of a decision: everything there is to say about it."""

from collections.abc import Iterator
from typing import Any

from authz.policy.decision import Decision, Explanation, Miss
from authz.policy.engine import Engine
from authz.policy.evaluate import Scene, evaluate, holds
from authz.policy.language import Terms
from authz.policy.rules import Rule
from authz.policy.syntax import Call, Node, walk
from authz.policy.words import miss_in_words

__all__ = ["explain"]

_MAX_MISSES = 5


def explain(engine: Engine, request: Any, terms: Terms) -> Explanation:
    """Explain one request. Cost: O(rules)."""
    decision = engine.decide(request, terms)
    matching = tuple([rule for rule, raised in engine.matches(request, terms) if not raised])
    misses = () if decision.rule is not None else _misses(engine, request, terms)
    return Explanation(decision, matching, misses, _role_path(engine, request, terms, decision))


def _misses(engine: Engine, request: Any, terms: Terms) -> tuple[Miss, ...]:
    """The rules with the fewest terms that are not met, in the branch where these are fewest."""
    program = engine.program(terms)
    scene = program.scene(request)
    found: list[tuple[int, Rule, Node]] = []
    for rule in engine.in_order(terms.policy):
        if rule.effect != "allow":
            continue
        scene.rule = rule.values
        failing: list[list[Node]] = []
        for branch in program.plan.branches:
            probes = [program.plan.probes[number].term for number in branch.probes]
            terms_ = (*branch.guards, *probes, *branch.rest)
            failing.append([term for term in terms_ if not _is_true(term, scene)])
        fewest = min(failing, key=len)
        if fewest:
            found.append((len(fewest), rule, fewest[0]))
    found.sort(key=lambda each: (each[0], each[1].rank))
    misses: list[Miss] = []
    for count, rule, term in found[:_MAX_MISSES]:
        scene.rule = rule.values
        more = f" (and {count - 1} more)" if count > 1 else ""
        misses.append(Miss(rule, miss_in_words(term, scene) + more))
    return tuple(misses)


def _is_true(term: Node, scene: Scene) -> bool:
    try:
        return holds(term, scene)
    except Exception:  # noqa: BLE001 - what raises has not matched
        return False


def _role_path(engine: Engine, request: Any, terms: Terms, decision: Decision) -> tuple[str, ...]:
    """How the caller comes to the role that made the deciding rule match."""
    if decision.rule is None:
        return ()
    scene = engine.program(terms).scene(request)
    scene.rule = decision.rule.values
    return max(_paths(engine, engine.matcher(terms).node, scene), key=len, default=())


def _paths(engine: Engine, node: Node, scene: Scene) -> Iterator[tuple[str, ...]]:
    for each in walk(node):
        roles = engine.language.roles.get(each.name) if isinstance(each, Call) else None
        if roles is None or not isinstance(each, Call):
            continue
        try:
            path = roles.path(*[evaluate(argument, scene) for argument in each.arguments])
        except Exception:  # noqa: BLE001, S112 - a term that raises made nothing match
            continue
        if len(path) > 1:
            yield tuple([str(name) for name in path])
