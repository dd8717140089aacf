"""Finds a request by which a rule of the built-in model makes a difference between two policies.

Such a request matches the rule, and whatever else must match; it is then decided under both. If
the verdicts don't differ, some other rule stands in the way: the search goes on outside that rule,
in one column after the other. What it finds is a fact, decided and not argued; that it finds
nothing proves nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from authz.authoring.callers import Callers, Who
from authz.authoring.conditions import Slot, ways
from authz.authoring.examples import Caller, Example, callers_in, methods_in, paths_in, services_in
from authz.authoring.mesh_rules import MeshRule, methods_cover, services_share
from authz.authoring.shapes import meet
from authz.policy.decision import Decision
from authz.policy.rules import Row
from authz.policy.segments import MANY, Segments, parse_segments
from authz.policy.syntax import Node

__all__ = ["Asking", "Found", "Judge", "MeshPolicy", "Sides", "find"]

# Decisions for one rule, and for one pair of rules.
_MAX_RULE = 60
_MAX_REGION = 24
# Allow rules looked at, and tried, for what a deny takes away.
_MAX_LOOKED_AT = 2000
_MAX_REGIONS = 12
_MAX_AVOIDED = 8


class Found(NamedTuple):
    """A request that the two policies judge differently.

    Attributes:
        example: The request.
        old: The decision before.
        new: The decision after.
    """

    example: Example
    old: Decision
    new: Decision


# Decides a request under both policies, the old one first; None where no such request can be.
Judge = Callable[[Example], tuple[Decision, Decision] | None]


@dataclass(slots=True)
class Asking:
    """The decisions that a whole comparison asks for.

    Attributes:
        judge: See Judge.
        is_late: Whether it has taken long enough.
        is_over: Whether it had.
    """

    judge: Judge
    is_late: Callable[[], bool]
    is_over: bool = False

    def ask(self, example: Example) -> tuple[Decision, Decision] | None:
        """Ask for one."""
        return self.judge(example)

    def may_go_on(self) -> bool:
        """Whether there is time for more; what was late once stays so."""
        self.is_over = self.is_over or self.is_late()
        return not self.is_over


@dataclass(frozen=True, slots=True)
class Sides:
    """The two policies, as a rule that only one of them has sees them.

    Attributes:
        within: The policy that has the rule.
        beside: The other one.
        is_new: Whether the one that has it is the new one.
    """

    within: "MeshPolicy"
    beside: "MeshPolicy"
    is_new: bool


class MeshPolicy:
    """One of the two policies, as the search needs it.

    Args:
        rules: Its rules.
        links: Rows that give roles.
        read: Parses a condition.
    """

    def __init__(
        self, rules: Sequence[MeshRule], links: Sequence[Row], read: Callable[[str], Node | None]
    ) -> None:
        self.rules = rules
        self.callers = Callers(links)
        self.read = read
        self.by_who: dict[str, list[MeshRule]] = {}
        self._allows: dict[str, list[MeshRule]] = {}
        for rule in rules:
            self.by_who.setdefault(rule.who, []).append(rule)
            if rule.effect == "allow":
                self._allows.setdefault(rule.service, []).append(rule)
        self._meeting: dict[tuple[str, str], bool] = {}
        self._wild = [service for service in self._allows if "*" in service]

    def allows_beside(self, rule: MeshRule, callers: Who) -> Iterator[MeshRule]:
        """Allow rules that may match a request which a rule of these callers does; bounded."""
        looked = 0
        services = [*self._allows] if "*" in rule.service else [rule.service, *self._wild]
        for service in services:
            looked += 1
            if services_share(service, rule.service):
                for other in self._allows.get(service, ()):
                    looked += 1
                    if self._may_share(rule, callers, other):
                        yield other
                    if looked > _MAX_LOOKED_AT:
                        return
            if looked > _MAX_LOOKED_AT:
                return

    def _may_share(self, rule: MeshRule, callers: Who, other: MeshRule) -> bool:
        if not (rule.methods & other.methods or "*" in rule.methods | other.methods):
            return False
        if not _paths_share(rule, other):
            return False
        # Rules are many, who they are about are few.
        who = (rule.who, other.who)
        meeting = self._meeting.get(who)
        if meeting is None:
            meeting = self._meeting[who] = callers.may_meet(self.callers.of(other.who))
        return meeting


def _paths_share(one: MeshRule, other: MeshRule) -> bool:
    return _share(one.path, other.path)


@lru_cache(maxsize=65536)
def _share(one: str, other: str) -> bool:
    forms = _form(one), _form(other)
    for mine, others in zip(*forms, strict=False):
        if not (isinstance(mine, str) and isinstance(others, str)):
            break
        if mine != others:
            return False
    return meet(*forms) is not None


@lru_cache(maxsize=65536)
def _form(path: str) -> Segments:
    return ("", MANY) if path == "**" else parse_segments(path)


@dataclass(frozen=True, slots=True)
class _Region:
    """Requests that match some rules and none of others, column by column.

    Attributes:
        rules: What they match, each with the policy that it stands in.
        avoided: Rules to stay outside of, each by one column.
        settings: Values of attributes that conditions ask for.
        callers: Who asks, besides.
    """

    rules: tuple[tuple[MeshRule, MeshPolicy], ...]
    avoided: tuple[tuple[str, MeshRule, MeshPolicy], ...]
    settings: Mapping[Slot, str]
    callers: tuple[Who, ...]


def find(rule: MeshRule, sides: Sides, asking: Asking) -> Found | None:
    """Find a request by which a rule makes a difference.

    Args:
        rule: The rule; an allow lets requests in, a deny keeps them out.
        sides: Which policy has it.
        asking: What decides.

    Cost: at most sixty decisions; for most rules one.
    """
    callers: tuple[Who, ...] = ()
    if rule.who.startswith("role:"):
        # Whoever was given or taken the role as well is another change's matter, if there are more.
        held = sides.beside.callers.of(rule.who)
        callers = () if held.is_empty else (held,)
    search = _Search(sides, asking, callers, allows=rule.effect == "allow")
    if rule.effect == "allow":
        return search.run(((rule, sides.within),))
    # A deny takes away only what the other policy allows.
    who = sides.within.callers.of(rule.who)
    for tried, other in enumerate(sides.beside.allows_beside(rule, who)):
        if tried >= _MAX_REGIONS or search.left <= 0 or not asking.may_go_on():
            break
        found = search.run(((rule, sides.within), (other, sides.beside)))
        if found is not None:
            return found
    return None


class _Search:
    """One search; it counts what it has asked."""

    def __init__(
        self, sides: Sides, asking: Asking, callers: tuple[Who, ...], *, allows: bool
    ) -> None:
        self._sides = sides
        self._asking = asking
        self._allows = allows
        self._callers = callers
        self.left = _MAX_RULE

    def run(self, rules: tuple[tuple[MeshRule, MeshPolicy], ...]) -> Found | None:
        """Search the requests that match some rules, widest first."""
        waiting = deque(_Region(rules, (), each, self._callers) for each in _settings(rules))
        left = _MAX_REGION
        while waiting and left > 0 and self.left > 0 and self._asking.may_go_on():
            region = waiting.popleft()
            example = _example(region)
            if example is None:
                continue
            left -= 1
            self.left -= 1
            judged = self._asking.ask(example)
            if judged is None:
                continue
            blocker = self._blocker(judged)
            if blocker is None:
                return Found(example, *judged)
            waiting.extend(_outside(region, blocker))
        return None

    def _blocker(
        self, judged: tuple[Decision, Decision]
    ) -> tuple[MeshRule | None, MeshPolicy] | None:
        """What keeps the verdicts from being as the rule would have them; None for nothing."""
        old, new = judged
        mine, other = (new, old) if self._sides.is_new else (old, new)
        for decision, policy, wanted in (
            (mine, self._sides.within, self._allows),
            (other, self._sides.beside, not self._allows),
        ):
            if decision.allowed is not wanted:
                rule = decision.rule
                row = None if rule is None else Row(rule.ptype, rule.values, rule.file, rule.line)
                return (None if row is None else MeshRule.of(row, policy.read)), policy
        return None


def _outside(region: _Region, blocker: tuple[MeshRule | None, MeshPolicy]) -> Iterator[_Region]:
    """The parts of a region that a rule doesn't match, by each of its columns."""
    rule, policy = blocker
    if rule is None or len(region.avoided) >= _MAX_AVOIDED:
        return
    for column in ("path", "who", "methods", "service"):
        if not _is_open(column, rule):
            yield replace(region, avoided=(*region.avoided, (column, rule, policy)))
    for each in ways(rule.condition, wanted=False):
        merged = _merged(region.settings, each)
        if merged is not None and merged != region.settings:
            yield replace(region, settings=merged)


