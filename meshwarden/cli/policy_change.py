"""One change of a few rows, on its way to the store or into the files of a folder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli import remote
from meshwarden.cli.excerpts import told_under_lines
from meshwarden.cli.options import load_settings
from meshwarden.cli.output import show, show_data
from meshwarden.cli.policy_effects import build, place, plain
from meshwarden.cli.policy_place import Place, folder_policy
from meshwarden.cli.policy_proposal import How, Proposal, ask, compare_texts, propose

if TYPE_CHECKING:
    from authz.authoring.edits import Edit
    from authz.policy.rules import PolicyText, Row

__all__ = ["EditedFolder", "FileOption", "change_policy"]

EditedFolder = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FOLDER", help="Edit this folder's files, not the running service."
    ),
]
FileOption = Annotated[
    str,
    typer.Option(
        "--file",
        metavar="NAME",
        help="With --policy: where a new row goes; else where the most similar one is.",
    ),
]

# The history has a line for it; `policy show` has the whole.
_MESSAGE_CHARACTERS = 200

Change = Callable[["PolicyText"], "Edit"]


def change_policy(
    change: Change, how: How, *, config: Path | None, folder: Path | None, file: str = ""
) -> None:
    """Make a change, in the store or in a folder; its effect is shown first.

    Raises:
        EditError: It can't be made as it was asked for.
        Exit: The policy would have a fault, or it was not wanted.
    """
    if folder is not None:
        if how.message:
            raise typer.BadParameter("--message is for the store's history; a folder has none")
        _change_folder(change, how, folder_policy(config, folder), file)
        return
    if file:
        raise typer.BadParameter("--file goes with --policy: the store keeps rows, not files")
    settings = load_settings(config).settings
    if settings.policy.source == "folder" and remote.chosen() is None:
        from meshwarden.errors import SupervisorError  # noqa: PLC0415

        raise SupervisorError(
            "policy comes from a folder here, which has no revisions: "
            f"edit its files by --policy {settings.policy.path}"
        )
    from authz.authoring.edits import EditError  # noqa: PLC0415
    from authz.policy.mesh import NO_MODEL  # noqa: PLC0415

    made: list[Edit] = []

    def upon(live: "PolicyText") -> "PolicyText | None":
        if live.model_file == NO_MODEL:
            raise EditError(
                "no policy is there yet: apply the folder with your model.conf first, or import a "
                "table with it"
            )
        edit = change(live)
        made[:] = [edit]
        return None if edit.same is not None else edit.text

    proposal = Proposal(
        upon, "command line", told=lambda: _told(made[0]), said=lambda: _said(made[0])
    )
    propose(settings, proposal, replace(how, shows=True, retries=True))


def _change_folder(change: Change, how: How, before: Place, file: str) -> None:
    from meshwarden.authoring.folder_edit import file_for, write_edit  # noqa: PLC0415

    edit = change(before.text)
    if edit.same is not None:
        _tell(edit, how, [], None)
        return
    if edit.added and not file:
        file = file_for(before.text, edit.added[0])
    with told_under_lines(before.folder):
        build(edit.text, before.settings)
    difference = compare_texts(before, edit.text, before.settings)
    ask(difference, how)
    files = [] if how.dry_run else write_edit(Path(before.folder), edit, file)
    _tell(edit, how, files, None if difference is None else plain(difference))


def _tell(edit: "Edit", how: How, files: list[str], difference: dict[str, Any] | None) -> None:
    told = _told(edit)
    if how.output.is_data:
        more = {"dry_run": how.dry_run, "files": files, "difference": difference}
        show_data({"ok": True, "unchanged": edit.same is not None, **more, **told}, how.output)
    elif edit.same is not None:
        show(f"unchanged: {told['same'] or 'the policy'} says so already")
    elif how.dry_run:
        show("nothing was changed")
    else:
        show(f"written: {', '.join(files)}")


def _said(edit: "Edit") -> str:
    from authz.authoring.diff import words  # noqa: PLC0415

    rows = [("add", row) for row in edit.added] + [("remove", row) for row in edit.removed]
    # Lines that say the same go together.
    said = "; ".join(dict.fromkeys(f"{verb} {', '.join(words(row))}" for verb, row in rows))
    return said[:_MESSAGE_CHARACTERS]


def _told(edit: "Edit") -> Mapping[str, Any]:
    return {
        "added": [_plain(row) for row in edit.added],
        "removed": [_plain(row) for row in edit.removed],
        "same": place(edit.same) if edit.same is not None and edit.same.file else "",
    }


def _plain(row: "Row") -> dict[str, Any]:
    return {"ptype": row.ptype, "values": list(row.values), "file": row.file, "line": row.line}
