"""`meshwarden policy apply` and the commands that read and put back what was applied."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.policy.rules import PolicyText
    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import policy_pb2

__all__ = ["apply", "audit", "export", "history", "rollback", "show_revision"]

_DIGEST_SHOWN = 12
Message = Annotated[
    str, typer.Option("--message", "-m", metavar="TEXT", help="Why; the history keeps it.")
]
Parent = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="NUMBER", help="Refuse unless this is still the newest revision; 0 is none."
    ),
]
Number = Annotated[int, typer.Argument(min=0, metavar="NUMBER", help="0 is the newest.")]


def apply(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The policy's folder.")],
    message: Message = "",
    parent: Parent = None,
    dry_run: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--dry-run", help="Check it there, and change nothing.")
    ] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a folder's policy the next revision of the running service, and put it in force.

    Exits with 2, and changes nothing, when it has a fault or somebody was faster.
    """
    settings = load_settings(config, {"policy.path": ("FOLDER", folder)}).settings
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from meshwarden.policy_messages import text_message  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    request = policy_pb2.ApplyRequest(
        text=text_message(_folder(settings)),
        message=message,
        origin=str(settings.policy.path),
        parent=parent,
        dry_run=dry_run,
    )
    with policy_service(settings.runtime.runtime_dir) as service:
        _applied(service.Apply(request), output, dry_run=dry_run)


def rollback(
    number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="Whose policy to take.")],
    message: Message = "",
    parent: Parent = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make the policy of an older revision the next one; nothing of the history is lost."""
    settings = load_settings(config).settings
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    request = policy_pb2.RollbackRequest(number=number, message=message, parent=parent)
    with policy_service(settings.runtime.runtime_dir) as service:
        _applied(service.Rollback(request), output, dry_run=False)


def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List revisions, newest first."""
    settings = load_settings(config).settings
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with policy_service(settings.runtime.runtime_dir) as service:
        found = service.History(policy_pb2.HistoryRequest(limit=limit)).revisions
    if output.is_data:
        show_data([_as_dict(each) for each in found], output)
    elif not found:
        show("no revision yet: 'meshwarden policy apply FOLDER' makes the first")
    else:
        rows = [
            (
                str(each.number),
                _time(each.created_ns),
                each.author,
                str(each.rows),
                each.digest[:_DIGEST_SHOWN],
                each.message,
            )
            for each in found
        ]
        show(table(("revision", "made", "by", "rows", "policy", "why"), rows))


def show_revision(
    number: Number = 0, config: ConfigFile = None, output: Output = Form.HUMAN
) -> None:
    """Print a revision's policy as the CSV that makes it again."""
    revision, text = _get(load_settings(config).settings, number)
    if output.is_data:
        rows = [
            {"ptype": row.ptype, "values": row.values, "file": row.file, "line": row.line}
            for row in text.rows
        ]
        model = {"model": text.model, "model_file": text.model_file}
        show_data({**_as_dict(revision), **model, "rows": rows}, output)
        return
    typer.echo(f"# Revision {revision.number} by {revision.author}, {_time(revision.created_ns)}")
    typer.echo(_as_csv(text), nl=False)


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="One that isn't there yet.")],
    number: Annotated[int, typer.Option("--revision", min=0, help="0 is the newest.")] = 0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Write a revision as a policy folder, each row in the file that it came from."""
    _, text = _get(load_settings(config).settings, number)
    folder.mkdir(parents=True)
    files: dict[str, list[int]] = {}
    for index, row in enumerate(text.rows):
        files.setdefault(_safe_name(row.file), []).append(index)
    for name, indexes in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_csv_lines(text, indexes), encoding="utf-8")
    if text.model_file != "mesh":
        (folder / "model.conf").write_text(text.model, encoding="utf-8")
    if output.is_data:
        show_data({"folder": str(folder), "rows": len(text.rows), "files": sorted(files)}, output)
    else:
        show(f"{len(text.rows)} rows in {len(files)} files under {folder}")


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List who changed what, newest first."""
    settings = load_settings(config).settings
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with policy_service(settings.runtime.runtime_dir) as service:
        found = service.Audit(policy_pb2.AuditRequest(limit=limit)).entries
    fields = ("time_ns", "who", "source", "action", "outcome", "revision", "detail")
    if output.is_data:
        show_data([{name: getattr(each, name) for name in fields} for each in found], output)
    else:
        rows = [
            (_time(each.time_ns), *(str(getattr(each, name)) for name in fields[1:]))
            for each in found
        ]
        show(table(("when", "who", "from", "what", "outcome", "revision", "why"), rows))


def _folder(settings: "Settings") -> "PolicyText":
    from meshwarden import plugins  # noqa: PLC0415

    adapter = plugins.load("policies", "folder")
    text: PolicyText = adapter.build(adapter.config(path=settings.policy.path)).load()
    return text


def _applied(reply: "policy_pb2.ApplyReply", output: Form, *, dry_run: bool) -> None:
    if output.is_data:
        show_data(
            {
                "ok": not reply.errors,
                "errors": list(reply.errors),
                "unchanged": reply.unchanged,
                "digest": reply.digest,
                "rules": reply.rule_count,
                "revision": _as_dict(reply.revision) if reply.HasField("revision") else None,
            },
            output,
        )
    for fault in reply.errors:
        complain(fault)
    if reply.errors:
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    if output.is_data:
        return
    what = f"{reply.rule_count} rules, policy {reply.digest[:_DIGEST_SHOWN]}"
    if reply.unchanged:
        show(f"unchanged: the newest revision is this policy already ({what})")
    elif dry_run:
        show(f"no fault ({what}); nothing was changed")
    else:
        show(f"revision {reply.revision.number} is in force ({what})")


def _get(settings: "Settings", number: int) -> "tuple[policy_pb2.Revision, PolicyText]":
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from meshwarden.policy_messages import text_from  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with policy_service(settings.runtime.runtime_dir) as service:
        reply = service.Get(policy_pb2.GetRequest(number=number))
    return reply.revision, text_from(reply.text)


def _as_dict(revision: "policy_pb2.Revision") -> dict[str, object]:
    fields = ("number", "parent", "author", "created_ns", "message", "digest", "origin", "rows")
    return {name: getattr(revision, name) for name in fields}


def _time(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}Z"


def _as_csv(text: "PolicyText") -> str:
    return _csv_lines(text, range(len(text.rows)))


def _csv_lines(text: "PolicyText", indexes: "Iterable[int]") -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for index in indexes:
        row = text.rows[index]
        writer.writerow((row.ptype, *row.values))
    return out.getvalue()


def _safe_name(file: str) -> str:
    """A revision's file names come from whoever applied it: none may lead out of the folder."""
    parts = Path(file).parts
    if not file or Path(file).is_absolute() or ".." in parts or not file.endswith(".csv"):
        return "policy.csv"
    return file
