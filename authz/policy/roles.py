"""Who has which role: links, followed up to Casbin's depth, with domains, patterns and conditions.

Source: casbin.org/docs/rbac, -with-pattern, -with-domains, -with-conditions. pycasbin's role
    manager
adds nodes to its graph while it answers; here nothing that is asked changes anything.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Reach", "Roles"]

# pycasbin's RoleManager(10) finds a role nine links away, its conditional one ten.
_MAX_LINKS = 9
_MAX_CONDITIONAL_LINKS = 10
# A caller may ask with any name: what is remembered is bounded, and forgotten all at once.
_MAX_REMEMBERED = 8192

Match = Callable[[Any, Any], bool]
Links = dict[Any, dict[Any, int]]


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
class Roles:
    """The links of one role definition.

    Attributes:
        matching: Whether a name fits a pattern that stands in a link; None where names are names.
        domain_matching: The same for domains.
        is_pattern: Whether a name can stand for others; only asked when `matching` is set.
        conditional: Whether links have conditions.
        condition: The condition of every link that has none of its own but parameters.
    """

    matching: Match | None = None
    domain_matching: Match | None = None
    is_pattern: Callable[[Any], bool] = lambda _name: True
    conditional: bool = False
    condition: Callable[..., Any] | None = None
    _links: dict[str, Links] = field(default_factory=dict)
    _conditions: dict[tuple[Any, Any, str], Callable[..., Any]] = field(default_factory=dict)
    _parameters: dict[tuple[Any, Any, str], tuple[Any, ...]] = field(default_factory=dict)
    _reached: dict[tuple[Any, str], Reach] = field(default_factory=dict)
    _merged: dict[str, tuple[Links, tuple[Any, ...]]] = field(default_factory=dict)

    def add(self, member: Any, role: Any, domain: str = "") -> None:
        """Add one link; the same link twice needs to be removed twice."""
        roles = self._links.setdefault(domain, {}).setdefault(member, {})
        roles[role] = roles.get(role, 0) + 1
        self.forget()

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
        if not members:
            del self._links[domain]
        self.forget()
        return True

    def clear(self) -> None:
        """Remove every link; conditions stay."""
        self._links.clear()
        self.forget()

    def forget(self) -> None:
        """Drop what was worked out; call it after changing how names match."""
        self._reached.clear()
        self._merged.clear()

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
        if self.conditional and _fits(matching, name, role):
            return True
        return any(_fits(matching, role, pattern) for pattern in reach.patterns)

    def reach(self, name: Any, domain: Any = "") -> Reach:
        """Everything a name is in a domain; see has()."""
        key = (name, domain if isinstance(domain, str) else str(domain))
        reach = self._reached.get(key)
        if reach is None:
            links, patterns = self._in_domain(key[1])
            if self.matching is None and name not in links:
                # Not remembered: any caller may come with a name of its own.
                return Reach(frozenset((name,)))
            reach = self._follow(name, key[1], links, patterns)
            if self.steady:
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
        links, patterns = self._in_domain(in_domain)
        came_from: dict[Any, Any] = {name: None}
        queue = [name]
        for each in queue:
            if each == role or (
                self.matching is not None and each != name and _fits(self.matching, role, each)
            ):
                path = [each] if each == role else [role, each]
                while came_from[path[-1]] is not None:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            for step in self._steps(each, in_domain, links, patterns, first=each == name):
                if step not in came_from:
                    came_from[step] = each
                    queue.append(step)
        return ()

    def _follow(
        self,
        name: Any,
        domain: str,
        links: Links,
        patterns: tuple[Any, ...],
    ) -> Reach:
        """Breadth first, level by level, as far as Casbin goes; a cycle adds nothing new."""
        names = {name}
        level = [name]
        for depth in range(_MAX_CONDITIONAL_LINKS if self.conditional else _MAX_LINKS):
            following: list[Any] = []
            for each in level:
                for role in self._steps(each, domain, links, patterns, first=depth == 0):
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
        links: Links,
        patterns: tuple[Any, ...],
        *,
        first: bool,
    ) -> Iterator[Any]:
        """The names one link away."""
        for member in (name, *self._members_like(name, patterns)):
            for role in links.get(member, ()):
                if self.steady or self._is_on(member, role, domain):
                    yield role
        if self.matching is not None and not first and self.is_pattern(name):
            # A pattern as a role gives every name that fits it.
            for other in links:
                if other != name and _fits(self.matching, other, name):
                    yield other

    def _members_like(self, name: Any, patterns: tuple[Any, ...]) -> list[Any]:
        matching = self.matching
        if matching is None:
            return []
        return [each for each in patterns if each != name and _fits(matching, name, each)]

    def _is_on(self, member: Any, role: Any, domain: str) -> bool:
        condition = self._conditions.get((member, role, domain), self.condition)
        if condition is None:
            return True
        return bool(condition(*self._parameters.get((member, role, domain), ())))

    def _in_domain(self, domain: str) -> tuple[Links, tuple[Any, ...]]:
        """The links that hold in a domain, and which of their members are patterns."""
        found = self._merged.get(domain)
        if found is not None:
            return found
        links = self._links.get(domain, {})
        if self.domain_matching is not None:
            merged: Links = {member: dict(roles) for member, roles in links.items()}
            for other, members in self._links.items():
                if other != domain and _fits(self.domain_matching, domain, other):
                    for member, roles in members.items():
                        merged.setdefault(member, {}).update(roles)
            links = merged
        elif domain not in self._links:
            return {}, ()
        patterns: tuple[Any, ...] = ()
        if self.matching is not None:
            patterns = tuple([member for member in links if self.is_pattern(member)])
        if len(self._merged) >= _MAX_REMEMBERED:
            self._merged.clear()
        self._merged[domain] = links, patterns
        return links, patterns


def _fits(matching: Match, name: Hashable, pattern: Hashable) -> bool:
    """A matching function that can't judge a pair of names has not matched them."""
    try:
        return bool(matching(name, pattern))
    except Exception:  # noqa: BLE001 - a user's function; pycasbin takes any fault for "no" here
        return False
