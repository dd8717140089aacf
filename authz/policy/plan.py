"""How a matcher will be looked up: which of its terms are indexed, and which are left to try.

A matcher is taken apart into branches, one for each way that its disjunctions leave open; a branch
is a conjunction. Of its terms, those that speak of the request alone are guards; those that tie
one field of the rule to the request are probes; the rest is tried on the few rules that the probes
leave. The whole matcher is tried on each of these, so a plan may be coarse but never wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from authz.policy.language import Language, Terms
from authz.policy.patterns import PatternIndex
from authz.policy.probes import Equal, Link, Literal, Matching, Probe, Way
from authz.policy.syntax import And, Call, Compare, Const, Context, Field, Node, Or, walk

__all__ = ["Branch", "Plan", "make_plan"]

# A matcher with more ways than this is looked up by what all of them share.
_MAX_BRANCHES = 12


@dataclass(frozen=True, slots=True)
class Branch:
    """One way for a matcher to be true.

    Attributes:
        guards: Terms that speak of the request alone.
        probes: Indexes into the plan's probes.
        rest: Terms that are only tried.
    """

    guards: tuple[Node, ...]
    probes: tuple[int, ...]
    rest: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one matcher is looked up.

    Attributes:
        node: The matcher, with what the plan needed rewritten to the same effect.
        probes: Every term that is indexed, once.
        branches: Every way for the matcher to be true.
    """

    node: Node
    probes: tuple[Probe, ...]
    branches: tuple[Branch, ...]


def make_plan(node: Node, language: Language, terms: Terms) -> Plan:
    """Plan one matcher. Cost: O(size of the matcher)."""
    maker = _Maker(language, terms)
    node = _with_request_domains(node)
    branches = tuple([maker.branch(each) for each in maker.ways(node)])
    return Plan(node, tuple(maker.probes), branches)


class _Maker:
    """Collects probes while branches are read."""

    def __init__(self, language: Language, terms: Terms) -> None:
        self._language = language
        self._terms = terms
        self.probes: list[Probe] = []

    def ways(self, node: Node) -> list[list[Node]]:
        """The matcher as alternatives of conjunctions; an indexable disjunction stays whole."""
        if isinstance(node, And):
            parts = [self.ways(term) for term in node.terms]
            count = 1
            for part in parts:
                count *= len(part)
            if count > _MAX_BRANCHES:
                # Split what is cheap to split, keep the largest disjunctions whole.
                parts = [
                    part if len(part) == 1 else [[term]]
                    for part, term in zip(parts, node.terms, strict=True)
                ]
            return [[term for way in choice for term in way] for choice in product(*parts)]
        if isinstance(node, Or) and self._probe_of(node) is None:
            alternatives = [way for term in node.terms for way in self.ways(term)]
            if len(alternatives) <= _MAX_BRANCHES:
                return alternatives
        return [[node]]

    def branch(self, conjuncts: list[Node]) -> Branch:
        """Sort the terms of one conjunction by what can be done with them."""
        guards: list[Node] = []
        probes: list[int] = []
        rest: list[Node] = []
        for term in conjuncts:
            if of_request_only(term):
                guards.append(term)
                continue
            probe = self._probe(term)
            if probe is None:
                rest.append(term)
            elif probe not in probes:
                probes.append(probe)
        return Branch(tuple(guards), tuple(probes), tuple(rest))

    def _probe(self, term: Node) -> int | None:
        for number, probe in enumerate(self.probes):
            if probe.term == term:
                return number
        found = self._probe_of(term)
        if found is None:
            return None
        field, ways = found
        self.probes.append(Probe(field, term, ways))
        return len(self.probes) - 1

    def _probe_of(self, term: Node) -> tuple[int, tuple[Way, ...]] | None:
        """The term as ways to look one field up; None if it is no such term."""
        alternatives = term.terms if isinstance(term, Or) else (term,)
        fields: set[int] = set()
        ways: list[Way] = []
        indexes: dict[str, PatternIndex] = {}
        for each in alternatives:
            found = self._way(each, indexes)
            if found is None:
                return None
            fields.add(found[0])
            ways.append(found[1])
        return (fields.pop(), tuple(ways)) if len(fields) == 1 else None

    def _way(  # noqa: PLR0911 - each return rules one form out
        self,
        node: Node,
        indexes: dict[str, PatternIndex],
    ) -> tuple[int, Way] | None:
        if isinstance(node, Compare) and node.operator == "==":
            return _equality(node.left, node.right) or _equality(node.right, node.left)
        if not isinstance(node, Call):
            return None
        roles = self._language.roles.get(node.name)
        place = 1 if roles is not None else len(node.arguments) - 1
        if not 0 < place < len(node.arguments):
            return None
        field = node.arguments[place]
        others = [each for at, each in enumerate(node.arguments) if at != place]
        if not isinstance(field, Field) or not field.of_rule:
            return None
        if not all(of_request_only(each) for each in others):
            return None
        if roles is not None:
            domain = others[1] if len(others) > 1 else None
            return field.index, Link(node.name, roles, others[0], domain)
        function = self._language.functions.get(node.name)
        if function is None or function.prepare is None or len(others) != 1:
            return None
        index = indexes.get(node.name)
        if index is None:
            index = indexes[node.name] = PatternIndex(partial(self._language.pattern, node.name))
        return field.index, Matching(node.name, index, others[0], function.varied)


def _equality(field: Node, other: Node) -> tuple[int, Way] | None:
    if not isinstance(field, Field) or not field.of_rule:
        return None
    if isinstance(other, Const):
        return field.index, Literal(other.value)
    return (field.index, Equal(other)) if of_request_only(other) else None


def of_request_only(node: Node) -> bool:
    """Whether a term comes to the same for every rule."""
    return not any(
        (isinstance(each, Field) and each.of_rule)
        or isinstance(each, Context)
        or (isinstance(each, Call) and each.name in {"eval", "meshWhen"})
        for each in walk(node)
    )


def _with_request_domains(node: Node) -> Node:
    """Let `g(r.sub, p.sub, p.dom)` beside `r.dom == p.dom` ask with the request's domain.

    Both are the same wherever the conjunction is not false anyway; only one can be looked up.
    """
    if isinstance(node, Or):
        return Or(tuple([_with_request_domains(term) for term in node.terms]))
    if not isinstance(node, And):
        return node
    same = dict(_same_domains(node.terms))
    return And(tuple([_rewritten(term, same) for term in node.terms])) if same else node


def _same_domains(terms: tuple[Node, ...]) -> Iterator[tuple[Node, Node]]:
    for term in terms:
        if isinstance(term, Compare) and term.operator == "==":
            sides = (term.left, term.right)
            for rule, request in (sides, sides[::-1]):
                if (
                    isinstance(rule, Field)
                    and rule.of_rule
                    and isinstance(request, Field)
                    and not request.of_rule
                ):
                    yield rule, request


def _rewritten(term: Node, same: dict[Node, Node]) -> Node:
    with_domain = 3
    if isinstance(term, Or):
        return Or(tuple([_rewritten(each, same) for each in term.terms]))
    if isinstance(term, Call) and len(term.arguments) == with_domain and term.name[0] == "g":
        name, role, domain = term.arguments
        return Call(term.name, (name, role, same.get(domain, domain)))
    return term
