"""A plan in words: which terms of a matcher are looked up, which are tried rule by rule."""

from dataclasses import dataclass

from authz.policy.engine import Engine
from authz.policy.language import Terms
from authz.policy.probes import Equal, Link, Literal, Matching, Probe
from authz.policy.words import written

__all__ = ["MatcherPlan", "TermPlan", "report"]


@dataclass(frozen=True, slots=True)
class TermPlan:
    """What is done with one term.

    Attributes:
        text: The term.
        how: "guard" (asked once a request), "indexed" or "scanned" (tried on what is left).
        by: What it is indexed by, such as "hash" or "roles"; "" if it is not.
    """

    text: str
    how: str
    by: str = ""


@dataclass(frozen=True, slots=True)
class MatcherPlan:
    """How one matcher is looked up.

    Attributes:
        matcher: Its key in the model.
        branches: For each way to be true, what is done with its terms.
        warnings: What will cost more as rules grow, one sentence each.
    """

    matcher: str
    branches: tuple[tuple[TermPlan, ...], ...]
    warnings: tuple[str, ...]


def report(engine: Engine, terms: Terms) -> MatcherPlan:
    """Put the plan of one matcher into words."""
    program = engine.program(terms)
    branches: list[tuple[TermPlan, ...]] = []
    warnings: list[str] = []
    for branch in program.plan.branches:
        told = [TermPlan(written(guard), "guard") for guard in branch.guards]
        for number in branch.probes:
            probe = program.plan.probes[number]
            told.append(TermPlan(written(probe.term), "indexed", _by(probe)))
            warnings.extend(_slow(probe))
        told.extend([TermPlan(written(term), "scanned") for term in branch.rest])
        if not branch.probes and not branch.rest:
            warnings.append(f"{_shown(told)} alone lets every rule match: the first one decides")
        elif not branch.probes:
            warnings.append(f"full scan: no term of {_shown(told)} can be looked up")
        branches.append(tuple(told))
    return MatcherPlan(terms.matcher, tuple(branches), tuple(dict.fromkeys(warnings)))


def _shown(told: list[TermPlan]) -> str:
    return " && ".join([each.text for each in told])


def _by(probe: Probe) -> str:
    found: list[str] = []
    for way in probe.ways:
        match way:
            case Equal() | Literal():
                found.append("hash")
            case Link():
                found.append("roles")
            case Matching():
                found.append(way.index.kind)
    return ", ".join(dict.fromkeys(found))


def _slow(probe: Probe) -> list[str]:
    """What makes an index no help."""
    return [
        f"{written(probe.term)}: {way.index.tried} patterns begin with nothing fixed"
        " and are tried one by one"
        for way in probe.ways
        if isinstance(way, Matching) and way.index.tried > 1
    ]
