"""What a request is looked up by: for one field of the rules, the values it could match.

A probe stands for one term of a matcher that speaks of one field of the rule and otherwise only of
the request, such as `g(r.sub, p.sub) || p.sub == "*"`. Asked with a request it gives every value
that the field may have for the term to be true.
"""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from authz.policy.names import Names
from authz.policy.patterns import PatternIndex, Unsure
from authz.policy.roles import Roles
from authz.policy.syntax import Node

__all__ = ["Equal", "Link", "Literal", "Matching", "Probe", "Way"]

# A set is quicker to ask than a list from about here on.
_SMALL = 8
# Callers choose what they ask with: what is remembered for them is bounded in number and length.
_MAX_REMEMBERED = 8192
_MAX_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Equal:
    """`request == field`."""

    request: Node


@dataclass(frozen=True, slots=True)
class Literal:
    """`field == constant`."""

    value: object


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """`g(request, field)`, with a domain of the request where roles have domains."""

    key: str
    roles: Roles
    request: Node
    domain: Node | None


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """`function(request, field)`, of a function whose patterns can be indexed.

    Attributes:
        function: The function's name.
        index: The patterns in the field.
        request: What is matched.
        varied: Whether the values asked about are mostly new ones, as paths are.
    """

    function: str
    index: PatternIndex
    request: Node
    varied: bool


Way = Equal | Literal | Link | Matching
Step = Callable[[Any], Collection[Any] | None]


