"""`meshwarden policy test` and `bench`: does a policy do what its authors say it does."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.excerpts import complain_of, told_under_lines
from meshwarden.cli.options import ConfigFile, Output, load_folder_settings, load_settings
from meshwarden.cli.output import DENIED, Form, complain, show, show_data, styled

if TYPE_CHECKING:
    from meshwarden.authoring.runner import Coverage, Outcome
    from meshwarden.settings import Settings

__all__ = ["bench", "run_tests"]

_LOOK_S = 0.3

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="Its folder; else as configured."),
]


def run_tests(  # noqa: PLR0913 - each is an option
    folder: Folder = None,
    *,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Least share of rules to be met."),
    ] = 0.0,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML there as well.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what passed too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Run again on each change.")] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Run a policy's tests: FOLDER/tests/**/*.yaml. What a test leaves out has to be denied.

    Exits with 1 when a case fails or fewer rules than the threshold were met.
    """
    settings = _settings(config, folder)
    if watch:
        _watch(settings, threshold, verbose=verbose)
        return
    with told_under_lines(settings.policy.own_folder):
        outcomes, coverage = _run(settings)
    if junit is not None:
        from meshwarden.authoring.junit import write_junit  # noqa: PLC0415

        write_junit(junit, outcomes)
    if output.is_data:
        _show_data(outcomes, coverage, output)
    else:
        _show(outcomes, coverage, verbose=verbose)
    if not _passed(outcomes, coverage, threshold):
        if coverage.percent < threshold:
            complain(f"{coverage.percent:.1f} % of the rules are met, not {threshold:g} %")
        raise typer.Exit(DENIED)


def bench(
    folder: Folder = None,
    *,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="For how long.")] = 2.0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Decide a policy's tests over and over, and tell how long a decision takes here."""
    from meshwarden.authoring.cases import load_cases  # noqa: PLC0415
    from meshwarden.authoring.runner import measure  # noqa: PLC0415
    from meshwarden.cli.asking import load_policy  # noqa: PLC0415

    settings = _settings(config, folder)
    with told_under_lines(settings.policy.own_folder):
        speed = measure(load_cases(settings.policy.path), load_policy(settings), settings, seconds)
    if output.is_data:
        show_data(speed, output)
    else:
        show(
            f"{speed.decisions} decisions: median {speed.median_us:.1f} us, "
            f"99th percentile {speed.p99_us:.1f} us"
        )


def _settings(config: Path | None, folder: Path | None) -> "Settings":
    if folder is None:
        return load_settings(config).settings
    return load_folder_settings(config, "FOLDER", folder)


def _run(settings: "Settings") -> "tuple[list[Outcome], Coverage]":
    # The engine takes a while to import: other commands need not wait for it.
    from meshwarden.authoring.cases import load_cases  # noqa: PLC0415
    from meshwarden.authoring.runner import run_cases  # noqa: PLC0415
    from meshwarden.cli.asking import load_policy  # noqa: PLC0415

    return run_cases(load_cases(settings.policy.path), load_policy(settings), settings)


def _watch(settings: "Settings", threshold: float, *, verbose: bool) -> None:
    import time  # noqa: PLC0415

    from authz.errors import AuthzError  # noqa: PLC0415
    from meshwarden.errors import CaseFileError  # noqa: PLC0415

    seen = None
    while True:
        if (state := _state(settings.policy.path)) == seen:
            time.sleep(_LOOK_S)
            continue
        seen = state
        if sys.stdout.isatty():
            typer.echo("\x1b[2J\x1b[H", nl=False)
        try:
            outcomes, coverage = _run(settings)
        except (AuthzError, CaseFileError) as error:
            complain_of(getattr(error, "faults", [str(error)]), settings.policy.own_folder)
            continue
        _show(outcomes, coverage, verbose=verbose)
        if not _passed(outcomes, coverage, threshold):
            complain("not passed; waiting for a change")


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Tell one state of the folder, policy and tests, from another."""
    found = []
    for path in sorted(folder.rglob("*")):
        # An editor's file may be gone before it is looked at.
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_size))
    return found


def _passed(outcomes: "list[Outcome]", coverage: "Coverage", threshold: float) -> bool:
    return not any(each.problems for each in outcomes) and coverage.percent >= threshold


def _show(outcomes: "list[Outcome]", coverage: "Coverage", *, verbose: bool) -> None:
    failed = [each for each in outcomes if each.problems]
    for each in outcomes:
        if each.problems:
            show(styled(("FAIL ", "bold red"), f"{each.case.where}  {each.case.name}"))
            asked = each.case.asked
            who = asked.principal or asked.user or "nobody"
            show(f"     {who}: {asked.method} {asked.path} on {asked.service or 'no service'}")
            for problem in each.problems:
                show(f"     {problem}")
            show(f"     because {each.reason}{f' ({each.rule})' if each.rule else ''}")
            for miss in each.misses:
                show(f"     nearest: {miss}")
        elif verbose:
            decided = each.rule or "no rule"
            show(styled(("pass ", "green"), f"{each.case.name}  ({each.verdict}, {decided})"))
    for rule in coverage.unmet if coverage.rules else ():
        show(f"unmet {rule.where}  {rule.ptype}, {', '.join(rule.values).rstrip(', ')}")
    met = coverage.rules - len(coverage.unmet)
    show(
        f"{len(outcomes) - len(failed)} passed, {len(failed)} failed; "
        f"{met} of {coverage.rules} rules met ({coverage.percent:.0f} %)"
    )


def _show_data(outcomes: "list[Outcome]", coverage: "Coverage", output: Form) -> None:
    show_data(
        {
            "passed": sum(not each.problems for each in outcomes),
            "failed": sum(bool(each.problems) for each in outcomes),
            "cases": [
                {
                    "name": each.case.name,
                    "where": each.case.where,
                    "verdict": each.verdict,
                    "status": each.status,
                    "rule": each.rule,
                    "reason": each.reason,
                    "problems": each.problems,
                }
                for each in outcomes
            ],
            "coverage": {
                "percent": round(coverage.percent, 2),
                "rules": coverage.rules,
                "unmet": [rule.where for rule in coverage.unmet],
            },
        },
        output,
    )
