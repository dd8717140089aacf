"""Rules that nearly matched, found with bounded work.

Each field of a branch is left open in turn, and what the others still lead to is looked at, up to a
limit: whoever asks can't make a denial cost more than that.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from authz.policy.decision import Miss
from authz.policy.evaluate import Scene, holds
from authz.policy.plan import Branch
from authz.policy.rules import Rule
from authz.policy.syntax import Field, Node, walk
from authz.policy.tree import Node as TreeNode
from authz.policy.tree import Tree
from authz.policy.words import miss_in_words

if TYPE_CHECKING:
    from authz.policy.program import Program

__all__ = ["find_near"]

_MAX_PLACES = 48
_MAX_RULES = 12
_MAX_MISSES = 3
# A 401 in place of a 403 hangs on this one, so it looks further.
_MAX_PLACES_FOR_CREDENTIAL = 512


def find_near(program: "Program", request: Any) -> tuple[tuple[Miss, ...], bool]:
    """The nearest misses among allow rules, and whether showing a credential might do.

    Cost: O(branches x fields), each up to a fixed number of places and rules.
    """
    scene = program.scene(request)
    values, _ = program.careful(request)
    found: dict[int, tuple[int, Rule, Node]] = {}
    wants = False
    for branch in program.plan.branches:
        tree = program.tree("allow", branch)
        if tree is None or not tree.size or not _open(branch, scene):
            continue
        caller = program.caller_probe(branch)
        if caller is not None and not wants and _anonymous(program.plan.probes[caller].term, scene):
            wants = _would_do(program, branch, tree, values, caller, scene)
        for opened in (*branch.probes, None):
            for rule in _behind(tree, _relaxed(values, opened), _MAX_PLACES, _MAX_RULES):
                failing = _failing(program, branch, rule, scene) if rule.effect == "allow" else []
                if failing and (rule.id not in found or len(failing) < found[rule.id][0]):
                    found[rule.id] = (len(failing), rule, failing[0])
    nearest = sorted(found.values(), key=lambda each: (each[0], each[1].rank))[:_MAX_MISSES]
    misses: list[Miss] = []
    for _, rule, term in nearest:
        scene.rule = rule.values
        misses.append(Miss(rule, miss_in_words(term, scene)))
    return tuple(misses), wants


def _open(branch: Branch, scene: Scene) -> bool:
    return all(_is_true(guard, scene) for guard in branch.guards)


def _anonymous(term: Node, scene: Scene) -> bool:
    """Whether every field of the request that says who asks is empty."""
    fields = {each.index for each in walk(term) if isinstance(each, Field) and not each.of_rule}
    return bool(fields) and all(not scene.request[index] for index in fields)


def _would_do(  # noqa: PLR0913, PLR0917 - one step of find_near, with all that it has at hand
    program: "Program",
    branch: Branch,
    tree: Tree,
    values: Sequence[Any],
    caller: int,
    scene: Scene,
) -> bool:
    """Whether an allow rule matches on everything but who asks."""
    limit = _MAX_PLACES_FOR_CREDENTIAL
    who = program.plan.probes[caller].term
    for rule in _behind(tree, _relaxed(values, caller), limit, limit):
        if rule.effect == "allow" and _failing(program, branch, rule, scene) == [who]:
            return True
    return False


def _relaxed(values: Sequence[Any], opened: int | None) -> Sequence[Any]:
    if opened is None:
        return values
    return [None if number == opened else value for number, value in enumerate(values)]


def _failing(program: "Program", branch: Branch, rule: Rule, scene: Scene) -> list[Node]:
    """The terms of a branch that a rule does not meet."""
    scene.rule = rule.values
    terms = (*[program.plan.probes[number].term for number in branch.probes], *branch.rest)
    return [term for term in terms if not _is_true(term, scene)]


def _is_true(term: Node, scene: Scene) -> bool:
    try:
        return holds(term, scene)
    except Exception:  # noqa: BLE001 - what raises has not matched
        return False


def _behind(tree: Tree, values: Sequence[Any], places: int, rules: int) -> Iterator[Rule]:
    """The first rules that the values lead to, after so many places at most."""
    waiting = [tree.root]
    for place in waiting:
        if not isinstance(place, TreeNode):
            for rule in place[:rules] if isinstance(place, list) else (place,):
                yield rule
                rules -= 1
            if rules <= 0:
                return
            continue
        room = places - len(waiting)
        if room <= 0:
            continue
        wanted = values[place.probe]
        for key in islice(place.children, room) if wanted is None else wanted:
            child = place.children.get(key)
            if child is not None:
                waiting.append(child)