@dataclass(slots=True, eq=False)
class Probe:
    """One term of a matcher, made to look rules up by.

    Attributes:
        field: The place of the field in a rule.
        term: The term as it stands in the matcher.
        ways: The alternatives of the term.
        inputs: The parts of the request that the ways ask for, each once.
        remembered: What was found for the fields of earlier requests.
    """

    field: int
    term: Node
    ways: tuple[Way, ...]
    inputs: tuple[Node, ...] = ()
    remembered: dict[Any, Collection[Any]] = dataclasses.field(default_factory=dict)
    _steps: tuple[Step, ...] = ()
    _constants: tuple[Any, ...] = ()
    _counts: dict[str, int] = dataclasses.field(default_factory=dict)
    _named: dict[int, Names] = dataclasses.field(default_factory=dict)
    _indexes: tuple[PatternIndex, ...] = ()
    _roles: tuple[Roles, ...] = ()

    def __post_init__(self) -> None:
        """Put the ways into the form that values() runs."""
        inputs: list[Node] = []
        steps: list[Step] = []

        def place(node: Node) -> int:
            if node not in inputs:
                inputs.append(node)
            return inputs.index(node)

        for way in self.ways:
            match way:
                case Equal():
                    steps.append(_equal(place(way.request)))
                case Link():
                    domain = None if way.domain is None else place(way.domain)
                    steps.append(self._link(way.roles, place(way.request), domain))
                case Matching():
                    steps.append(_matching(way.index, place(way.request)))
                case Literal():
                    pass
        self.inputs = tuple(inputs)
        self._steps = tuple(steps)
        self._constants = tuple([way.value for way in self.ways if isinstance(way, Literal)])
        indexes = [way.index for way in self.ways if isinstance(way, Matching)]
        self._indexes = tuple({id(index): index for index in indexes}.values())
        self._roles = tuple([way.roles for way in self.ways if isinstance(way, Link)])

    @property
    def plain(self) -> bool:
        """Whether this is nothing but `request == field`."""
        return len(self.ways) == 1 and isinstance(self.ways[0], Equal)

    @property
    def only_index(self) -> PatternIndex | None:
        """The index that is all there is to ask, where the request is matched as it comes."""
        return self._indexes[0] if len(self.ways) == 1 and self._indexes else None

    @property
    def remembers(self) -> bool:
        """Whether finding out costs more than remembering, and the same is asked again."""
        varied = any(isinstance(way, Matching) and way.varied for way in self.ways)
        costly = any(isinstance(way, (Link, Matching)) for way in self.ways)
        return costly and not varied

    @property
    def weight(self) -> int:
        """How many values it tends to give, for choosing what to go by first."""
        costs = {Link: 3, Matching: 2}
        return sum(costs.get(type(way), 1) for way in self.ways)

    def recall(self, key: Any, *inputs: Any) -> Collection[Any] | None:
        """Like values(), and remember it under the fields of the request that it hangs on."""
        found = self.values(*inputs)
        words = key if type(key) is tuple else (key,)
        if (
            found is not None
            and all(type(word) is str and len(word) <= _MAX_LENGTH for word in words)
            and all(roles.steady for roles in self._roles)
        ):
            if len(self.remembered) >= _MAX_REMEMBERED:
                self.remembered.clear()
            self.remembered[key] = found
        return found

    def values(self, *inputs: Any) -> Collection[Any] | None:
        """The values of the field that make the term true; Unsure or None if they must be tried.

        Raises:
            Exception: What a way raises on these inputs.
        """
        for each in inputs:
            if type(each) is not str:
                return None
        if len(self._steps) == 1 and not self._constants:
            only = self._steps[0](inputs)
            if only is None or len(only) <= _SMALL or isinstance(only, frozenset):
                return only
            return frozenset(only)
        every = [*self._constants]
        kind: type[frozenset[Any]] = frozenset
        for step in self._steps:
            values = step(inputs)
            if values is None:
                return None
            if type(values) is Unsure:
                kind = Unsure
            every += values
        return every if len(every) <= _SMALL and kind is frozenset else kind(every)

    def careful(self, inputs: list[Any]) -> tuple[Collection[Any] | None, Collection[Any] | None]:
        """Like values(), for a request that something raised on.

        Args:
            inputs: The values, or the exception that was raised in place of one.

        Returns:
            What could make the term true, and what could make it true or raise; None for all.
        """
        sound: set[Any] = set(self._constants)
        kind: type[frozenset[Any]] = frozenset
        raised = False
        for step in self._steps:
            try:
                values = step(inputs)
                if values is None:
                    return None, None
                if type(values) is Unsure:
                    kind = Unsure
                sound.update(values)
            except _UnknownKindError:
                return None, None
            except Exception:  # noqa: BLE001 - an alternative that raises is not true
                raised = True
        found = kind(sound)
        return found, None if raised else found

    def add(self, value: str) -> None:
        """Count one more rule with this value in the field."""
        count = self._counts.get(value, 0)
        self._counts[value] = count + 1
        if not count:
            # What the term names as a constant need not be a pattern: "*" is no regular expression.
            if value not in self._constants:
                for index in self._indexes:
                    index.add(value)
            self.forget()

    def discard(self, value: str) -> None:
        """Count one rule less with this value in the field."""
        self._counts[value] -= 1
        if not self._counts[value]:
            del self._counts[value]
            if value not in self._constants:
                for index in self._indexes:
                    index.discard(value)
            self.forget()

    def forget(self) -> None:
        """Drop what was remembered, after roles or rules have changed."""
        if self.remembered:
            self.remembered.clear()
        if self._named:
            self._named.clear()

    def _link(self, roles: Roles, request: int, domain: int | None) -> Step:
        counts, named = self._counts, self._named

        def step(inputs: Any) -> Collection[Any]:
            name = _sound(inputs[request])
            place = "" if domain is None else _sound(inputs[domain])
            reach = roles.reach(name, place)
            if roles.matching is None or not (reach.patterns or roles.conditional):
                return reach.names
            # Who has a role that is a pattern has every name of a rule that fits it.
            values = named.get(id(roles)) or roles.named(counts)
            named[id(roles)] = values
            found = set(reach.names)
            for pattern in reach.patterns:
                found.update(values.fitting(pattern))
            if roles.conditional:
                found.update(values.like(name))
            return found

        return step


class _UnknownKindError(Exception):
    """The value is of a type that the index can't speak of; never leaves this file."""


def _sound(value: Any) -> str:
    """A value that can be looked up; raises what was raised in its place."""
    if isinstance(value, Exception):
        raise value
    if type(value) is not str:
        raise _UnknownKindError
    return value


def _equal(request: int) -> Step:
    return lambda inputs: (_sound(inputs[request]),)


def _matching(index: PatternIndex, request: int) -> Step:
    return lambda inputs: index.find(_sound(inputs[request]))
