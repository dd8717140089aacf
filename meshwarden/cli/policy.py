"""`meshwarden policy`: is it fit to be served, before it is."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import (
    policy_apply,
    policy_cases,
    policy_diff,
    policy_history,
    policy_lint,
    policy_questions,
    policy_rows,
    policy_tables,
)
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data

if TYPE_CHECKING:
    from authz.policy.errors import Fault

__all__ = ["app"]

# A line of policy longer than this is cut around what is wrong with it.
_SHOWN_CHARACTERS = 120
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")

app = typer.Typer(name="policy", help="Check a policy and look into it.", no_args_is_help=True)

app.command("test")(policy_cases.run_tests)
app.command("bench")(policy_cases.bench)
app.command("lint")(policy_lint.lint)
app.command("diff")(policy_diff.diff)
app.command("plan")(policy_questions.plan)
app.command("who-can")(policy_questions.who_can)
app.command("what-can")(policy_questions.what_can)
app.command("get")(policy_rows.get)
app.command("list")(policy_rows.list_rules)
app.command("apply")(policy_apply.apply)
app.command("rollback")(policy_apply.rollback)
app.command("import")(policy_tables.import_table)
app.command("export")(policy_tables.export)
app.command("history")(policy_history.history)
app.command("show")(policy_history.show_revision)
app.command("watch")(policy_history.watch)
app.command("audit")(policy_history.audit)

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="Its folder; else as configured."),
]


@app.command()
def check(folder: Folder = None, config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Report every fault of a policy with its file and line; the server uses the same code.

    Exits with 2 when there is one.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from authz.errors import AuthzError  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from meshwarden.cli.asking import load_policy  # noqa: PLC0415

    settings = load_settings(config, {"policy.path": ("FOLDER", folder)}).settings
    try:
        policy = load_policy(settings)
    except PolicyError as error:
        if output.is_data:
            show_data({"ok": False, "faults": [asdict(fault) for fault in error.faults]}, output)
        for fault in error.faults:
            complain(str(fault))
            complain(_excerpt(settings.policy.path, fault), prefix="")
        raise typer.Exit(FAULT) from None
    except AuthzError as error:
        if output.is_data:
            faults = [{"file": "", "line": 0, "message": line} for line in str(error).splitlines()]
            show_data({"ok": False, "faults": faults}, output)
        complain(str(error))
        raise typer.Exit(FAULT) from None
    snapshot = policy.snapshot
    if output.is_data:
        known = {"digest": snapshot.digest, "rules": snapshot.rule_count}
        show_data({"ok": True, **known, "faults": []}, output)
    else:
        show(f"{settings.policy.path}: no fault, {snapshot.rule_count} rules")
        show(f"policy {snapshot.digest}")


def _excerpt(folder: Path, fault: "Fault") -> str:
    """Show the line of a fault with a caret under what the message quotes of it; "" without one."""
    if not fault.line:
        return ""
    try:
        # As the line was counted: a form feed within a value ends no line.
        text = (folder / fault.file).read_text(encoding="utf-8", errors="replace")
        line = text.removeprefix("\ufeff").split("\n")[fault.line - 1].rstrip()
    except (OSError, IndexError):
        return ""
    words = (single or double for single, double in _QUOTED.findall(fault.message))
    word = next((word for word in words if word in line), "")
    at = line.index(word) if word else len(line) - len(line.lstrip())
    start = max(0, at - _SHOWN_CHARACTERS // 2)
    shown = "".join(each if each.isprintable() else " " for each in line[start:])
    return f"    {shown[:_SHOWN_CHARACTERS]}\n    {' ' * (at - start)}{'^' * max(1, len(word))}"
