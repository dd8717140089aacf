"""Rules that say again, or in vain, what another rule says."""

from collections.abc import Iterator

from authz.authoring.conditions import impossible, required
from authz.authoring.findings import Severity
from authz.authoring.lint.spec import Lint, Problem, Subject, at_row, line_of
from authz.authoring.mesh_rules import PATH, WHEN, MeshRule, covers
from authz.authoring.possible import caller_fault, path_fault, path_fits
from authz.policy.effects import Effect
from authz.policy.rules import Row

__all__ = ["LINTS"]

_REMOVE = "remove one of the two"


def _duplicates(subject: Subject) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], Row] = {}
    for row in subject.rows:
        first = seen.setdefault((row.ptype, *row.values), row)
        if first is not row:
            yield at_row(row, f"it is the same as {line_of(first)}", _REMOVE, other=first)
    for rule, other in _same_effect(subject):
        if _equal(subject, rule, other) and other.row.values != rule.row.values:
            message = f"it says the same as {line_of(other.row)}"
            yield at_row(rule.row, message, _REMOVE, other=other.row)


def _same_effect(subject: Subject) -> Iterator[tuple[MeshRule, MeshRule]]:
    """Each rule with the first one of the same effect that covers it; of two twins, the later."""
    yield from ((later, first) for first, later in subject.coverage.twins)
    twins = {id(later) for _, later in subject.coverage.twins}
    place = {id(rule): number for number, rule in enumerate(subject.mesh_rules)}
    for rule in subject.mesh_rules:
        if id(rule) in twins:
            continue
        for other in subject.coverage.covering(rule):
            if other.effect != rule.effect:
                continue
            if _equal(subject, rule, other) and place[id(other)] > place[id(rule)]:
                continue
            yield rule, other
            break


def _equal(subject: Subject, one: MeshRule, other: MeshRule) -> bool:
    """Whether two rules, of which one covers the other, match the same requests."""
    if one.condition != other.condition:
        return False
    callers = subject.callers
    return all(
        covers(_unconditional(wide), _unconditional(narrow), callers)
        for wide, narrow in ((one, other), (other, one))
    )


def _unconditional(rule: MeshRule) -> MeshRule:
    return MeshRule(rule.row, rule.methods, None)


def _shadowed(subject: Subject) -> Iterator[Problem]:
    for rule, other in _same_effect(subject):
        if not _equal(subject, rule, other):
            message = f"every request it matches is matched by {line_of(other.row)} as well"
            yield at_row(rule.row, message, "remove it, or narrow the other", other=other.row)
    for row, first in _later_twins(subject, {Effect.PRIORITY, Effect.SUBJECT_PRIORITY}):
        message = f"{line_of(first)} matches the same requests and comes first"
        yield at_row(row, message, _REMOVE, other=first)


def _later_twins(subject: Subject, effects: set[Effect]) -> Iterator[tuple[Row, Row]]:
    """Rules of custom models that differ from an earlier one in nothing but their effect."""
    if subject.is_mesh:
        return
    seen: dict[tuple[str, ...], Row] = {}
    for row in subject.rules:
        if subject.effects.get(row.ptype) not in effects:
            continue
        left_out = {subject.field_index(row, "eft"), subject.field_index(row, "priority")}
        kept = [value for at, value in enumerate(row.values) if at not in left_out]
        first = seen.setdefault((row.ptype, *kept), row)
        if first.values != row.values:
            yield row, first


def _denied(subject: Subject) -> Iterator[tuple[MeshRule, MeshRule]]:
    for rule in subject.mesh_rules:
        if rule.effect == "allow":
            for other in subject.coverage.covering(rule):
                if other.effect == "deny":
                    yield rule, other
                    break


def _contradictory(subject: Subject) -> Iterator[Problem]:
    fix = "decide which of the two is meant, and remove the other"
    for rule, other in _denied(subject):
        if _equal(subject, rule, other):
            message = f"it never allows anything: {line_of(other.row)} denies the same requests"
            yield at_row(rule.row, message, fix, other=other.row)
    for row, first in _later_twins(subject, {Effect.ALLOW_AND_DENY}):
        message = f"it contradicts {line_of(first)}; the deny counts"
        yield at_row(row, message, fix, other=first)


