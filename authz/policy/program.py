"""One matcher made ready to run: its plan, its trees of rules, and the code that searches them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from authz.policy import operations
from authz.policy.calls import CallWriter
from authz.policy.codegen import Emitter, is_truth
from authz.policy.decision import Decision, Near
from authz.policy.evaluate import Scene, evaluate, holds
from authz.policy.language import Language, Terms
from authz.policy.near import find_near
from authz.policy.patterns import Unsure
from authz.policy.plan import Branch, Plan, make_plan
from authz.policy.probes import Link, Matching, Probe
from authz.policy.rules import Rule
from authz.policy.source import decide_source, find_source
from authz.policy.syntax import And, Call, Const, Field, Node, walk
from authz.policy.tree import Node as TreeNode
from authz.policy.tree import Tree

__all__ = ["Program"]

# How many rules are looked at to name those that raised, or that nearly matched.
_MAX_LOOKED_AT = 48
_MAX_NAMED = 8
_BOTH = "both"
# Rules that it takes to tell what suits the others.
_ENOUGH = 32
_SUBJECTS = frozenset({"sub", "subject", "user", "who"})


class Program:
    """Decides by one matcher, over the rules of one policy definition.

    Attributes:
        terms: The definitions it runs with.
        matcher: What it runs.
        plan: How rules are looked up.
        decide: Takes the values of a request, returns the Decision.
        steps: What add() does with a rule, one table after the other.
    """

    def __init__(
        self,
        language: Language,
        terms: Terms,
        rules: Mapping[int, Rule],
        *,
        deny_first: bool = False,
    ) -> None:
        self.terms = terms
        self._language = language
        self.matcher = language.matcher(terms)
        self.plan: Plan = make_plan(self.matcher.node, language, terms)
        self._rules = rules
        self._order = _first_order(self.plan.probes)
        # One search does for both effects where ranks tell which rule decides, and where no value
        # of a request can raise: else deny rules must be looked for in places where allow rules
        # aren't.
        one = (self.matcher.effect.ordered or deny_first) and all(
            self._is_sure(probe) for probe in self.plan.probes
        )
        self._groups = (_BOTH,) if one else self.matcher.effect.counts
        self._trees: dict[tuple[str, tuple[int, ...]], Tree] = {}
        self._plant(arranged=False)
        self._calls = language.calls(terms)
        self._find: Callable[..., Rule | None]
        self.decide: Callable[[Any], Decision]
        self._writer = CallWriter(language, terms)
        self._ready = self._writer.readied(self.matcher.node)
        self._generate()
        known = [partial(_learn, probe) for probe in self.plan.probes]
        self.steps: tuple[Callable[[Rule], None], ...] = (*known, self._compile, self.file)

    def _plant(self, *, arranged: bool) -> None:
        """Make the trees anew, empty."""
        for group in self._groups:
            for branch in self.plan.branches:
                key = (group, branch.probes)
                order = [
                    (number, self.plan.probes[number].field)
                    for number in self._order
                    if number in branch.probes
                ]
                if key in self._trees:
                    self._trees[key].clear(order, arranged=arranged)
                else:
                    self._trees[key] = Tree(order)

    def add(self, rule: Rule) -> None:
        """Take one rule in. Cost: O(fields x branches)."""
        for step in self.steps:
            step(rule)

    def _compile(self, rule: Rule) -> None:
        for index, ready in self._ready:
            ready(rule.values[index])

    def file(self, rule: Rule) -> None:
        """File a rule that the probes know already."""
        if rule.effect in self.matcher.effect.counts:
            for (group, _), tree in self._trees.items():
                if group in {rule.effect, _BOTH}:
                    tree.add(rule)

    def remove(self, rule: Rule) -> None:
        """Take one rule out."""
        values = rule.values
        for probe in self.plan.probes:
            probe.discard(values[probe.field])
        if rule.effect in self.matcher.effect.counts:
            for (group, _), tree in self._trees.items():
                if group in {rule.effect, _BOTH}:
                    tree.remove(rule)

    def forget(self) -> None:
        """Drop what was remembered about roles, after they have changed."""
        for probe in self.plan.probes:
            probe.forget()

    def arrange(self, sample: Sequence[Sequence[str]]) -> None:
        """Choose by the values of some rules what to file by first; the trees are empty then."""
        order = _telling_order(self.plan.probes, sample)
        if self._language.is_mesh:
            # Whether a credential would do is asked with who left open: then the rest must have
            # narrowed things down before.
            callers = {self.caller_probe(branch) for branch in self.plan.branches}
            order.sort(key=lambda number: number in callers)
        self._order = order
        self._plant(arranged=len(sample) > _ENOUGH)

    # What follows is the slow side: a request that something raised on.

    def judge(self, rule: Rule, request: Any, faults: list[Rule]) -> bool:
        """Whether a rule counts as matching after its compiled form has raised."""
        scene = Scene(request, rule.values, self._calls)
        try:
            return holds(self.matcher.node, scene)
        except Exception:  # noqa: BLE001 - judged: closed, whatever it was
            faults.append(rule)
            return rule.effect == "deny"

    def blank(self, request: Any) -> Decision:
        """Decide by an empty policy: Casbin tries the matcher once, all fields of a rule empty."""
        fields = self._language.model.definitions[self.terms.policy].fields
        scene = Scene(request, ("",) * len(fields), self._calls)
        try:
            allowed = holds(self.matcher.node, scene)
        except Exception:  # noqa: BLE001 - judged: closed
            allowed = False
        return Decision(allowed or self.matcher.effect.otherwise, None)

    def odd(self, request: Any) -> Decision:
        """Decide where a probe or a guard raised, or where values are no plain text."""
        effect = self.matcher.effect
        faults: list[Rule] = []
        best: Rule | None = None
        sound, open_ = self.careful(request)
        raised = any(one is not other for one, other in zip(sound, open_, strict=True))
        guards = [self._guards(branch, request) for branch in self.plan.branches]
        for group in self._groups:
            values = sound if group == "allow" else open_
            for branch, held in zip(self.plan.branches, guards, strict=True):
                # A guard that raised may hold for a deny rule, and does not for an allow rule.
                if held or (held is None and group != "allow"):
                    root = self._trees[group, branch.probes].root
                    best = self._find(root, best, faults, request, values)
            if best is not None and not effect.ordered:
                break
            if group == "allow" and (raised or None in guards):
                self._name_faults(request, faults)
        named = tuple(dict.fromkeys(faults))
        if best is not None:
            return Decision(best.effect == "allow", best, named)
        return Decision(effect.otherwise, None, named, partial(self.near, request))

    def careful(self, request: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The values of each probe: what is sound, and what is sound or raised."""
        scene = self.scene(request)
        pairs = [
            probe.careful([_tried(each, scene) for each in probe.inputs])
            for probe in self.plan.probes
        ]
        return tuple([pair[0] for pair in pairs]), tuple([pair[1] for pair in pairs])

    def _guards(self, branch: Branch, request: Any) -> bool | None:
        """Whether the guards of a branch hold; None if one raised and none is false."""
        scene = self.scene(request)
        held: bool | None = True
        for guard in branch.guards:
            try:
                held_by = holds if guard is self.plan.node else evaluate
                if not held_by(guard, scene):
                    return False
            except Exception:  # noqa: BLE001 - a false one outweighs it
                held = None
        return held

    def _name_faults(self, request: Any, faults: list[Rule]) -> None:
        """Find some of the allow rules that raised; the probes have kept them from being tried."""
        for number, rule in enumerate(self._rules.values()):
            if number >= _MAX_LOOKED_AT or len(faults) >= _MAX_NAMED:
                return
            if rule.effect == "allow":
                self.judge(rule, request, faults)

    def near(self, request: Any) -> Near:
        """Rules that would match but for one field, and whether a credential might do it.

        Cost: bounded, whatever the policy.
        """
        return find_near(self, request)

    def cost(self, term: Node, rule: Rule) -> int:
        """What it may cost to try a term on a rule; see Language.cost()."""
        return self._language.cost(term, rule.values, self.terms)

    def scene(self, request: Any) -> Scene:
        """What the interpreter works on for a request; the rule is still to be set."""
        return Scene(request, (), self._calls)

    def tree(self, effect: str, branch: Branch) -> Tree | None:
        """Where a branch files the rules of one effect; None if the effect does not count."""
        return self._trees.get((_BOTH, branch.probes)) or self._trees.get((effect, branch.probes))

    def caller_probe(self, branch: Branch) -> int | None:
        """The term of a branch that says who may ask: it speaks of roles or of a subject."""
        probes = self.plan.probes
        for number in branch.probes:
            if any(isinstance(way, Link) for way in probes[number].ways):
                return number
        for number in branch.probes:
            if any(_names_subject(each) for each in probes[number].inputs):
                return number
        return None

    def _generate(self) -> None:
        """Write and compile the search and the decision."""
        emitter = Emitter(self._writer, lambda index: f"q[{index}]", self._writer.boolean)
        for number, probe in enumerate(self.plan.probes):
            emitter.known[probe.term] = _asked_of(number, probe, emitter.emit(probe.term))
        predicate = emitter.emit(_quick_first(self.plan.node, emitter.known))
        if not is_truth(self.plan.node, self._writer.boolean):
            predicate = f"{emitter.name(operations.truth)}({predicate})"
        emitter.names.update(
            type=type,
            list=list,
            Node=TreeNode,
            len=len,
            str=str,
            tuple=tuple,
            frozenset=frozenset,
            Unsure=Unsure,
            allow="allow",
            Exception=Exception,
            truth=operations.truth,
            partial=partial,
            Decision=Decision,
            judge=self.judge,
            odd=self.odd,
            blank=self.blank,
            near=self.near,
            rules=self._rules,
        )
        source = find_source(predicate, len(self.plan.probes))
        self._find = emitter.function(source, "find")
        trees = {key: emitter.name(tree, "T") for key, tree in self._trees.items()}
        probes = [self._probe_names(emitter, probe) for probe in self.plan.probes]
        # From here on a term is what the request makes it, not what the search asks of a rule, and
        # each field of the request is read once.
        emitter.known.clear()
        read = sorted({index for node in self._asked() for index in _fields(node)})
        emitter.request = lambda index: f"r{index}"
        source = decide_source(
            self.plan,
            self.matcher.effect,
            self._groups,
            emitter.emit,
            read,
            trees,
            probes,
        )
        self.decide = emitter.function(source, "decide")

    def _asked(self) -> Iterator[Node]:
        """Every part of the matcher that a decision asks about the request alone."""
        for probe in self.plan.probes:
            yield from probe.inputs
        for branch in self.plan.branches:
            yield from branch.guards

    def _probe_names(self, emitter: Emitter, probe: Probe) -> tuple[str, str, str]:
        """How the decision calls a probe, and what it looks into first, by which key."""
        nodes = [node for each in probe.inputs for node in walk(each)]
        fields = sorted({index for each in probe.inputs for index in _fields(each)})
        steady = all(isinstance(node, (Field, Const)) or self._is_total(node) for node in nodes)
        if not fields or not steady or not probe.remembers:
            index = probe.only_index
            return emitter.name(probe.values if index is None else index.find, "P"), "", ""
        words = [f"r{index}" for index in fields]
        key = words[0] if len(words) == 1 else f"({', '.join(words)})"
        return emitter.name(probe.recall, "P"), emitter.name(probe.remembered, "M"), key

    def _is_sure(self, probe: Probe) -> bool:
        """Whether nothing that a request holds can make a probe raise."""
        for way in probe.ways:
            if isinstance(way, Link) and way.roles.conditional:
                return False
            if isinstance(way, Matching) and not self._language.functions[way.function].total:
                return False
        return True

    def _is_total(self, node: Node) -> bool:
        """Whether a call always comes to the same, and never raises."""
        function = self._language.functions.get(node.name) if isinstance(node, Call) else None
        return function is not None and function.total


