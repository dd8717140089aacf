"""Two policies compared by effect: which changes let requests in, which keep requests out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from authz.authoring.custom_search import CustomPolicy, find_custom
from authz.authoring.diff import Change, changes
from authz.authoring.examples import Example
from authz.authoring.lint.spec import Options, Subject
from authz.authoring.mesh_rules import MeshRule
from authz.authoring.search import Asking, Found, Judge, MeshPolicy, Sides, find
from authz.policy.decision import Decision
from authz.policy.effects import Effect
from authz.policy.mesh import mesh_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row

__all__ = ["Difference", "Shown", "compare"]

# Rules looked at for what one role, given or taken, changes.
_MAX_RULES_OF_ROLE = 64

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A change with a request that shows its effect.

    Attributes:
        change: The change.
        example: The request, which both policies have decided.
        old: The decision before.
        new: The decision after.
    """

    change: Change
    example: Example
    old: Decision
    new: Decision


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two policies.

    Attributes:
        changes: By rule.
        widened: Changes that allow what was denied, each with an example.
        narrowed: Changes that deny what was allowed.
        silent: Changes for which no request was found that is judged otherwise.
        unsearched: Changes that there was no time to look into.
        model_changed: Whether the models differ.
        reordered: Whether rules changed places in a policy where places count.
    """

    changes: tuple[Change, ...]
    widened: tuple[Shown, ...]
    narrowed: tuple[Shown, ...]
    silent: tuple[Change, ...]
    unsearched: tuple[Change, ...] = ()
    model_changed: bool = False
    reordered: bool = False


def compare(  # noqa: PLR0913 - two policies, and what the program lends
    old: PolicyText,
    new: PolicyText,
    engine: EngineOptions,
    judge: Judge,
    *,
    is_late: Callable[[], bool] = lambda: False,
    advance: Advance = lambda _what, _done, _all: None,
) -> Difference:
    """Compare two policies that have no fault.

    Args:
        old: The one before.
        new: The one after.
        engine: As the service builds them.
        judge: Decides a request under both.
        is_late: Whether it has taken long enough; the changes that are left go unsearched.
        advance: Told now and then how far it is.

    Cost: one or two decisions under both for most changes.
    """
    before, after = Subject(old, Options(engine)), Subject(new, Options(engine))
    differing = changes(before.rows, after.rows)
    model_changed = old.model != new.model
    asked = _asked(differing, before, after) if model_changed else differing
    asking = Asking(judge, is_late)
    search = (_Mesh if _is_mesh(old, new) else _Custom)(before, after, asking)
    widened: list[Shown] = []
    narrowed: list[Shown] = []
    silent: list[Change] = []
    unsearched: list[Change] = []
    for number, change in enumerate(asked):
        if number % 16 == 0:
            advance("looking for requests", number, len(asked))
        if not asking.may_go_on():
            unsearched.append(change)
            continue
        shown = [Shown(change, *found) for found in search.shown(change)]
        widened += [each for each in shown if each.new.allowed]
        narrowed += [each for each in shown if not each.new.allowed]
        if not shown:
            (unsearched if asking.is_over else silent).append(change)
    advance("", len(asked), len(asked))
    told = {id(change) for change in differing}
    return Difference(
        tuple(differing),
        tuple(widened),
        tuple(narrowed),
        tuple(change for change in silent if id(change) in told),
        tuple(unsearched),
        model_changed,
        _reordered(before, after),
    )


def _is_mesh(old: PolicyText, new: PolicyText) -> bool:
    return old.model == new.model == mesh_model()


def _asked(found: list[Change], before: Subject, after: Subject) -> list[Change]:
    """With another model every rule may mean something else, so each is looked at."""
    kept = {id(row) for change in found for row in (change.old, change.new)}
    same = [Change(None, row) for row in after.rules if id(row) not in kept]
    return [*found, *same, *(Change(row, None) for row in before.rules if id(row) not in kept)]


def _reordered(before: Subject, after: Subject) -> bool:
    """Whether rules that both have stand in another order, where the order decides."""
    if before.language is None or not any(effect.ordered for effect in before.effects.values()):
        return False
    if all(effect is Effect.SUBJECT_PRIORITY for effect in before.effects.values()):
        return False
    kept = {(row.ptype, row.values) for row in before.rules}
    kept &= {(row.ptype, row.values) for row in after.rules}

    def order(rows: Sequence[Row]) -> list[tuple[str, tuple[str, ...]]]:
        keys = [(row.ptype, row.values) for row in rows]
        return list(dict.fromkeys(key for key in keys if key in kept))

    return order(before.rules) != order(after.rules)


class _Mesh:
    """Searches by what is known of the built-in model."""

    def __init__(self, before: Subject, after: Subject, asking: Asking) -> None:
        self._old = _mesh_policy(before)
        self._new = _mesh_policy(after)
        self._rules = {id(rule.row): rule for rule in (*self._old.rules, *self._new.rules)}
        self._asking = asking

    def shown(self, change: Change) -> Iterator[Found]:
        """At most one request that is let in and one that is kept out."""
        seen: set[bool] = set()
        for row, sides in (
            (change.new, Sides(self._new, self._old, is_new=True)),
            (change.old, Sides(self._old, self._new, is_new=False)),
        ):
            for rule in () if row is None else self._rules_of(row, sides.within):
                widens = (rule.effect == "allow") is sides.is_new
                found = None if widens in seen else find(rule, sides, self._asking)
                if found is not None:
                    seen.add(widens)
                    yield found

    def _rules_of(self, row: Row, policy: MeshPolicy) -> Iterator[MeshRule]:
        """The rule itself; for a role that is given, the rules that ask for it, as its member's."""
        if row.ptype[0] == "p":
            yield self._rules[id(row)]
            return
        member, role = row.values[:2]
        looked = 0
        for each in sorted(policy.callers.roles_of(role)):
            for rule in policy.by_who.get(each, ()):
                looked += 1
                if looked > _MAX_RULES_OF_ROLE:
                    return
                own = replace(rule.row, values=(member, *rule.row.values[1:]))
                yield replace(rule, row=own)


