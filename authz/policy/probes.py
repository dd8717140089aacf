"""What a request is looked up by: for one field of the rules, the values it could match.

A probe stands for one term of a matcher that speaks of one field of the rule and otherwise only of
the request, such as `g(r.sub, p.sub) || p.sub == "*"`. Asked with a request it gives every value
that the field may have for the term to be true.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from authz.policy.patterns import PatternIndex
from authz.policy.roles import Roles
from authz.policy.syntax import Node

__all__ = ["Equal", "Link", "Literal", "Matching", "Probe", "Way"]

# A set is quicker to ask than a list from about here on.
_SMALL = 8
_MAX_REMEMBERED = 8192


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
    """`function(request, field)`, of a function whose patterns can be indexed."""

    function: str
    index: PatternIndex
    request: Node


Way = Equal | Literal | Link | Matching


@dataclass(slots=True, eq=False)
class Probe:
    """One term of a matcher, made to look rules up by.

    Attributes:
        field: The place of the field in a rule.
        term: The term as it stands in the matcher.
        ways: The alternatives of the term.
        inputs: The parts of the request that the ways ask for, each once.
    """

    field: int
    term: Node
    ways: tuple[Way, ...]
    inputs: tuple[Node, ...] = ()
    _steps: tuple[Callable[[Any], Collection[Any] | None], ...] = ()
    _constants: tuple[Any, ...] = ()
    _remembers: bool = False
    _remembered: dict[Any, Collection[Any] | None] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the ways into the form that values() runs."""
        inputs: list[Node] = []
        steps: list[Callable[[Any], Collection[Any] | None]] = []

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
        # Who asks comes again and again, a path mostly doesn't: only what roles are part of is
        # kept.
        self._remembers = any(isinstance(way, Link) for way in self.ways) and len(self.ways) > 1

    @property
    def plain(self) -> bool:
        """Whether this is nothing but `request == field`."""
        return len(self.ways) == 1 and isinstance(self.ways[0], Equal)

    @property
    def weight(self) -> int:
        """How many values it tends to give, for choosing what to go by first."""
        return sum(
            3 if isinstance(way, Link) else 2 if isinstance(way, Matching) else 1
            for way in self.ways
        )

    def values(self, *inputs: Any) -> Collection[Any] | None:
        """The values of the field that make the term true, no others; None if all must be tried.

        Raises:
            Exception: What a way raises on these inputs.
        """
        if self._remembers:
            found = self._remembered.get(inputs, self)
            if found is not self:
                return found  # type: ignore[return-value]  # the marker is not among the values
        for each in inputs:
            if type(each) is not str:
                return None
        every = [*self._constants]
        for step in self._steps:
            values = step(inputs)
            if values is None:
                return None
            every += values
        result = every if len(every) <= _SMALL else frozenset(every)
        if self._remembers and all(way.roles.steady for way in self.ways if isinstance(way, Link)):
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[inputs] = result
        return result

    def careful(self, inputs: list[Any]) -> tuple[Collection[Any] | None, Collection[Any] | None]:
        """Like values(), for a request that something raised on.

        Args:
            inputs: The values, or the exception that was raised in place of one.

        Returns:
            What could make the term true, and what could make it true or raise; None for all.
        """
        sound: set[Any] = set(self._constants)
        raised = False
        for step in self._steps:
            try:
                values = step(inputs)
                if values is None:
                    return None, None
                sound.update(values)
            except _Unknown:
                return None, None
            except Exception:  # noqa: BLE001 - an alternative that raises is not true
                raised = True
        return sound, None if raised else sound

    def add(self, value: str) -> None:
        """Count one more rule with this value in the field."""
        count = self._counts.get(value, 0)
        self._counts[value] = count + 1
        if not count:
            for way in self.ways:
                if isinstance(way, Matching):
                    way.index.add(value)
            self._remembered.clear()

    def discard(self, value: str) -> None:
        """Count one rule less with this value in the field."""
        self._counts[value] -= 1
        if not self._counts[value]:
            del self._counts[value]
            for way in self.ways:
                if isinstance(way, Matching):
                    way.index.discard(value)
            self._remembered.clear()

    def forget(self) -> None:
        """Drop what was remembered, after roles have changed."""
        self._remembered.clear()

    def _link(
        self,
        roles: Roles,
        request: int,
        domain: int | None,
    ) -> Callable[[Any], Collection[Any] | None]:
        counts = self._counts

        def step(inputs: Any) -> Collection[Any]:
            name = _sound(inputs[request])
            place = "" if domain is None else _sound(inputs[domain])
            reach = roles.reach(name, place)
            if roles.matching is None or not (reach.patterns or roles.conditional):
                return reach.names
            return reach.names | {each for each in counts if roles.has(name, each, place)}

        return step


class _Unknown(Exception):  # noqa: N818 - a signal between two functions of this file
    """The value is of a type that the index can't speak of."""


def _sound(value: Any) -> str:
    """A value that can be looked up; raises what was raised in its place."""
    if isinstance(value, Exception):
        raise value
    if type(value) is not str:
        raise _Unknown
    return value


def _equal(request: int) -> Callable[[Any], Collection[Any] | None]:
    return lambda inputs: (_sound(inputs[request]),)


def _matching(index: PatternIndex, request: int) -> Callable[[Any], Collection[Any] | None]:
    return lambda inputs: index.find(_sound(inputs[request]))