def _is_open(column: str, rule: MeshRule) -> bool:
    """Whether a column leaves nothing outside."""
    if column == "methods":
        return methods_cover(rule.methods, frozenset("*"))
    value: str = getattr(rule, column)
    return value == "*" or (column == "path" and value in {"**", "/**"})


def _settings(rules: Sequence[tuple[MeshRule, MeshPolicy]]) -> list[Mapping[Slot, str]]:
    """Values that make the conditions of all rules hold."""
    found: list[Mapping[Slot, str]] = [{}]
    for rule, _ in rules:
        merged = [_merged(one, other) for one in found for other in ways(rule.condition)]
        found = [each for each in merged if each is not None]
    return found[:_MAX_REGION]


def _merged(one: Mapping[Slot, str], other: Mapping[Slot, str]) -> Mapping[Slot, str] | None:
    merged = {**one, **other}
    return merged if all(merged[slot] == text for slot, text in one.items()) else None


def _example(region: _Region) -> Example | None:
    """One request of a region, or None if none is found."""
    rules, settings = region.rules, region.settings

    def avoided(column: str) -> list[MeshRule]:
        return [rule for each, rule, _ in region.avoided if each == column]

    method = settings.get(("request.method", ""))
    within = [rule.methods for rule, _ in rules] + ([frozenset((method,))] if method else [])
    method = next(methods_in(within, [rule.methods for rule in avoided("methods")]), None)
    asked = settings.get(("request.path", ""))
    paths = [rule.path for rule, _ in rules] + ([asked] if asked else [])
    path = next(paths_in(paths, [rule.path for rule in avoided("path")]), None)
    named = settings.get(("destination.service", ""))
    services = [rule.service for rule, _ in rules] + ([named] if named else [])
    service = next(services_in(services, [rule.service for rule in avoided("service")]), None)
    caller = next(
        callers_in(
            [*region.callers, *(policy.callers.of(rule.who) for rule, policy in rules)],
            [
                policy.callers.of(rule.who)
                for column, rule, policy in region.avoided
                if column == "who"
            ],
        ),
        None,
    )
    if method is None or path is None or service is None or caller is None:
        return None
    return _with_settings(Example(service=service, method=method, path=path), caller, settings)


def _with_settings(example: Example, caller: Caller, settings: Mapping[Slot, str]) -> Example:
    """The request with what conditions ask for, as far as a request can be given it."""
    parts: dict[str, dict[str, str]] = {}
    for (name, part), text in settings.items():
        if part:
            parts.setdefault(name, {})[part] = text
    claims = parts.get("request.auth.claims", {})
    query = "&".join(f"{key}={text}" for key, text in parts.get("request.query_params", {}).items())
    address = settings.get(("source.ip", "")) or settings.get(("remote.ip", "")) or ""
    return replace(
        example,
        principal=caller.principal or settings.get(("source.principal", ""), ""),
        # Only the token of a user has claims.
        user=caller.user or ("https://id.example/any" if claims else ""),
        path=f"{example.path}?{query}" if query else example.path,
        host=settings.get(("request.host", ""), ""),
        source_ip=address,
        headers=parts.get("request.headers", {}),
        claims=claims,
        context=parts.get("context_extensions", {}),
    )
