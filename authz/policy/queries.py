"""Questions the other way round: who can do this, what can they do.

A request with some of its fields left open. A rule answers if every term that can be judged without
them holds; what hangs on an open field is handed back in words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from authz.policy.engine import Engine
from authz.policy.evaluate import Scene, holds
from authz.policy.language import Terms
from authz.policy.plan import Branch
from authz.policy.program import Program
from authz.policy.rules import Rule
from authz.policy.syntax import Field, Node, walk
from authz.policy.words import written

__all__ = ["Grant", "open_request"]


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule that may decide a request of which not everything is known.

    Attributes:
        rule: The rule; it may be one that denies.
        left: The terms that hang on what is not known, with the rule's values in words.
        members: Everybody who has the rule's subject as a role, when the subject was left open.
    """

    rule: Rule
    left: tuple[str, ...]
    members: tuple[str, ...]


def open_request(engine: Engine, known: Mapping[str, Any], terms: Terms) -> Iterator[Grant]:
    """Every rule that a request with these fields may match, in order.

    Args:
        engine: Where the rules are.
        known: Values by the name of the request's field; the others are open.
        terms: The definitions to run with.

    Raises:
        KeyError: The request has no such field.
    """
    fields = engine.model.definitions[terms.request].fields
    unknown = sorted(set(known) - set(fields))
    if unknown:
        raise KeyError(f"the request has no field {unknown[0]!r}; it has {', '.join(fields)}")
    request = [known.get(name) for name in fields]
    missing = {index for index, name in enumerate(fields) if name not in known}
    program = engine.program(terms)
    scene = program.scene(request)
    for rule in engine.in_order(terms.policy):
        scene.rule = rule.values
        for branch in program.plan.branches:
            left = _left(program, branch, scene, missing)
            if left is not None:
                texts = tuple([_with_values(term, rule) for term in left])
                yield Grant(rule, texts, _members(engine, program, branch, rule, missing))
                break


def _left(
    program: Program,
    branch: Branch,
    scene: Scene,
    missing: set[int],
) -> list[Node] | None:
    """The terms that hang on what is missing; None if one that doesn't is not met."""
    left: list[Node] = []
    probes = [program.plan.probes[number].term for number in branch.probes]
    for term in (*branch.guards, *probes, *branch.rest):
        if any(index in missing for index in _asked(term)):
            left.append(term)
        elif not _is_true(term, scene):
            return None
    return left


def _asked(term: Node) -> Iterator[int]:
    return (each.index for each in walk(term) if isinstance(each, Field) and not each.of_rule)


def _is_true(term: Node, scene: Scene) -> bool:
    try:
        return holds(term, scene)
    except Exception:  # noqa: BLE001 - what raises has not matched
        return False


def _with_values(term: Node, rule: Rule) -> str:
    """The term, and what the rule holds for it."""
    fields = {
        each.name: each.index for each in walk(term) if isinstance(each, Field) and each.of_rule
    }
    held = ", ".join([f"{name} {rule.values[index]!r}" for name, index in fields.items()])
    return f"{written(term)} with {held}" if held else written(term)


def _members(
    engine: Engine,
    program: Program,
    branch: Branch,
    rule: Rule,
    missing: set[int],
) -> tuple[str, ...]:
    """Who has the rule's subject as a role, if who asks was left open."""
    caller = program.caller_probe(branch)
    if caller is None:
        return ()
    probe = program.plan.probes[caller]
    if not all(index in missing for index in _asked(probe.term)):
        return ()
    role = rule.values[probe.field]
    found = {member for roles in engine.language.roles.values() for member in roles.members(role)}
    return tuple(sorted(found))