def _mesh_policy(subject: Subject) -> MeshPolicy:
    if subject.language is None:
        raise ValueError("a policy with a fault in its model can't be compared")
    return MeshPolicy(subject.mesh_rules, subject.links, subject.language.when)


class _Custom:
    """Searches by what a matcher seems to ask for."""

    def __init__(self, before: Subject, after: Subject, asking: Asking) -> None:
        self._old = _custom_policy(before)
        self._new = _custom_policy(after)
        self._asking = asking

    def shown(self, change: Change) -> Iterator[Found]:
        """At most one request that is let in and one that is kept out."""
        for widens in (True, False):
            tried = (self._first(row, policy, widens=widens) for row, policy in self._rows(change))
            found = next((each for each in tried if each is not None), None)
            if found is not None:
                yield found

    def _rows(self, change: Change) -> Iterator[tuple[Row, CustomPolicy]]:
        if change.new is not None:
            yield change.new, self._new
        if change.old is not None:
            yield change.old, self._old

    def _first(self, row: Row, policy: CustomPolicy, *, widens: bool) -> Found | None:
        if row.ptype[0] == "p":
            return find_custom(row, policy, self._asking, widens=widens)
        for number, rule in enumerate(policy.asking_for(row)):
            if number >= _MAX_RULES_OF_ROLE:
                break
            member = row.values[0]
            found = find_custom(rule, policy, self._asking, widens=widens, only=member)
            if found is not None:
                return found
        return None


def _custom_policy(subject: Subject) -> CustomPolicy:
    if subject.language is None:
        raise ValueError("a policy with a fault in its model can't be compared")
    return CustomPolicy(subject.language, subject.rows, list(subject.matchers()))