def _unreachable(subject: Subject) -> Iterator[Problem]:
    for rule, other in _denied(subject):
        if not _equal(subject, rule, other):
            message = f"it never allows anything: {line_of(other.row)} denies all that it matches"
            fix = "remove it, or narrow the deny"
            yield at_row(rule.row, message, fix, other=other.row, severity=Severity.WARNING)
    for row in subject.rules:
        effect = subject.effects.get(row.ptype)
        index = subject.field_index(row, "eft")
        word = row.values[index] if index >= 0 else "allow"
        if effect is not None and word not in effect.counts:
            message = f"the model's policy effect never looks at {word} rules"
            yield at_row(row, message, "choose another policy effect, or remove the rule", index)
    yield from _impossible(subject)


def _impossible(subject: Subject) -> Iterator[Problem]:
    """Rules and members of the built-in model that no request can match."""
    if not subject.is_mesh:
        return
    options = subject.options
    for row in (*subject.rules, *subject.links):
        if {"who", "user"} & options.bind.keys():
            break
        reason, fix = caller_fault(row.values[0], options.check_principal)
        if reason:
            yield at_row(row, f"nobody can be {row.values[0]!r}: {reason}", fix, 0)
    for rule in subject.mesh_rules:
        row = rule.row
        # A deny also counts for paths as they were sent, before they are brought to normal form.
        if rule.effect == "allow" and "path" not in options.bind:
            reason, fix = path_fault(rule.path)
            if reason:
                yield at_row(row, f"no path is like {rule.path!r}: {reason}", fix, PATH)
        if rule.condition is not None:
            reason = impossible(rule.condition) or _at_odds(rule, options.bind)
            if reason:
                message = f"its condition can't hold: {reason}"
                yield at_row(row, message, "mend the condition, or remove the rule", WHEN)


def _at_odds(rule: MeshRule, bind: object) -> str:
    """Why a condition and the columns beside it can't both hold."""
    if bind or rule.condition is None:
        return ""
    needed = required(rule.condition)
    methods = needed.get(("request.method", ""))
    if methods and "*" not in rule.methods and not methods & rule.methods:
        return f"it asks for method {' or '.join(sorted(methods))}, the rule for others"
    paths = needed.get(("request.path", ""))
    if paths and rule.effect == "allow" and not any(path_fits(rule.path, path) for path in paths):
        return f"it asks for path {' or '.join(sorted(paths))}, which the rule doesn't match"
    return ""


LINTS = (
    Lint(
        "duplicate-rule",
        Severity.WARNING,
        "a line that says what another line says, in the same or in other words",
        "Whoever changes or revokes one of them will believe that to be enough.",
        "Remove one of the two.",
        "p, *, orders, GET|HEAD, /health, allow\np, *, orders, HEAD|GET, /health, allow\n",
        _duplicates,
    ),
    Lint(
        "shadowed-rule",
        Severity.WARNING,
        "a rule all of whose requests are matched by a wider rule of the same effect",
        "It changes no verdict; revoking it revokes nothing.",
        "Remove it, or narrow the wider rule if that was not meant.",
        "p, td/ns/shop/sa/web, orders, GET, /orders/*, allow\n"
        "p, td/ns/shop/sa/*, orders, GET, /orders/**, allow\n",
        _shadowed,
    ),
    Lint(
        "contradictory-rules",
        Severity.ERROR,
        "an allow and a deny of exactly the same requests",
        "One of the two authors is wrong, and nobody is told: the deny counts.",
        "Decide which of the two is meant, and remove the other.",
        "p, td/ns/shop/sa/web, orders, POST, /orders, allow\n"
        "p, td/ns/shop/sa/web, orders, POST, /orders, deny\n",
        _contradictory,
    ),
    Lint(
        "unreachable-rule",
        Severity.ERROR,
        "a rule that no request can match (error), or an allow all of whose requests a wider deny "
        "denies (warning)",
        "It looks like protection or permission and is neither: a path that is not in normal form, "
        "a principal that no certificate can hold, a condition that contradicts itself.",
        "Write what requests really have, as the message says, or remove the rule.",
        "p, *, orders, GET, /orders//open, allow\n"
        "p, *, orders, GET, /a, allow, request.method == 'POST'\n",
        _unreachable,
    ),
)
