"""Roles that go in a circle, that nobody has, that no rule asks for."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from authz.authoring.findings import Severity
from authz.authoring.lint.spec import Lint, Problem, Subject, at_row
from authz.policy.rules import Row
from authz.policy.syntax import Call, Field, walk

__all__ = ["LINTS"]


def _cycles(subject: Subject) -> Iterator[Problem]:
    by_kind: dict[tuple[str, str], list[Row]] = {}
    for row in subject.links:
        domain = row.values[2] if _domains(subject, row.ptype) else ""
        by_kind.setdefault((row.ptype, domain), []).append(row)
    for rows in by_kind.values():
        links = {(row.values[0], row.values[1]): row for row in reversed(rows)}
        for circle in _circles(list(links)):
            closing = links[circle[-1], circle[0]]
            message = f"roles go in a circle: {' -> '.join((*circle, circle[0]))}"
            yield at_row(closing, message, "remove one of these links", 1)


def _domains(subject: Subject, ptype: str) -> int:
    return 0 if subject.language is None else subject.language.model.roles[ptype].domains


def _circles(links: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    """One circle for each knot of names, as a walk without its last step back."""
    above: dict[str, list[str]] = {}
    for member, role in links:
        above.setdefault(member, []).append(role)
    done: set[str] = set()
    for start, first in above.items():
        if start in done:
            continue
        path: list[str] = [start]
        on_path = {start: 0}
        waiting: list[Iterator[str]] = [iter(first)]
        found = False
        while waiting:
            name = next(waiting[-1], None)
            if name is None:
                waiting.pop()
                left = path.pop()
                del on_path[left]
                done.add(left)
            elif name in on_path:
                if not found:
                    found = True
                    yield path[on_path[name] :]
            elif name not in done and name in above:
                on_path[name] = len(path)
                path.append(name)
                waiting.append(iter(above[name]))


def _undefined(subject: Subject) -> Iterator[Problem]:
    if not subject.is_mesh:
        return
    given = subject.callers.members
    for row in subject.rules:
        role = row.values[0]
        if role.startswith("role:") and role not in given:
            near = difflib.get_close_matches(role, given, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"give it: g, MEMBER, {role}"
            yield at_row(row, f"no line gives anybody {role!r}", fix, 0)


def _empty(subject: Subject) -> Iterator[Problem]:
    if not subject.is_mesh:
        return
    told: set[str] = set()
    for row in subject.rules:
        role = row.values[0]
        members = subject.callers.members.get(role)
        if members and role not in told and subject.callers.of(role).is_empty:
            told.add(role)
            message = f"nobody has {role!r}: only roles are given it that nobody has"
            yield at_row(row, message, f"give {members[0]!r} or {role!r} to somebody", 0)


def _unused(subject: Subject) -> Iterator[Problem]:
    asked = _asked(subject)
    for ptype, names in asked.items():
        rows = [row for row in subject.links if row.ptype == ptype]
        used = _reaching(names, rows)
        given = {row.values[1] for row in rows}
        told: set[str] = set()
        for row in rows:
            role = row.values[1]
            if role not in used and role not in told:
                told.add(role)
                near = difflib.get_close_matches(role, names - given, n=1)
                fix = "remove the lines that give it, or write the rule that asks for it"
                if near:
                    fix = f"did you mean {near[0]!r}?"
                yield at_row(row, f"no rule asks for {role!r}", fix, 1)


def _reaching(names: set[str], rows: Sequence[Row]) -> set[str]:
    """The names, and every role that is given one of them, directly or not."""
    members: dict[str, list[str]] = {}
    for row in rows:
        members.setdefault(row.values[1], []).append(row.values[0])
    used = set(names)
    waiting = list(names)
    while waiting:
        for member in members.get(waiting.pop(), ()):
            if member not in used:
                used.add(member)
                waiting.append(member)
    return used


def _asked(subject: Subject) -> Mapping[str, set[str]]:
    """For each role definition that a matcher asks about a field of the rule, that field's values.

    Left out where names match by pattern, or stand in a matcher itself.
    """
    asked: dict[str, set[str]] = {}
    odd: set[str] = set()
    if subject.language is None:
        return asked
    roles = subject.language.model.roles
    patterned = set() if subject.is_mesh else set(subject.options.engine.role_matching)
    for policy, node in subject.matchers():
        for each in walk(node):
            if not isinstance(each, Call) or each.name not in roles:
                continue
            role = each.arguments[1]
            if isinstance(role, Field) and role.of_rule:
                values = {row.values[role.index] for row in subject.rules if row.ptype == policy}
                asked.setdefault(each.name, set()).update(values)
            else:
                odd.add(each.name)
        if any(isinstance(each, Call) and each.name == "eval" for each in walk(node)):
            odd |= roles.keys()
    return {name: values for name, values in asked.items() if name not in odd | patterned}


def _too_deep(subject: Subject) -> Iterator[Problem]:
    if not subject.is_mesh:
        return
    callers = subject.callers
    told: set[str] = set()
    for row in subject.rules:
        role = row.values[0]
        if not role.startswith("role:") or role in told:
            continue
        told.add(role)
        held = callers.of(role)
        near = {*held.names, *(text for text, _ in held.patterns)}
        for name in _reaching({role}, subject.links):
            if not name.startswith("role:") and name not in near:
                message = f"{name!r} has {role!r} only over more than nine links, so it hasn't"
                yield at_row(row, message, "give the role by fewer steps", 0)
                break


_CIRCLE = "p, role:a, orders, GET, /a, allow\ng, role:a, role:b\ng, role:b, role:a\n"

LINTS = (
    Lint(
        "role-cycle",
        Severity.ERROR,
        "roles that are given to each other in a circle",
        "Everybody who has one of them has all of them, which one name would say; models with "
        "subject priorities refuse it.",
        "Remove one of the links.",
        _CIRCLE + "g, td/ns/shop/sa/web, role:a\n",
        _cycles,
    ),
    Lint(
        "undefined-role",
        Severity.ERROR,
        "a rule for a role that no line gives to anybody",
        "The rule matches nobody, most often since a name is misspelt; the service refuses such a "
        "policy.",
        "Correct the name, or give the role.",
        "p, role:shopp, orders, GET, /a, allow\ng, td/ns/shop/sa/web, role:shop\n",
        _undefined,
    ),
    Lint(
        "empty-role",
        Severity.WARNING,
        "a rule for a role that only roles are given which nobody has",
        "The rule matches nobody.",
        "Give one of the roles to somebody, or remove the rule.",
        "p, role:b, orders, GET, /a, allow\ng, role:a, role:b\n",
        _empty,
    ),
    Lint(
        "unused-role",
        Severity.WARNING,
        "a role that is given to somebody, but no rule asks for it",
        "It gives nothing, though its holders may believe so; or the rule misspells it.",
        "Remove the lines that give it, or write the rule that asks for it.",
        "p, role:shop, orders, GET, /a, allow\n"
        "g, td/ns/shop/sa/web, role:shop\ng, td/ns/shop/sa/job, role:jobs\n",
        _unused,
    ),
    Lint(
        "role-too-deep",
        Severity.WARNING,
        "a role that reaches somebody over more than nine links",
        "Roles are followed over nine links, as Casbin does; whoever is farther away hasn't it.",
        "Give the role by fewer steps.",
        "p, role:r10, orders, GET, /a, allow\ng, td/ns/shop/sa/web, role:r0\n"
        + "".join(f"g, role:r{at}, role:r{at + 1}\n" for at in range(10)),
        _too_deep,
    ),
)
