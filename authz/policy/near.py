"""Rules that nearly matched, found with bounded work.

Each field of a branch is left open in turn, and what the others still lead to is looked at, up to a
limit: whoever asks can't make a denial cost more than that. What a decision has looked up is not
worked out again for each rule; of conditions, which may take whatever time their functions take on
this request's values, only some are tried.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from authz.policy.decision import Miss
from authz.policy.evaluate import Scene, holds
from authz.policy.patterns import Unsure
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
# How many values of one field are looked up at one place.
_MAX_KEYS = 2048
# What conditions may cost; see Language.cost().
_MAX_COST = 4096


def find_near(program: "Program", request: Any) -> tuple[tuple[Miss, ...], bool]:
    """The nearest misses among allow rules, and whether showing a credential might do.

    Cost: O(branches x fields), each up to a fixed number of places and rules.
    """
    asked = _Asked(program, request)
    branches = [
        (branch, tree)
        for branch in program.plan.branches
        if (tree := program.tree("allow", branch)) is not None
        and tree.size
        and asked.is_open(branch)
    ]
    asked.grant()
    wants = any(_would_do(asked, branch, tree) for branch, tree in branches)
    asked.grant()
    found: dict[int, tuple[int, Rule, Node]] = {}
    for branch, tree in branches:
        for opened in (*branch.probes, None):
            for rule in _behind(tree, _relaxed(asked.values, opened), _MAX_PLACES, _MAX_RULES):
                failing = asked.failing(branch, rule) if rule.effect == "allow" else []
                if failing and (rule.id not in found or len(failing) < found[rule.id][0]):
                    found[rule.id] = (len(failing), rule, failing[0])
    nearest = sorted(found.values(), key=lambda each: (each[0], each[1].rank))[:_MAX_MISSES]
    misses: list[Miss] = []
    for _, rule, term in nearest:
        asked.scene.rule = rule.values
        misses.append(Miss(rule, miss_in_words(term, asked.scene)))
    return tuple(misses), wants


class _Asked:
    """One request, and what has been found out about it.

    Attributes:
        program: What decided.
        values: For each probe the values that make its term true; None or Unsure if not known.
        scene: The request, to evaluate terms over.
    """

    def __init__(self, program: "Program", request: Any) -> None:
        self.program = program
        self.values, _ = program.careful(request)
        self.scene = program.scene(request)
        self._left = 0
        self._known: dict[tuple[int, int], bool] = {}

    def grant(self) -> None:
        """Let conditions cost what they may, from here on."""
        self._left = _MAX_COST

    def is_open(self, branch: Branch) -> bool:
        """Whether what a branch asks of the request alone holds."""
        return all(_is_true(guard, self.scene) for guard in branch.guards)

    def failing(self, branch: Branch, rule: Rule) -> list[Node]:
        """The terms of a branch that a rule does not meet; none where conditions cost too much."""
        probes = self.program.plan.probes
        found = [probes[number].term for number in branch.probes if not self._is_met(number, rule)]
        for term in branch.rest:
            held = self._holds(term, rule)
            if held is None:
                return []
            if not held:
                found.append(term)
        return found

    def _is_met(self, number: int, rule: Rule) -> bool:
        wanted, probe = self.values[number], self.program.plan.probes[number]
        if wanted is None or type(wanted) is Unsure:
            return self._holds(probe.term, rule) is True
        return rule.values[probe.field] in wanted

    def _holds(self, term: Node, rule: Rule) -> bool | None:
        """Whether a term holds; None if it is not tried any more."""
        # The plan's terms live as long as this does.
        key = id(term), rule.id
        known = self._known.get(key)
        if known is None and self._left > 0:
            self.scene.rule = rule.values
            self._left -= self.program.cost(term, rule)
            known = self._known[key] = _is_true(term, self.scene)
        return known


def _anonymous(term: Node, request: Any) -> bool:
    """Whether every field of the request that says who asks is empty."""
    fields = {each.index for each in walk(term) if isinstance(each, Field) and not each.of_rule}
    return bool(fields) and all(not request[index] for index in fields)


def _would_do(asked: _Asked, branch: Branch, tree: Tree) -> bool:
    """Whether nobody has said who asks, and an allow rule matches on everything else."""
    caller = asked.program.caller_probe(branch)
    if caller is None:
        return False
    who = asked.program.plan.probes[caller].term
    if not _anonymous(who, asked.scene.request):
        return False
    limit = _MAX_PLACES_FOR_CREDENTIAL
    for rule in _behind(tree, _relaxed(asked.values, caller), limit, limit):
        if rule.effect == "allow" and asked.failing(branch, rule) == [who]:
            return True
    return False


def _relaxed(values: Sequence[Any], opened: int | None) -> Sequence[Any]:
    if opened is None:
        return values
    return [None if number == opened else value for number, value in enumerate(values)]


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
        children = place.children
        if wanted is None:
            keys: Iterable[Any] = islice(children, room)
        elif len(wanted) <= len(children):
            keys = islice(wanted, _MAX_KEYS)
        else:
            keys = (key for key in islice(children, _MAX_KEYS) if key in wanted)
        for key in keys:
            child = children.get(key)
            if child is not None:
                waiting.append(child)
