"""`meshwarden policy diff`: what a new policy lets in that the old one kept out, with the proof."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.excerpts import Lines, Paper, quoted
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show_data
from meshwarden.cli.progress import progress

if TYPE_CHECKING:
    from authz.authoring.diff import Change
    from authz.authoring.effects import Difference, Shown
    from authz.authoring.examples import Example
    from authz.check import ActivePolicy
    from authz.policy.decision import Decision
    from authz.policy.errors import PolicyError
    from authz.policy.rules import PolicyText, Row
    from meshwarden.settings import Settings

__all__ = ["diff"]

_DIFFERS = 1
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def diff(  # noqa: PLR0913, PLR0917 - each is an option
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Folder of the policy before.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Folder of the policy after.")],
    exit_code: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--exit-code", help="Exit with 1 on any difference in effect.")
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0, metavar="NUMBER", help="How long to look for requests; 0 is no end."
        ),
    ] = 7.0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Compare two policies by rule and by effect, with a request that shows each effect.

    What was denied and is now allowed comes first. Each request has been decided under both
    policies, as `meshwarden check` does it. Where none was found, there may be an effect all the
    same.

    Exits with 1 when something that was denied is now allowed, or --seconds were too few to look
    into every change; with --exit-code also for what was allowed and is now denied, for another
    model and for another order where that decides; with 2 on a fault.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from authz.authoring.effects import compare  # noqa: PLC0415
    from meshwarden.follower import engine_options  # noqa: PLC0415

    is_late = _timer(seconds)
    settings = [_settings(config, name, folder) for name, folder in (("OLD", old), ("NEW", new))]
    with progress() as advance:
        advance("reading", 0, 1)
        (before, was), (after, now) = map(_read, settings)
        difference = compare(
            before,
            after,
            engine_options(settings[0]),
            _judge(was, now, settings[0].check.trusted_hops),
            is_late=is_late,
            advance=advance,
        )
    if not output.is_data:
        _print_human(difference, (str(old), str(new)))
    else:
        show_data(_plain(difference), output)
    if difference.widened or difference.unsearched or (exit_code and _differs(difference)):
        raise typer.Exit(_DIFFERS)


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


def _settings(config: Path | None, name: str, folder: Path) -> "Settings":
    given: dict[str, tuple[str, object]] = {
        "policy.path": (name, folder),
        "policy.source": (name, "folder"),
    }
    return load_settings(config, given).settings


def _read(settings: "Settings") -> "tuple[PolicyText, ActivePolicy]":
    """One of the two policies, as text and ready to decide.

    Raises:
        Exit: It has faults; they are shown.
    """
    from authz.policy import errors  # noqa: PLC0415
    from meshwarden import clock, plugins, publication  # noqa: PLC0415
    from meshwarden.follower import build_policy  # noqa: PLC0415

    source = plugins.policy_source(settings)
    try:
        text = source.load()
        found = publication.Publication(
            text, dict(settings.policy.bind), "", clock.now_ns(), source.where
        )
        return text, build_policy(found, settings)
    except errors.PolicyError as error:
        _complain(settings.policy.path, error)
        raise typer.Exit(FAULT) from None


def _complain(folder: Path, error: "PolicyError") -> None:
    """Show every fault of one of the two policies, with its folder."""
    from authz.authoring.findings import Place, columns_of  # noqa: PLC0415

    lines = Lines(folder)
    for fault in error.faults:
        complain(str(dataclasses.replace(fault, file=str(folder / fault.file))))
        line = lines.of(Place(fault.file, fault.line))
        paper = Paper(sys.stderr)
        paper.excerpt(line, *(quoted(line, fault.message) or columns_of(line, -1)))
        paper.print()


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


def _differs(difference: "Difference") -> bool:
    """Whether there is less that is allowed, or may well be."""
    return bool(difference.narrowed or difference.model_changed or difference.reordered)


def _line(row: "Row | None") -> str:
    from authz.authoring.diff import words  # noqa: PLC0415

    return "" if row is None else ", ".join(words(row))


def _where(row: "Row | None") -> str:
    return "" if row is None else f"{row.file}:{row.line}"


def _plain(difference: "Difference") -> dict[str, Any]:
    """The whole comparison as programs get it."""
    return {
        "changes": [_plain_change(each) for each in difference.changes],
        "widened": [_plain_shown(each) for each in difference.widened],
        "narrowed": [_plain_shown(each) for each in difference.narrowed],
        "no_effect_found": [_plain_change(each) for each in difference.silent],
        "not_searched": [_plain_change(each) for each in difference.unsearched],
        "model_changed": difference.model_changed,
        "reordered": difference.reordered,
    }


def _plain_change(change: "Change") -> dict[str, Any]:
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
        "change": _plain_change(shown.change),
        "request": example,
        "flags": shown.example.flags,
        "old": verdict(shown.old),
        "new": verdict(shown.new),
    }


def _print_human(difference: "Difference", folders: tuple[str, str]) -> None:
    paper = Paper()
    for title, colour, every in (
        ("denied before, ALLOWED now", "red", difference.widened),
        ("allowed before, DENIED now", "yellow", difference.narrowed),
    ):
        if every:
            paper.line(paper.styled(f"{title}: {len(every)}", colour))
            for each in every:
                _print_change(paper, each.change)
                _print_request(paper, each, folders)
            paper.line("")
    for title, changes in (
        ("no effect found", difference.silent),
        ("no time to look into (--seconds 0 takes it)", difference.unsearched),
    ):
        if changes:
            paper.line(paper.bold(f"{title}: {len(changes)}"))
            for change in changes:
                _print_change(paper, change)
            paper.line("")
    if difference.model_changed:
        paper.line("the models differ: every rule was looked at")
    if difference.reordered:
        paper.line("rules stand in another order, and the order decides")
    paper.line(_summary(difference.changes))
    paper.print()


def _print_change(paper: Paper, change: "Change") -> None:
    sign, colour = _SIGNS[change.kind.value]
    paper.wrapped(f"{sign} {_line(change.row)}", "  ", first=(sign, colour))
    if change.old is not None and change.new is not None:
        paper.wrapped(f"was {_line(change.old)}", "    ")
        paper.line("    " + paper.faint(f"{_where(change.old)} -> {_where(change.new)}"))
    else:
        paper.line("    " + paper.faint(_where(change.row)))


def _print_request(paper: Paper, shown: "Shown", folders: tuple[str, str]) -> None:
    paper.wrapped(shown.example.said, "      ")
    for name, decision in (("before", shown.old), ("now", shown.new)):
        word = "allowed" if decision.allowed else "denied"
        if decision.rule:
            told = f"{name}: {word} by {decision.rule.where}"
        else:
            told = f"{name}: {word}, no rule {'denies' if decision.allowed else 'allows'} it"
        paper.wrapped(told, "      ")
    if shown.example.flags:
        command = f"meshwarden check --policy {folders[1]} {shown.example.flags}"
        # Not wrapped: it is there to be copied.
        paper.line("      " + paper.faint(command))


def _summary(changes: "Sequence[Change]") -> str:
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