def _quick_first(node: Node, known: Mapping[Node, str]) -> Node:
    """A conjunction with its looked-up terms in front; the order makes no difference otherwise."""
    if not isinstance(node, And):
        return node
    return And(tuple(sorted(node.terms, key=lambda term: term not in known)))


def _learn(probe: Probe, rule: Rule) -> None:
    probe.add(rule.values[probe.field])


def _asked_of(number: int, probe: Probe, full: str) -> str:
    """What the search asks of a rule for one term: whether its value is among those found."""
    if probe.plain:
        return full
    inside = f"v[{probe.field}] in V{number}"
    if any(isinstance(way, Matching) for way in probe.ways):
        inside = f"{inside} and (type(V{number}) is not Unsure or {full})"
    return f"({inside} if V{number} is not None else {full})"


def _fields(node: Node) -> Iterator[int]:
    return (each.index for each in walk(node) if isinstance(each, Field))


def _names_subject(node: Node) -> bool:
    return isinstance(node, Field) and node.name in _SUBJECTS


def _tried(node: Node, scene: Scene) -> Any:
    """What a part of the request comes to, or what it raised."""
    try:
        return evaluate(node, scene)
    except Exception as error:  # noqa: BLE001 - handed on as a value
        return error


def _first_order(probes: Sequence[Probe]) -> list[int]:
    """What to file by first when no rule is known yet."""
    return sorted(range(len(probes)), key=lambda number: probes[number].weight)


def _telling_order(probes: Sequence[Probe], sample: Sequence[Sequence[str]]) -> list[int]:
    """What to file by first: the fewest rules left behind each value, by what a value costs."""

    def left(number: int) -> float:
        probe = probes[number]
        counts: dict[str, int] = {}
        for values in sample:
            # A row that is yet to be refused may be short.
            value = values[probe.field] if probe.field < len(values) else ""
            counts[value] = counts.get(value, 0) + 1
        return sum(count * count for count in counts.values()) * probe.weight

    return sorted(range(len(probes)), key=left)
