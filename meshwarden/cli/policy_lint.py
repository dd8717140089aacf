"""`meshwarden policy lint`: what should be mended in a policy that the service may well take."""

import dataclasses
import enum
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.excerpts import Lines, Paper
from meshwarden.cli.options import ConfigFile, load_settings
from meshwarden.cli.output import Form, show_data
from meshwarden.cli.progress import progress
from meshwarden.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.authoring.findings import Finding, Place
    from authz.authoring.lint import Options
    from authz.policy.rules import PolicyText
    from meshwarden.settings import Settings

__all__ = ["lint"]

_FOUND = 1
_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}


class LintForm(enum.StrEnum):
    """What -o takes."""

    HUMAN = "human"
    JSON = "json"
    YAML = "yaml"
    SARIF = "sarif"


class Level(enum.StrEnum):
    """What --fail-on takes."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def lint(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", show_default=False, help="Its folder; else as configured."
        ),
    ] = None,
    fail_on: Annotated[
        Level, typer.Option("--fail-on", help="Exit with 1 for this severity, and for worse.")
    ] = Level.ERROR,
    ignore: Annotated[
        list[str],
        typer.Option("--ignore", metavar="ID", help="Leave a lint out; may be repeated."),
    ] = [],  # noqa: B006 - never changed
    trust_domain: Annotated[
        list[str],
        typer.Option(
            "--trust-domain", metavar="NAME", help="Where callers come from; may be repeated."
        ),
    ] = [],  # noqa: B006
    wide: Annotated[
        int,
        typer.Option(
            "--wide",
            min=1,
            max=4,
            metavar="NUMBER",
            help="Find rules that leave so many of caller, service, method and path open.",
        ),
    ] = 3,
    config: ConfigFile = None,
    output: Annotated[
        LintForm, typer.Option("--output", "-o", help="For people, programs, or code review.")
    ] = LintForm.HUMAN,
) -> None:
    """Find rules that are duplicate, in vain, too wide or misspelt; docs/lint.md has each lint.

    Exits with 1 when something as bad as --fail-on was found, with 2 on a fault.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from authz.authoring.findings import Severity  # noqa: PLC0415
    from authz.authoring.lint import lint as find  # noqa: PLC0415

    given: dict[str, tuple[str, object]] = {"policy.path": ("FOLDER", folder)}
    if folder is not None:
        given["policy.source"] = ("FOLDER", "folder")
    settings = load_settings(config, given).settings
    _check_ids(ignore)
    text, findings = _load(settings)
    if text is not None:
        options = _options(settings, trust_domain, wide)
        with progress() as advance:
            findings = find(text, options, frozenset(ignore), advance)
    # A bundle's lines are not those of whatever folder the settings name besides.
    lines = Lines(settings.policy.own_folder or Path(os.devnull))
    findings = [lines.located(each) for each in findings]
    rules = 0 if text is None else sum(row.ptype[0] == "p" for row in text.rows)
    bad = [each for each in findings if each.severity.weight >= Severity(fail_on).weight]
    _print(output, findings, lines, {"ok": not bad, "rules": rules})
    if bad:
        raise typer.Exit(_FOUND)


def _check_ids(ids: list[str]) -> None:
    import difflib  # noqa: PLC0415 - only here

    from authz.authoring.lint import every_lint  # noqa: PLC0415

    known = [each.id for each in every_lint()]
    for name in ids:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise typer.BadParameter(f"--ignore {name}: no such lint; did you mean {near[0]}?")


def _load(settings: "Settings") -> "tuple[PolicyText | None, list[Finding]]":
    """The policy's text, or what keeps it from being read as findings."""
    from authz.authoring.findings import Finding, Place, Severity  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from meshwarden import plugins  # noqa: PLC0415
    from meshwarden.cli.policies import live_policy  # noqa: PLC0415
    from meshwarden.settings import STORE  # noqa: PLC0415

    if settings.policy.source == STORE:
        return live_policy(settings).text, []
    try:
        return plugins.policy_source(settings).load(), []
    except PolicyError as error:
        return None, [
            Finding(
                "invalid-policy",
                Severity.ERROR,
                fault.message,
                "mend it: nothing else is looked at before",
                Place(fault.file, fault.line),
            )
            for fault in error.faults
        ]


def _options(settings: "Settings", trust_domains: list[str], wide: int) -> "Options":
    from authz.authoring.lint import Options  # noqa: PLC0415
    from ca import spiffe_id  # noqa: PLC0415
    from meshwarden.follower import engine_options  # noqa: PLC0415

    return Options(
        engine=engine_options(settings),
        bind=settings.policy.bind,
        trust_domains=frozenset(name.removeprefix("spiffe://") for name in trust_domains),
        wide=wide,
        check_principal=lambda principal: spiffe_id.parse(f"spiffe://{principal}"),
    )


def _print(
    form: LintForm, findings: "Sequence[Finding]", lines: Lines, known: dict[str, Any]
) -> None:
    counts = Counter(each.severity.value for each in findings)
    if form is LintForm.SARIF:
        _print_sarif(findings, lines)
    elif form is LintForm.HUMAN:
        _print_human(findings, lines, known["rules"], counts)
    else:
        found = [_plain(each) for each in findings]
        value = {**known, "counts": dict(counts), "findings": found}
        show_data(value, Form(form.value))


def _plain(finding: "Finding") -> dict[str, Any]:
    """A finding as programs get it."""

    def place(where: "Place | None") -> dict[str, Any] | None:
        return None if where is None else dataclasses.asdict(where)

    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "message": finding.message,
        "fix": finding.fix,
        **dataclasses.asdict(finding.place),
        "text": finding.text,
        "other": place(finding.other),
    }


def _print_sarif(findings: "Sequence[Finding]", lines: Lines) -> None:
    from importlib.metadata import version  # noqa: PLC0415

    from authz.authoring.lint import every_lint  # noqa: PLC0415
    from authz.authoring.sarif import sarif  # noqa: PLC0415

    found = sarif(findings, every_lint(), version("meshwarden"), lines.uri)
    show_data(found, Form.JSON)


def _print_human(
    findings: "Sequence[Finding]", lines: Lines, rules: int, counts: Counter[str]
) -> None:
    paper = Paper()
    for each in findings:
        where = f"{each.place.file}:{each.place.line}" if each.place.line else each.place.file
        severity = each.severity.value
        paper.line(paper.styled(severity, _STYLES[severity]), paper.bold(each.id), plain(where))
        paper.excerpt(lines.of(each.place), each.place.column, each.place.end_column)
        paper.wrapped(each.message, "    ")
        paper.wrapped(f"fix: {each.fix}", "    ")
        paper.line("")
    told = ", ".join(
        f"{counts[name]} {name}{'s' * (counts[name] != 1)}" for name in _STYLES if counts[name]
    )
    paper.line(f"{rules} rules: {told or 'nothing found'}")
    paper.print()
