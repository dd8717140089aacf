"""`meshwarden admin`: who may administrate, here and from other machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import admin_completion as completion
from meshwarden.cli import admin_tokens
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, echo_policy, show, show_data, table
from meshwarden.cli.policy_apply import DryRun, Message, Parent
from meshwarden.cli.policy_history import counts, time_text
from meshwarden.cli.policy_proposal import DIGEST_SHOWN, revision_fields
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from protos.meshwarden.v1 import policy_pb2
    from protos.meshwarden.v1.access_pb2_grpc import AccessStub

__all__ = ["app"]

_SCHEME = "spiffe://"  # As `entry list` has it; rules do without.

app = typer.Typer(
    name="admin",
    help="Say who may administrate: roles, tokens, and the policy behind them.",
    no_args_is_help=True,
)
app.add_typer(admin_tokens.app)

Who = Annotated[
    str,
    typer.Argument(
        metavar="WHO",
        help="td/ns/NAMESPACE/sa/ACCOUNT, with * and ** as in rules, or with spiffe:// before it; "
        "or token:NAME.",
        autocompletion=completion.members,
    ),
]


@app.command(cls=RemoteCommand)
def grant(  # noqa: PLR0913, PLR0917 - each is an option
    who: Who,
    role: Annotated[
        str,
        typer.Argument(
            metavar="ROLE", help="viewer, author or admin.", autocompletion=completion.roles
        ),
    ],
    message: Message = "",
    parent: Parent = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Give somebody a role.

    A viewer may look at everything, an author change the policy too, an admin also say who may.
    """
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    who = who.removeprefix(_SCHEME)
    request = access_pb2.GrantRequest(who=who, role=role, message=message, parent=parent)
    with _calling(config) as service:
        reply = service.Grant(request)
    _tell(reply, output, f"{who} has the role {role}")


