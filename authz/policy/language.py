"""One model's language: its functions, its matchers as trees, the texts that rules bring along."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from authz.policy.effects import Effect, parse_effect
from authz.policy.errors import ExpressionError, Fault, PolicyError
from authz.policy.evaluate import Calls
from authz.policy.functions import Function, Tools, built_in
from authz.policy.functions.regex import Backtracking, Linear
from authz.policy.functions.spec import Pattern
from authz.policy.model import Model
from authz.policy.options import EngineOptions, Privacy
from authz.policy.parser import parse_expression
from authz.policy.roles import Roles
from authz.policy.scope import ConditionScope, MatcherScope
from authz.policy.syntax import And, Call, Compare, Const, Field, Node, Not, Or, walk

__all__ = ["Language", "Matcher", "Terms", "compared_constants", "policy_fields"]

_MAX_REMEMBERED = 8192
_LATELY = 256
_COST = 16
_COST_ELSEWHERE = 512


class Terms(NamedTuple):
    """Which definitions a decision runs with; Casbin calls it EnforceContext."""

    request: str = "r"
    policy: str = "p"
    effect: str = "e"
    matcher: str = "m"


class Matcher(NamedTuple):
    """One matcher, read with one request and one policy definition."""

    node: Node
    effect: Effect


class Language:
    """What expressions mean under one model.

    Grows only by remembering: patterns and conditions are parsed once for each text.

    Attributes:
        privacy: How much may be told of the request's fields, by name.
    """

    def __init__(self, model: Model, options: EngineOptions) -> None:
        self.model = model
        self.options = options
        regex = Backtracking() if options.backtracking_regex else Linear()
        self.functions: dict[str, Function] = built_in(Tools(regex, options.now))
        for name, call in options.functions.items():
            self.functions[name] = Function(name, call, (0, 99), boolean=False)
        self.roles: dict[str, Roles] = {key: self._new_roles(key) for key in model.roles}
        self._patterns: dict[tuple[str, str], Pattern] = {}
        self._lately: dict[tuple[str, str], Pattern] = {}
        self._conditions: dict[tuple[str, str, str], Node] = {}
        self._whens: dict[str, Node | None] = {"": None}
        self._readers: dict[str, Callable[[Any], Any]] = {}
        self.privacy: Mapping[str, Privacy] = {}

    def bind(self, binding: Mapping[str, str]) -> None:
        """Learn which attribute fills which request field; before anything is made of it."""
        self.privacy = {
            field: self.options.privacy(attribute) for field, attribute in binding.items()
        }

    def secret_columns(self, context: Terms) -> frozenset[int]:
        """The fields of a rule that hold what a secret field of the request is compared with."""
        secret = {name for name, each in self.privacy.items() if each is Privacy.SECRET}
        if not secret:
            return frozenset()
        node = self.matcher(context).node
        return frozenset(
            each.index
            for term in _terms(node)
            if any(_may_ask(other, context.request, secret) for other in walk(term))
            for each in walk(term)
            if isinstance(each, Field) and each.key == context.policy
        )

    def _new_roles(self, key: str) -> Roles:
        roles = Roles(conditional=self.model.roles[key].parameters > 0)
        name = self.options.role_matching.get(key)
        if name is None and self.is_mesh:
            name = "meshWho"
        if name is not None:
            function = self._named(name, f"function that names of {key} match by")
            roles.matching = function.call
            if function.prepare is not None:
                roles.prepare = partial(self.pattern, name)
                roles.is_pattern = partial(_stands_for_others, function.prepare)
        condition = self.options.link_condition.get(key)
        if condition is not None:
            roles.condition = self._named(condition, f"condition of links of {key}").call
        domain = self.options.domain_matching.get(key)
        if domain is not None:
            named = self._named(domain, f"function that domains of {key} match by")
            roles.domain_matching = named.call
            if named.prepare is not None:
                roles.domain_prepare = partial(self.pattern, domain)
        return roles

    def _named(self, name: str, what: str) -> Function:
        """A function that the program's own settings name."""
        function = self.functions.get(name)
        if function is None:
            raise PolicyError([Fault(self.model.file, 0, f"there is no {name!r}, the {what}")])
        return function

    @property
    def is_mesh(self) -> bool:
        """Whether this is the built-in model, or one made from it: its matcher asks meshWho."""
        return any("meshWho(" in self.model.definitions[key].text for key in self.model.keys("m"))

    def matcher(self, context: Terms = Terms()) -> Matcher:  # noqa: B008 - a constant
        """Read one matcher with its effect.

        Raises:
            PolicyError: A definition is missing, or the matcher is outside the language.
        """
        definitions = self.model.definitions
        faults = [
            Fault(self.model.file, 0, f"the model has no {key!r}")
            for key in context
            if key not in definitions
        ]
        if faults:
            raise PolicyError(faults)
        text = definitions[context.matcher]
        try:
            node = parse_expression(text.text, self.scope(context))
        except ExpressionError as error:
            raise PolicyError([Fault(self.model.file, text.line, str(error))]) from error
        text = definitions[context.effect]
        try:
            effect = parse_effect(text.text)
        except ExpressionError as error:
            raise PolicyError([Fault(self.model.file, text.line, str(error))]) from error
        return Matcher(node, effect)

    def scope(self, context: Terms) -> MatcherScope:
        """What names mean in a matcher of this context."""
        return MatcherScope(self.model, context.request, context.policy, self.functions)

    def pattern(self, function: str, text: str) -> Pattern:
        """The second argument of a matching function, made ready.

        Kept is only what costs much to make, or is asked about values while deciding; the rest is
        in its index by then, and remembered just long enough to get there.

        Raises:
            ExpressionError: The function can't use it.
        """
        key = (function, text)
        found = self._patterns.get(key) or self._lately.get(key)
        if found is None:
            prepare = self.functions[function].prepare
            if prepare is None:
                raise ExpressionError(f"{function}() takes no pattern")
            found = prepare(text)
            filed = (found.literals, found.segments, found.shape, found.network)
            if all(each is None for each in filed):
                self._patterns[key] = found
            else:
                if len(self._lately) >= _LATELY:
                    self._lately.clear()
                self._lately[key] = found
        return found

    def calls(self, terms: Terms) -> Calls:
        """What calls do in a matcher of these definitions, for the interpreter."""
        return _Calls(self, terms)

    def condition(self, text: Any, context: Terms) -> Node:
        """The tree of a text handed to `eval`.

        Raises:
            ExpressionError: The text is outside the language, or no text.
        """
        if not isinstance(text, str):
            raise ExpressionError("eval() takes text")
        key = (text, context.request, context.policy)
        node = self._conditions.get(key)
        if node is None:
            node = parse_expression(text, self.scope(context))
            if any(isinstance(each, Call) and each.name == "eval" for each in walk(node)):
                raise ExpressionError("eval() inside eval()")
            if len(self._conditions) >= _MAX_REMEMBERED * 64:
                self._conditions.clear()
            self._conditions[key] = node
        return node

    def when(self, text: Any) -> Node | None:
        """The tree of a condition over attributes; None for the empty one, which always holds.

        Raises:
            ExpressionError: The text is outside the language, or names an unknown attribute.
        """
        if text not in self._whens:
            scope = ConditionScope(self.functions, self.attribute)
            self._whens[text] = parse_expression(text, scope)
        return self._whens[text]

    def cost(self, term: Node, rule: Sequence[str], context: Terms) -> int:
        """What it may cost to evaluate a term on a rule, in parts of its tree.

        A function of the engine's goes through a value that a caller chose, and of one from
        elsewhere nobody knows what it does: they count for more.
        """
        total = 0
        waiting = [term]
        for node in waiting:
            for each in walk(node):
                total += 1
                if not isinstance(each, Call):
                    continue
                text = each.arguments[-1] if each.arguments else None
                if each.name in {"eval", "meshWhen"}:
                    if isinstance(text, Field) and text.of_rule:
                        waiting += self._brought(each.name, rule[text.index], context)
                else:
                    total += _COST_ELSEWHERE if each.name in self.options.functions else _COST
        return total

    def _brought(self, name: str, text: str, context: Terms) -> list[Node]:
        """The tree of a text that a rule brings along; none if it has no tree."""
        try:
            found = self.condition(text, context) if name == "eval" else self.when(text)
        except ExpressionError:
            return []
        return [] if found is None else [found]

    def attribute(self, name: str) -> Callable[[Any], Any]:
        """The reader of a dotted attribute name; raises what the resolver raises."""
        reader = self._readers.get(name)
        if reader is None:
            resolve = self.options.attribute
            reader = (lambda values: values[name]) if resolve is None else resolve(name)
            self._readers[name] = reader
        return reader

    def plain(self, name: str) -> Callable[..., Any]:
        """The function, or the role definition as a function, of that name."""
        roles = self.roles.get(name)
        return self.functions[name].call if roles is None else roles.has


