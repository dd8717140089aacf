"""`meshwarden policy check`: every fault of a policy, each with its line."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.excerpts import complain_of
from meshwarden.cli.options import ConfigFile, Output, load_folder_settings, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data

if TYPE_CHECKING:
    from authz.policy.snapshot import Snapshot

__all__ = ["check"]

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="Its folder; else as configured."),
]


def check(folder: Folder = None, config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Report every fault of a policy with its file and line; the server uses the same code.

    Exits with 0 when there is none, with 2 when there is one.
    """
    # The engine takes a while to import: other commands need not wait for it.
    from authz.errors import AuthzError  # noqa: PLC0415
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from meshwarden.cli.asking import load_policy  # noqa: PLC0415
    from meshwarden.cli.policies import live_policy  # noqa: PLC0415
    from meshwarden.settings import STORE  # noqa: PLC0415

    if folder is None:
        settings = load_settings(config).settings
    else:
        settings = load_folder_settings(config, "FOLDER", folder)
    if settings.policy.source == STORE:
        # It was checked when it became a revision; here it is checked by what is installed here.
        chosen = live_policy(settings)
        _tell(chosen.policy.snapshot, chosen.where, output)
        return
    try:
        policy = load_policy(settings)
    except PolicyError as error:
        if output.is_data:
            show_data({"ok": False, "faults": [asdict(fault) for fault in error.faults]}, output)
        complain_of(error, settings.policy.own_folder)
        raise typer.Exit(FAULT) from None
    except AuthzError as error:
        if output.is_data:
            faults = [{"file": "", "line": 0, "message": line} for line in str(error).splitlines()]
            show_data({"ok": False, "faults": faults}, output)
        complain(str(error))
        raise typer.Exit(FAULT) from None
    where = settings.policy.own_folder or f"the {settings.policy.source}"
    _tell(policy.snapshot, str(where), output)


def _tell(snapshot: "Snapshot", where: str, output: Form) -> None:
    if output.is_data:
        known = {"digest": snapshot.digest, "rules": snapshot.rule_count}
        show_data({"ok": True, **known, "faults": []}, output)
    else:
        show(f"{where}: no fault, {snapshot.rule_count} rules")
        show(f"policy {snapshot.digest}")