@app.command(cls=RemoteCommand)
def revoke(  # noqa: PLR0913, PLR0917 - each is an option
    who: Who,
    role: Annotated[
        str,
        typer.Argument(
            metavar="[ROLE]",
            show_default=False,
            help="Else all it has.",
            autocompletion=completion.roles,
        ),
    ] = "",
    message: Message = "",
    parent: Parent = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Take a role that was given by that very name; refused where no admin would be left."""
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    who = who.removeprefix(_SCHEME)
    request = access_pb2.RevokeRequest(who=who, role=role, message=message, parent=parent)
    with _calling(config) as service:
        reply = service.Revoke(request)
    _tell(reply, output, f"{who} no longer has {f'the role {role}' if role else 'a role'}")


@app.command("list", cls=RemoteCommand)
def list_members(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """List who has which role."""
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    with _calling(config) as service:
        reply = service.Members(access_pb2.MembersRequest())
    if output.is_data:
        made = revision_fields(reply.revision) if reply.HasField("revision") else None
        members = [
            {"who": each.who, "role": each.role, "no_live_token": each.no_live_token}
            for each in reply.members
        ]
        show_data({"members": members, "rules": reply.rules, "revision": made}, output)
        return
    if not reply.members:
        show("nobody but the local owner: 'meshwarden admin grant WHO ROLE' gives a role")
    else:
        rows = [
            (each.who, each.role, "no live token of that name" if each.no_live_token else "")
            for each in reply.members
        ]
        show(table(("who", "role", ""), rows))
    if reply.rules:
        show(f"and {reply.rules} rules of its own: 'meshwarden admin show' has them")


@app.command(cls=RemoteCommand)
def whoami(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Tell who this command comes as, and what it may do; needs the role viewer."""
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    with _calling(config) as service:
        reply = service.Me(access_pb2.MeRequest())
    if output.is_data:
        told = {"name": reply.name, "source": reply.source, "roles": list(reply.roles)}
        show_data(told, output)
    else:
        rows = [("name", reply.name), ("from", reply.source), ("roles", ", ".join(reply.roles))]
        show(table(("", ""), rows))


@app.command(cls=RemoteCommand)
def apply(  # noqa: PLR0913, PLR0917 - each is an option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The whole policy, as CSV.")],
    message: Message = "",
    parent: Parent = None,
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a file the whole admin policy: rows that give roles, and rules beyond them.

    Exits with 2, and changes nothing, when it has a fault, somebody was faster, or nobody would be
    left who can change it again.
    """
    from authz.policy.csv_rows import parse_csv  # noqa: PLC0415
    from meshwarden.policy_messages import row_message  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    try:
        rows, faults = parse_csv(file.read_text(encoding="utf-8-sig"), file.name)
    except UnicodeDecodeError as error:
        complain(f"{file}: not UTF-8: {error.reason} at byte {error.start}")
        raise typer.Exit(FAULT) from None
    if faults:
        for fault in faults:
            complain(str(fault))
        raise typer.Exit(FAULT)
    request = policy_pb2.ApplyRequest(
        text=policy_pb2.PolicyText(rows=map(row_message, rows)),
        message=message,
        origin=str(file.absolute()),
        parent=parent,
        dry_run=dry_run,
    )
    with _calling(config) as service:
        reply = service.Apply(request)
    _tell(reply, output, "no fault; nothing was changed" if dry_run else "")


@app.command("show", cls=RemoteCommand)
def show_policy(
    number: Annotated[int, typer.Argument(min=0, metavar="NUMBER", help="0 is the newest.")] = 0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Print the admin policy, or one of its revisions, as the CSV that `apply` takes."""
    from authz.policy.csv_rows import write_line  # noqa: PLC0415
    from meshwarden.policy_messages import row_from  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with _calling(config) as service:
        reply = service.Get(policy_pb2.GetRequest(number=number))
    if output.is_data:
        rows = [{"ptype": row.ptype, "values": list(row.values)} for row in reply.text.rows]
        show_data({**revision_fields(reply.revision), "rows": rows}, output)
        return
    made = reply.revision
    typer.echo(f"# Revision {made.number} by {made.author}, {time_text(made.created_ns)}")
    for row in reply.text.rows:
        echo_policy(write_line(row_from(row)) + "\n")


@app.command(cls=RemoteCommand)
def history(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List revisions of the admin policy, newest first."""
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with _calling(config) as service:
        found = service.History(policy_pb2.HistoryRequest(limit=limit)).revisions
    if output.is_data:
        show_data([revision_fields(each) for each in found], output)
    elif not found:
        show("nobody was given a role yet")
    else:
        rows = [
            (
                str(each.number),
                time_text(each.created_ns),
                each.author,
                str(each.rows),
                counts(each),
                each.message,
            )
            for each in found
        ]
        show(table(("revision", "made", "by", "rows", "+/-", "why"), rows))


@app.command(cls=RemoteCommand)
def rollback(
    number: Annotated[int, typer.Argument(min=1, metavar="NUMBER", help="Whose policy to take.")],
    message: Message = "",
    parent: Parent = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make the admin policy of an older revision the next one."""
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    request = policy_pb2.RollbackRequest(number=number, message=message, parent=parent)
    with _calling(config) as service:
        reply = service.Rollback(request)
    _tell(reply, output, "")


@contextmanager
def _calling(config: Path | None) -> "Iterator[AccessStub]":
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from protos.meshwarden.v1.access_pb2_grpc import AccessStub  # noqa: PLC0415

    runtime_dir = load_settings(config).settings.runtime.runtime_dir
    with admin_service(runtime_dir, AccessStub) as service:
        yield service


def _tell(reply: "policy_pb2.ApplyReply", output: Form, done: str) -> None:
    if output.is_data:
        made = revision_fields(reply.revision) if reply.HasField("revision") else None
        told = {"ok": not reply.errors, "errors": list(reply.errors), "revision": made}
        show_data({**told, "unchanged": reply.unchanged, "digest": reply.digest}, output)
    for fault in reply.errors:
        complain(fault)
    if reply.errors:
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    if output.is_data:
        return
    if reply.unchanged:
        show("unchanged: that is so already")
    elif reply.HasField("revision"):
        what = f"admin revision {reply.revision.number}, {reply.digest[:DIGEST_SHOWN]}"
        show(f"{done} ({what})" if done else f"{what} is in force")
    else:
        show(done)