class _Calls:
    """The interpreter's view of a language."""

    def __init__(self, language: Language, terms: Terms) -> None:
        self._language = language
        self._terms = terms
        self.plain = language.plain
        self.when = language.when
        self.attribute = language.attribute
        self.privacy = language.privacy
        self.masked = language.options.masked

    def condition(self, text: Any) -> Node:
        return self._language.condition(text, self._terms)


def _stands_for_others(prepare: Callable[[str], Pattern], name: str) -> bool:
    """Whether a name is a pattern; one that can't be read fits nobody."""
    try:
        return prepare(name).literals is None
    except ExpressionError:
        return False


def _terms(node: Node) -> Iterator[Node]:
    """What is joined by and, or and not."""
    match node:
        case And() | Or():
            for each in node.terms:
                yield from _terms(each)
        case Not():
            yield from _terms(node.value)
        case _:
            yield node


def _may_ask(node: Node, key: str, names: Container[str]) -> bool:
    """Whether a part of a matcher asks for one of some fields; the text for `eval` may."""
    if isinstance(node, Call):
        return node.name == "eval"
    return isinstance(node, Field) and node.key == key and node.name in names


def policy_fields(node: Node, policy: str) -> dict[int, list[str]]:
    """Which functions are handed which fields of a rule as their last argument."""
    found: dict[int, list[str]] = {}
    for each in walk(node):
        if isinstance(each, Call) and each.arguments:
            last = each.arguments[-1]
            if isinstance(last, Field) and last.key == policy:
                found.setdefault(last.index, []).append(each.name)
    return found


def compared_constants(node: Node, policy: str) -> dict[int, set[object]]:
    """Which constants each field of a rule is compared with."""
    found: dict[int, set[object]] = {}
    for each in walk(node):
        if isinstance(each, Compare) and each.operator == "==":
            sides = (each.left, each.right)
            for one, other in (sides, sides[::-1]):
                if isinstance(one, Field) and one.key == policy and isinstance(other, Const):
                    found.setdefault(one.index, set()).add(other.value)
    return found
