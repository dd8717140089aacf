"""Rules of the mesh model as sets of requests, and which of them cover which."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from authz.authoring.callers import Callers, generic, is_wild
from authz.authoring.near import Near
from authz.authoring.shapes import covers as path_covers
from authz.authoring.shapes import part_covers, parts_meet
from authz.policy.functions.mesh import methods
from authz.policy.rules import Row
from authz.policy.segments import Part, Segments, parse_segments
from authz.policy.syntax import Node

__all__ = [
    "Coverage",
    "MeshRule",
    "covers",
    "methods_cover",
    "service_covers",
    "services_share",
    "text_covers",
]

WHO, SERVICE, METHOD, PATH, EFFECT, WHEN = range(6)


@dataclass(frozen=True, slots=True, eq=False)
class MeshRule:
    """One rule of the mesh model, its columns apart.

    Attributes:
        row: As written, whole.
        methods: What its METHOD column names; "*" alone is any.
        condition: Its WHEN as a tree; None for none.
    """

    row: Row
    methods: frozenset[str]
    condition: Node | None

    @classmethod
    def of(cls, row: Row, read: Callable[[str], Node | None]) -> "MeshRule":
        """Take a whole row apart that has no fault.

        Args:
            row: The row.
            read: Parses a condition.
        """
        return cls(row, frozenset(methods(row.values[METHOD])), read(row.values[WHEN]))

    @property
    def who(self) -> str:
        """Who may or may not."""
        return self.row.values[WHO]

    @property
    def service(self) -> str:
        """Which service."""
        return self.row.values[SERVICE]

    @property
    def path(self) -> str:
        """Which paths."""
        return self.row.values[PATH]

    @property
    def effect(self) -> str:
        """Allow or deny."""
        return self.row.values[EFFECT]


def text_covers(wide: str, narrow: str) -> bool:
    """Whether one PATH column covers another."""
    if wide in {narrow, "**"}:
        return True
    if narrow == "**" or not is_wild(wide):
        return False
    return path_covers(parse_segments(wide), parse_segments(narrow))


def service_covers(wide: str, narrow: str) -> bool:
    """Whether one SERVICE column covers another."""
    if wide in {narrow, "*"}:
        return True
    if narrow == "*" or "*" not in wide:
        return False
    shape = Part(tuple(wide.split("*")))
    if "*" not in narrow:
        return shape.matches(narrow)
    return part_covers(shape, Part(tuple(narrow.split("*"))))


def services_share(one: str, other: str) -> bool:
    """Whether two SERVICE columns match some service both."""
    if "*" in one and "*" in other:
        return "*" in {one, other} or (
            parts_meet(Part(tuple(one.split("*"))), Part(tuple(other.split("*")))) is not None
        )
    return service_covers(one, other) or service_covers(other, one)


def methods_cover(wide: frozenset[str], narrow: frozenset[str]) -> bool:
    """Whether one set of methods covers another."""
    return "*" in wide or narrow <= wide


def covers(wide: MeshRule, narrow: MeshRule, callers: Callers) -> bool:
    """Whether every request that matches the second rule matches the first: a proof.

    A condition is covered by none at all and by the same one. Where a condition raises, a deny rule
    matches and an allow rule doesn't, so an allow rule covers a deny rule only without one.
    """
    if wide.condition is not None and (
        wide.condition != narrow.condition or (wide.effect == "allow" and narrow.effect == "deny")
    ):
        return False
    return (
        methods_cover(wide.methods, narrow.methods)
        and service_covers(wide.service, narrow.service)
        and text_covers(wide.path, narrow.path)
        and callers.covers(wide.who, narrow.who)
    )


Leaf = dict[tuple[str, frozenset[str]], MeshRule]


class Coverage:
    """Finds, for each rule of a policy, the rules that cover it.

    Rules are filed by service, path, who and condition. A covering column matches whatever the
    covered one does, so that one example value finds the few columns worth a proof.

    Cost: O(rules) for policies whose rules are mostly about different things.

    Args:
        rules: All of them.
        callers: Who their WHO columns are.
    """

    def __init__(self, rules: Sequence[MeshRule], callers: Callers) -> None:
        self._callers = callers
        self._services = _Wider({rule.service for rule in rules}, service_covers, is_path=False)
        self._paths = _Wider({rule.path for rule in rules}, text_covers, is_path=True)
        self._who = _WiderWho({rule.who for rule in rules}, callers)
        self._tree: dict[str, dict[str, dict[str, dict[Node | None, Leaf]]]] = {}
        self.twins: list[tuple[MeshRule, MeshRule]] = []
        for rule in rules:
            conditions = (
                self._tree.setdefault(rule.service, {})
                .setdefault(rule.path, {})
                .setdefault(rule.who, {})
            )
            leaf = conditions.setdefault(rule.condition, {})
            first = leaf.setdefault((rule.effect, rule.methods), rule)
            if first is not rule:
                self.twins.append((first, rule))

    def covering(self, rule: MeshRule) -> Iterator[MeshRule]:
        """Every other rule that covers this one, but for its exact twins."""
        key = (rule.effect, rule.methods)
        for leaf in self._leaves(rule):
            for (effect, names), other in leaf.items():
                if other is rule or not methods_cover(names, rule.methods):
                    continue
                if (effect, names) == key and _columns(other) == _columns(rule):
                    continue
                if covers(other, rule, self._callers):
                    yield other

    def _leaves(self, rule: MeshRule) -> Iterator[Leaf]:
        conditions = dict.fromkeys((None, rule.condition))
        who = self._who.than(rule.who)
        paths = self._paths.than(rule.path)
        for service in self._services.than(rule.service):
            of_service = self._tree[service]
            for path in _both(paths, of_service):
                of_path = of_service[path]
                for each in _both(who, of_path):
                    of_who = of_path[each]
                    for condition in conditions:
                        if condition in of_who:
                            yield of_who[condition]


def _columns(rule: MeshRule) -> tuple[Any, ...]:
    return (rule.who, rule.service, rule.path, rule.condition)


def _both(wanted: Sequence[str], known: Iterable[str]) -> list[str]:
    """What is in both, by way of the smaller one's size where that is a dict's."""
    return [each for each in wanted if each in known]


class _Wider:
    """For each text of the SERVICE or PATH column, those that cover it."""

    def __init__(
        self, texts: set[str], proves: Callable[[str, str], bool], *, is_path: bool
    ) -> None:
        form = _path_form if is_path else _service_form
        self._near = Near(((text, form(text)) for text in sorted(texts)), whole=not is_path)
        self._some = _some_path if is_path else _some_service
        self._proves = proves
        self._known: dict[str, list[str]] = {}

    def than(self, text: str) -> list[str]:
        """The texts that cover one of them, itself included."""
        found = self._known.get(text)
        if found is None:
            near = self._near.find(self._some(text))
            found = self._known[text] = [each for each in near if self._proves(each, text)]
        return found


class _WiderWho:
    """For each WHO column, those that cover it; a name leads to the roles that it has."""

    def __init__(self, texts: set[str], callers: Callers) -> None:
        self._callers = callers
        self._columns: dict[str, list[str]] = {}
        forms: dict[str, Segments] = {}
        for who in sorted(texts - {"*"}):
            held = callers.of(who)
            forms.update((name, parse_segments(name)) for name in held.names)
            forms.update(held.patterns)
            for text in (*held.names, *(text for text, _ in held.patterns)):
                self._columns.setdefault(text, []).append(who)
        self._near = Near(forms.items())
        self._always = ["*"] if "*" in texts else []
        self._known: dict[str, list[str]] = {}

    def than(self, who: str) -> list[str]:
        """The columns that cover one of them, itself included."""
        found = self._known.get(who)
        if found is None:
            name = self._callers.of(who).some()
            near = [] if name is None else self._near.find(name)
            tried = dict.fromkeys(
                [*self._always, who, *(each for text in near for each in self._columns[text])]
            )
            found = [each for each in tried if self._callers.covers(each, who)]
            self._known[who] = found
        return found


def _service_form(text: str) -> Segments | None:
    if text == "*":
        return None
    return (Part(tuple(text.split("*"))),) if "*" in text else (text,)


def _path_form(text: str) -> Segments | None:
    return None if text == "**" else parse_segments(text)


def _some_service(text: str) -> str:
    # Nothing but `*` covers `*`, and `*` matches "" as well.
    return "" if text == "*" else text.replace("*", "x")


def _some_path(text: str) -> str:
    return "" if text == "**" else generic(parse_segments(text))
