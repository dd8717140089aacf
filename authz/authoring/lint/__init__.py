"""Lints, one file a family; a new file in this folder is a new family, a new `Lint` a new lint.

Each module offers `LINTS`. What they look at is a `Subject`; the engine's own checks come first, so
that lint and the service never disagree on what can be served.
"""

import importlib
import pkgutil
from collections.abc import Callable, Collection
from functools import cache

from authz.authoring.findings import Finding, Severity
from authz.authoring.lint.spec import Lint, Options, Problem, Subject
from authz.policy.rules import PolicyText

__all__ = ["Lint", "Options", "every_lint", "lint"]

Advance = Callable[[str, int, int], None]


@cache
def every_lint() -> tuple[Lint, ...]:
    """Every lint there is, by family."""
    found: list[Lint] = []
    for module in pkgutil.iter_modules(__path__):
        if module.name != "spec":
            found += importlib.import_module(f"{__name__}.{module.name}").LINTS
    return tuple(found)


def lint(
    text: PolicyText,
    options: Options,
    ignore: Collection[str] = (),
    advance: Advance = lambda _what, _done, _all: None,
) -> list[Finding]:
    """Find what should be mended in a policy.

    Args:
        text: The policy; it may have faults.
        options: See Options.
        ignore: Ids of lints to leave out.
        advance: Told now and then how far it is: the lint, how many are done, of how many.

    Returns:
        Findings by file, line and id.

    Cost: about linear in rules; 10,000 in a second.
    """
    subject = Subject(text, options)
    found: list[Finding] = []
    chosen = [each for each in every_lint() if each.id not in ignore]
    for number, each in enumerate(chosen):
        advance(each.id, number, len(chosen))
        if subject.language is not None or each.id == "invalid-policy":
            found += [_finding(each, problem) for problem in each.find(subject)]
    advance("", len(chosen), len(chosen))
    return sorted(found, key=lambda each: (each.place.file, each.place.line, each.id, each.message))


def _finding(each: Lint, problem: Problem) -> Finding:
    row = problem.row
    text = "" if row is None else ", ".join((row.ptype, *row.values)).removesuffix(", ")
    severity: Severity = problem.severity or each.severity
    return Finding(
        each.id,
        severity,
        problem.message,
        problem.fix,
        problem.place,
        problem.field,
        text,
        problem.other,
    )
