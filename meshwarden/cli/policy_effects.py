"""What one policy lets in that another keeps out: worked out, and shown before it is done."""

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from meshwarden.cli.excerpts import Paper
from meshwarden.cli.progress import progress

if TYPE_CHECKING:
    from authz.authoring.diff import Change
    from authz.authoring.effects import Difference, Shown
    from authz.authoring.examples import Example
    from authz.check import ActivePolicy
    from authz.policy.decision import Decision
    from authz.policy.rules import PolicyText, Row, Rule
    from meshwarden.settings import Settings

__all__ = [
    "SECONDS",
    "build",
    "compared",
    "differs",
    "place",
    "plain",
    "plain_change",
    "print_change",
    "print_difference",
    "summary",
]

SECONDS = 7.0
"""How long is looked for requests unless told otherwise."""

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def build(text: "PolicyText", settings: "Settings") -> "ActivePolicy":
    """Make a policy ready to decide.

    Raises:
        PolicyError: It has faults.
        FunctionModuleError: It needs functions that aren't installed here.
    """
    from meshwarden.follower import build_text  # noqa: PLC0415

    return build_text(text, settings.policy.bind, settings)


def compared(
    read: "Callable[[], tuple[tuple[PolicyText, ActivePolicy], tuple[PolicyText, ActivePolicy]]]",
    settings: "Settings",
    seconds: float = SECONDS,
) -> "Difference":
    """Compare two policies by rule and by effect, and show how far it is.

    Args:
        read: Gives both, the one before and the one after.
        settings: How policy is built.
        seconds: How long to look for requests; 0 is no end.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from authz.authoring.effects import compare  # noqa: PLC0415
    from meshwarden.follower import engine_options  # noqa: PLC0415

    is_late = _timer(seconds)
    with progress() as advance:
        advance("reading", 0, 1)
        (before, was), (after, now) = read()
        return compare(
            before,
            after,
            engine_options(settings),
            _judge(was, now, settings.check.trusted_hops),
            is_late=is_late,
            advance=advance,
        )


def _timer(seconds: float) -> Callable[[], bool]:
    from meshwarden import clock  # noqa: PLC0415

    end_s = clock.monotonic_s() + seconds
    least_s = seconds / 2
    first_s = 0.0

    def is_late() -> bool:
        nonlocal end_s, first_s
        now_s = clock.monotonic_s()
        if not first_s:
            # However long it took to read two policies: some time is left for what is asked here.
            first_s = now_s
            end_s = max(end_s, first_s + least_s)
        return bool(seconds) and now_s > end_s

    return is_late


def _judge(
    was: "ActivePolicy", now: "ActivePolicy", trusted_hops: int | None
) -> "Callable[[Example], tuple[Decision, Decision] | None]":
    """What decides an example under both: the request that `meshwarden check` would make of it."""
    from authz.attributes import Attributes  # noqa: PLC0415
    from meshwarden import clock  # noqa: PLC0415
    from meshwarden.cli import asking  # noqa: PLC0415
    from meshwarden.errors import NoVerdictError  # noqa: PLC0415

    now_ns = clock.now_ns()

    def judge(example: "Example") -> "tuple[Decision, Decision] | None":
        if example.values:
            # A model of one's own is asked in its own fields, whatever they are bound to.
            values = tuple(example.values.values())
            fields = was.snapshot.request_fields, now.snapshot.request_fields
            if any(each != tuple(example.values) for each in fields):
                return None
            return was.snapshot.decide(values), now.snapshot.decide(values)
        try:
            request = asking.request_from_flags(_asked(example))
        except NoVerdictError:
            return None
        attributes = Attributes(request, now_ns, trusted_hops)
        old, new = (
            policy.snapshot.decide(policy.binding.request(attributes)) for policy in (was, now)
        )
        return old, new

    return judge


def _asked(example: "Example") -> Any:
    from meshwarden.cli.asking import Asked  # noqa: PLC0415

    return Asked(
        example.principal, example.user, example.service, example.method, example.path,
        example.host, example.source_ip, example.headers, example.claims, example.context,
    )  # fmt: skip


def differs(difference: "Difference") -> bool:
    """Whether there is less that is allowed, or may well be."""
    return bool(difference.narrowed or difference.model_changed or difference.reordered)


def _line(row: "Row | None") -> str:
    from authz.authoring.diff import words  # noqa: PLC0415

    return "" if row is None else ", ".join(words(row))


def place(row: "Row | None") -> str:
    """Where a row was written."""
    if row is None:
        return ""
    return f"{row.file}:{row.line}" if row.file else "api"


def plain(difference: "Difference") -> dict[str, Any]:
    """The whole comparison as programs get it."""
    return {
        "changes": [plain_change(each) for each in difference.changes],
        "widened": [_plain_shown(each) for each in difference.widened],
        "narrowed": [_plain_shown(each) for each in difference.narrowed],
        "no_effect_found": [plain_change(each) for each in difference.silent],
        "not_searched": [plain_change(each) for each in difference.unsearched],
        "model_changed": difference.model_changed,
        "reordered": difference.reordered,
    }


def plain_change(change: "Change") -> dict[str, Any]:
    """One change as programs get it."""

    def line(row: "Row | None") -> dict[str, Any] | None:
        if row is None:
            return None
        return {"file": row.file, "line": row.line, "text": _line(row)}

    return {"kind": change.kind.value, "old": line(change.old), "new": line(change.new)}


def _plain_shown(shown: "Shown") -> dict[str, Any]:
    def verdict(decision: "Decision") -> dict[str, Any]:
        rule = decision.rule.where if decision.rule else ""
        return {"allowed": decision.allowed, "rule": rule}

    example = {name: value for name, value in dataclasses.asdict(shown.example).items() if value}
    if shown.example.values:
        example = dict(shown.example.values)
    return {
        "change": plain_change(shown.change),
        "request": example,
        "flags": shown.example.flags,
        "old": verdict(shown.old),
        "new": verdict(shown.new),
    }


def print_difference(difference: "Difference", folder: str = "", most: int = 0) -> None:
    """Print a comparison for people: what is newly allowed first.

    Args:
        difference: The comparison.
        folder: Where the policy after is, for a command that asks it; "" where it is in no folder.
        most: How many changes of a kind to show; 0 is all.
    """
    paper = Paper()
    for title, colour, every in (
        ("denied before, ALLOWED now", "red", difference.widened),
        ("allowed before, DENIED now", "yellow", difference.narrowed),
    ):
        if every:
            paper.line(paper.styled(f"{title}: {len(every)}", colour))
            for each in every[: most or None]:
                print_change(paper, each.change)
                _print_request(paper, each, folder)
            _print_rest(paper, len(every), most)
            paper.line("")
    for title, changes in (
        ("no effect found", difference.silent),
        ("no time to look into (--seconds 0 takes it)", difference.unsearched),
    ):
        if changes:
            paper.line(paper.bold(f"{title}: {len(changes)}"))
            for change in changes[: most or None]:
                print_change(paper, change)
            _print_rest(paper, len(changes), most)
            paper.line("")
    if difference.model_changed:
        paper.line("the models differ: every rule was looked at")
    if difference.reordered:
        paper.line("rules stand in another order, and the order decides")
    paper.line(summary(difference.changes))
    paper.print()


def _print_rest(paper: Paper, count: int, most: int) -> None:
    if most and count > most:
        paper.line(paper.faint(f"  ... and {count - most} more; 'meshwarden policy diff' has all"))


def print_change(paper: Paper, change: "Change") -> None:
    """Print one change with its place."""
    sign, colour = _SIGNS[change.kind.value]
    paper.wrapped(f"{sign} {_line(change.row)}", "  ", first=(sign, colour))
    if change.old is not None and change.new is not None:
        paper.wrapped(f"was {_line(change.old)}", "    ")
        paper.line("    " + paper.faint(f"{place(change.old)} -> {place(change.new)}"))
    elif change.row.file:
        paper.line("    " + paper.faint(place(change.row)))


def _print_request(paper: Paper, shown: "Shown", folder: str) -> None:
    paper.wrapped(shown.example.said, "      ")
    for name, decision in (("before", shown.old), ("now", shown.new)):
        word = "allowed" if decision.allowed else "denied"
        if decision.rule:
            told = f"{name}: {word} by {_by(decision.rule, shown.change)}"
        else:
            told = f"{name}: {word}, no rule {'denies' if decision.allowed else 'allows'} it"
        paper.wrapped(told, "      ")
    if folder and shown.example.flags:
        command = f"meshwarden check --policy {shlex.quote(folder)} {shown.example.flags}"
        # Not wrapped: it is there to be copied.
        paper.line("      " + paper.faint(command))


def _by(rule: "Rule", change: "Change") -> str:
    if rule.file:
        return rule.where
    # It was made by a command and stands in no file: what it says has to do.
    said = ", ".join((rule.ptype, *rule.values)).removesuffix(", ")
    return "this rule" if said == _line(change.row) else said


def summary(changes: "Sequence[Change]") -> str:
    """How many lines of which kind differ, in one line."""

    def count(kind: str, *, rules: bool) -> int:
        return sum(
            each.kind.value == kind and (each.row.ptype[0] == "p") is rules for each in changes
        )

    told = []
    for word, rules in (("rule", True), ("role", False)):
        for kind in _SIGNS:
            number = count(kind, rules=rules)
            if number:
                told.append(f"{number} {word}{'s' * (number != 1)} {kind}")
    return ", ".join(told) or "no rule differs"
