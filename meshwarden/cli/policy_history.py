"""`meshwarden policy history`, `show`, `watch` and `audit`: what became of policy, and by whom."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.excerpts import Paper
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import Form, complain, json_line, show, show_data, table
from meshwarden.cli.policy_effects import plain_change, print_change, summary
from meshwarden.cli.policy_place import calling
from meshwarden.cli.policy_proposal import DIGEST_SHOWN, revision_fields
from meshwarden.plain_text import plain

if TYPE_CHECKING:
    from authz.authoring.diff import Change
    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import policy_pb2

__all__ = ["audit", "counts", "history", "show_revision", "time_text", "watch"]

_POLL_S = 0.5
_RETRY_S = 1.0
_PAGE = 1000


def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List revisions, newest first, with how many rows each has added and removed."""
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(load_settings(config).settings) as service:
        found = service.History(policy_pb2.HistoryRequest(limit=limit)).revisions
    if output.is_data:
        show_data([revision_fields(each) for each in found], output)
    elif not found:
        show("no revision yet: 'meshwarden policy apply FOLDER' makes the first")
    else:
        rows = [
            (
                str(each.number),
                time_text(each.created_ns),
                each.author,
                str(each.rows),
                counts(each),
                each.digest[:DIGEST_SHOWN],
                each.message,
            )
            for each in found
        ]
        show(table(("revision", "made", "by", "rows", "+/-", "policy", "why"), rows))


def show_revision(
    number: Annotated[int, typer.Argument(min=0, metavar="NUMBER", help="0 is the newest.")] = 0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show a revision: who made it, when and why, and each row that its parent has otherwise.

    `policy get --revision NUMBER` prints its whole policy, `policy diff` what it lets in.
    """
    from authz.authoring.diff import Change  # noqa: PLC0415
    from meshwarden.policy_messages import row_from  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(load_settings(config).settings) as service:
        reply = service.Diff(policy_pb2.DiffRequest(number=number))
    changes = [
        Change(
            row_from(each.old) if each.HasField("old") else None,
            row_from(each.new) if each.HasField("new") else None,
        )
        for each in reply.changes
    ]
    if output.is_data:
        told = [plain_change(each) for each in changes]
        more = {"model_changed": reply.model_changed, "changes": told}
        show_data({**revision_fields(reply.revision), **more}, output)
    else:
        _print_revision(reply, changes)


def watch(
    since: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="NUMBER", help="Begin with those above it; else with the next one."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="End after so many; 0 is never.")
    ] = 0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Print a line for each new revision as it comes, until Ctrl-C.

    It goes on where it was when the service comes back, so that no revision is left out. With
    -o json each is a line of its own, with -o yaml a document.
    """
    left = count
    for revision in _revisions(load_settings(config).settings, since):
        _print_line(revision, output)
        left -= 1
        if left == 0:
            return


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List who changed what, newest first."""
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(load_settings(config).settings) as service:
        found = service.Audit(policy_pb2.AuditRequest(limit=limit)).entries
    fields = ("time_ns", "who", "source", "action", "outcome", "revision", "detail")
    if output.is_data:
        show_data([{name: getattr(each, name) for name in fields} for each in found], output)
    else:
        rows = [
            (time_text(each.time_ns), *(str(getattr(each, name)) for name in fields[1:]))
            for each in found
        ]
        show(table(("when", "who", "from", "what", "outcome", "revision", "why"), rows))


def time_text(time_ns: int) -> str:
    """A time as people read it, in UTC."""
    return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}Z"


def counts(revision: "policy_pb2.Revision") -> str:
    """How many rows it has added and removed; "" where nobody has counted."""
    if not revision.HasField("added"):
        return ""
    return f"+{revision.added} -{revision.removed}"


def _print_revision(reply: "policy_pb2.DiffReply", changes: "list[Change]") -> None:
    revision = reply.revision
    facts = [
        ("revision", str(revision.number)),
        ("parent", str(revision.parent) if revision.parent else "none: it is the first"),
        ("by", revision.author),
        ("made", time_text(revision.created_ns)),
        ("why", revision.message),
        ("from", revision.origin),
        ("policy", revision.digest),
        ("rows", f"{revision.rows} ({counts(revision) or 'not counted'})"),
    ]
    show(table(("", ""), [fact for fact in facts if fact[1]]))
    paper = Paper()
    paper.line("")
    if reply.model_changed:
        paper.line("another model")
    for change in changes:
        print_change(paper, change)
    paper.line(summary(changes))
    paper.print()


def _revisions(settings: "Settings", since: int | None) -> "Iterator[policy_pb2.Revision]":
    """Every revision above a number, in order, for ever; the next ones without a number."""
    import grpc  # noqa: PLC0415

    from meshwarden.errors import SupervisorError  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with calling(settings) as service:
        # A service that isn't there at all is a mistake, not an outage.
        newest = service.History(policy_pb2.HistoryRequest(limit=1)).revisions
    seen = since if since is not None else (newest[0].number if newest else 0)
    is_away = False
    while True:
        try:
            with calling(settings) as service:
                while True:
                    new: list[policy_pb2.Revision] = []
                    before = 0
                    while True:
                        request = policy_pb2.HistoryRequest(limit=_PAGE, after=seen, before=before)
                        page = service.History(request).revisions
                        new += page
                        if len(page) < _PAGE:
                            break
                        before = page[-1].number
                    if is_away:
                        complain("it is back")
                        is_away = False
                    for each in reversed(new):
                        seen = each.number
                        yield each
                    time.sleep(_POLL_S)
        except (SupervisorError, grpc.RpcError) as error:
            if not is_away:
                complain(f"{error}; waiting for it")
                is_away = True
            time.sleep(_RETRY_S)


def _print_line(revision: "policy_pb2.Revision", output: Form) -> None:
    if output is Form.JSON:
        typer.echo(json_line(revision_fields(revision)))
    elif output is Form.YAML:
        typer.echo("---")
        show_data(revision_fields(revision), output)
    else:
        parts = (
            time_text(revision.created_ns),
            f"revision {revision.number}",
            counts(revision),
            f"by {revision.author}",
            f"policy {revision.digest[:DIGEST_SHOWN]}",
            revision.message,
        )
        typer.echo(plain("  ".join(part for part in parts if part)))
