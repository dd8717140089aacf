"""Who has which role: links, followed up to Casbin's depth, with domains, patterns and conditions.

Source: casbin.org/docs/rbac, -with-pattern, -with-domains, -with-conditions. pycasbin's role
    manager
adds nodes to its graph while it answers; here nothing that is asked changes anything.
"""

import operator
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from authz.policy.functions.spec import Pattern
from authz.policy.names import Match, Names, fits

__all__ = ["Reach", "Roles"]

# pycasbin's RoleManager(10) finds a role nine links away, its conditional one ten.
_MAX_LINKS = 9
_MAX_CONDITIONAL_LINKS = 10
# A caller may ask with any name: what is remembered is bounded in number and length, and forgotten
# all at once.
_MAX_REMEMBERED = 8192
_MAX_LENGTH = 512

Links = dict[Any, dict[Any, int]]
Prepare = Callable[[str], Pattern]


@dataclass(slots=True)
class Reach:
    """All that a name is.

    Attributes:
        names: The name itself and every role it reaches.
        patterns: Those of the roles that stand for other names, when roles match by pattern.
    """

    names: frozenset[Any]
    patterns: tuple[Any, ...] = ()


@dataclass(slots=True, eq=False)
class _Place:
    """One domain as it is written; those that it matches are looked at beside it.

    Attributes:
        links: For each member its roles, and how often each is given.
        names: The members, where names match by pattern.
    """

    links: Links
    names: Names | None


@dataclass(slots=True, eq=False)
class Roles:
    """The links of one role definition.

    Attributes:
        matching: Whether a name fits a pattern that stands in a link; None where names are names.
        domain_matching: The same for domains.
        is_pattern: Whether a name can stand for others; only asked when `matching` is set.
        prepare: What `matching` makes of a pattern, if that is known: names are then found by it
            without trying each.
        domain_prepare: The same for domains.
        conditional: Whether links have conditions.
        condition: The condition of every link that has none of its own but parameters.
    """

    matching: Match | None = None
    domain_matching: Match | None = None
    is_pattern: Callable[[Any], bool] = lambda _name: True
    prepare: Prepare | None = None
    domain_prepare: Prepare | None = None
    conditional: bool = False
    condition: Callable[..., Any] | None = None
    _links: dict[str, Links] = field(default_factory=dict)
    _conditions: dict[tuple[Any, Any, str], Callable[..., Any]] = field(default_factory=dict)
    _parameters: dict[tuple[Any, Any, str], tuple[Any, ...]] = field(default_factory=dict)
    _reached: dict[tuple[Any, str], Reach] = field(default_factory=dict)
    _places: dict[str, _Place] = field(default_factory=dict)
    _around: dict[str, tuple[_Place, ...]] = field(default_factory=dict)
    _domains: Names | None = None

    def add(self, member: Any, role: Any, domain: str = "") -> None:
        """Add one link; the same link twice needs to be removed twice."""
        members = self._links.get(domain)
        if members is None:
            members = self._links[domain] = {}
            self._forget_domains()
        roles = members.get(member)
        if roles is None:
            roles = members[member] = {}
            place = self._places.get(domain)
            if place is not None and place.names is not None:
                place.names.add(member)
        roles[role] = roles.get(role, 0) + 1
        self._reached.clear()

    def remove(self, member: Any, role: Any, domain: str = "") -> bool:
        """Remove one link; returns whether there was one."""
        members = self._links.get(domain, {})
        roles = members.get(member, {})
        if role not in roles:
            return False
        roles[role] -= 1
        if not roles[role]:
            del roles[role]
        if not roles:
            del members[member]
            place = self._places.get(domain)
            if place is not None and place.names is not None:
                place.names.discard(member)
        if not members:
            del self._links[domain]
            self._forget_domains()
        self._reached.clear()
        return True

    def clear(self) -> None:
        """Remove every link; conditions stay."""
        self._links.clear()
        self.forget()

    def forget(self) -> None:
        """Drop what was worked out; call it after changing how names match."""
        self._reached.clear()
        self._forget_domains()

    def file(self) -> Iterator[None]:
        """File the patterns among members, so that no decision has to.

        Yields:
            Nothing, now and then.
        """
        for domain in self._links:
            names = self._place(domain).names
            if names is not None:
                yield from names.file()

    def _forget_domains(self) -> None:
        self._places.clear()
        self._around.clear()
        self._domains = None

    def set_condition(
        self,
        member: Any,
        role: Any,
        domain: str,
        condition: Callable[..., Any],
    ) -> None:
        """Make a link hold only while the condition does."""
        self._conditions[member, role, domain] = condition
        self.forget()

    def set_parameters(self, member: Any, role: Any, domain: str, *parameters: Any) -> None:
        """Set what a link's condition is called with."""
        self._parameters[member, role, domain] = parameters

    @property
    def steady(self) -> bool:
        """Whether the same question always has the same answer: no link has a condition."""
        return not self._conditions and self.condition is None

    def links(self) -> Iterator[tuple[Any, Any, str]]:
        """Every link as (member, role, domain)."""
        for domain, members in self._links.items():
            for member, roles in members.items():
                for role in roles:
                    yield member, role, domain

    def has(self, name: Any, role: Any, domain: Any = "") -> bool:
        """Whether a name is, or has, a role in a domain.

        Cost: one lookup for a name asked before; else O(links followed).

        Raises:
            TypeError: The name is of a type that can't be looked up.
        """
        reach = self.reach(name, domain)
        if role in reach.names:
            return True
        matching = self.matching
        if matching is None:
            return False
        if self.conditional and fits(matching, name, role):
            return True
        return any(self._stands_for(pattern, role) for pattern in reach.patterns)

    def _stands_for(self, pattern: Any, name: Any) -> bool:
        """Whether a name fits a pattern of the policy's own, which is read once."""
        prepare = self.prepare
        if prepare is None or type(pattern) is not str:
            return self.matching is not None and fits(self.matching, name, pattern)
        return fits(lambda value, text: prepare(text).matches(value), name, pattern)

    def named(self, every: Collection[Any]) -> Names:
        """Names that stand somewhere else, to be told by the same function."""
        matching = self.matching or operator.eq
        return Names(every, matching, self.prepare, lambda _name: True)

    def reach(self, name: Any, domain: Any = "") -> Reach:
        """Everything a name is in a domain; see has()."""
        key = (name, domain if isinstance(domain, str) else str(domain))
        reach = self._reached.get(key)
        if reach is None:
            places = self._in_domain(key[1])
            if self.matching is None and all(name not in place.links for place in places):
                # Not remembered: any caller may come with a name of its own.
                return Reach(frozenset((name,)))
            reach = self._follow(name, key[1], places)
            if self.steady and _is_short(name) and len(key[1]) <= _MAX_LENGTH:
                if len(self._reached) >= _MAX_REMEMBERED:
                    self._reached.clear()
                self._reached[key] = reach
        return reach

    def members(self, role: Any) -> set[Any]:
        """Everybody who has a role in some domain, by links as they are written."""
        above: dict[Any, set[Any]] = {}
        for member, given, _ in self.links():
            above.setdefault(given, set()).add(member)
        found: set[Any] = set()
        waiting = [role]
        while waiting:
            for member in above.get(waiting.pop(), ()):
                if member not in found:
                    found.add(member)
                    waiting.append(member)
        return found

    def path(self, name: Any, role: Any, domain: Any = "") -> tuple[Any, ...]:
        """The names from a name to a role it has, both included; empty if it hasn't it."""
        in_domain = domain if isinstance(domain, str) else str(domain)
        places = self._in_domain(in_domain)
        came_from: dict[Any, Any] = {name: None}
        queue = [name]
        for each in queue:
            if each == role or (
                self.matching is not None and each != name and self._stands_for(each, role)
            ):
                path = [each] if each == role else [role, each]
                while came_from[path[-1]] is not None:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            for step in self._steps(each, in_domain, places, first=each == name):
                if step not in came_from:
                    came_from[step] = each
                    queue.append(step)
        return ()

    def _follow(
        self,
        name: Any,
        domain: str,
        places: tuple[_Place, ...],
    ) -> Reach:
        """Breadth first, level by level, as far as Casbin goes; a cycle adds nothing new."""
        names = {name}
        level = [name]
        for depth in range(_MAX_CONDITIONAL_LINKS if self.conditional else _MAX_LINKS):
            following: list[Any] = []
            for each in level:
                for role in self._steps(each, domain, places, first=depth == 0):
                    if role not in names:
                        names.add(role)
                        following.append(role)
            if not following:
                break
            level = following
        loose: tuple[Any, ...] = ()
        if self.matching is not None:
            loose = tuple([each for each in names if each != name and self.is_pattern(each)])
        return Reach(frozenset(names), loose)

    def _steps(
        self,
        name: Any,
        domain: str,
        places: tuple[_Place, ...],
        *,
        first: bool,
    ) -> Iterator[Any]:
        """The names one link away."""
        for place in places:
            members = [name] if place.names is None else [name, *place.names.like(name)]
            for member in members:
                for role in place.links.get(member, ()):
                    if self.steady or self._is_on(member, role, domain):
                        yield role
        if self.matching is not None and not first and self.is_pattern(name):
            # A pattern as a role gives every name that fits it.
            for place in places:
                if place.names is not None:
                    yield from place.names.fitting(name)

    def _is_on(self, member: Any, role: Any, domain: str) -> bool:
        condition = self._conditions.get((member, role, domain), self.condition)
        if condition is None:
            return True
        return bool(condition(*self._parameters.get((member, role, domain), ())))

    def _in_domain(self, domain: str) -> tuple[_Place, ...]:
        """The links that hold in a domain: its own, and those of domains that it matches."""
        places = self._around.get(domain)
        if places is not None:
            return places
        found = [domain] if domain in self._links else []
        if self.domain_matching is not None:
            if self._domains is None:
                prepare = self.domain_prepare
                self._domains = Names(self._links, self.domain_matching, prepare, lambda _: True)
            found += self._domains.like(domain)
        elif not found:
            return ()
        places = tuple([self._place(each) for each in found])
        if len(domain) <= _MAX_LENGTH:
            if len(self._around) >= _MAX_REMEMBERED:
                self._around.clear()
            self._around[domain] = places
        return places

    def _place(self, domain: str) -> _Place:
        """One domain as it is written, which stands beside many."""
        place = self._places.get(domain)
        if place is None:
            links = self._links[domain]
            names = None
            if self.matching is not None:
                names = Names(links, self.matching, self.prepare, self.is_pattern)
            place = self._places[domain] = _Place(links, names)
        return place


def _is_short(name: Any) -> bool:
    return type(name) is not str or len(name) <= _MAX_LENGTH
