"""`meshwarden entry`: which workload gets which identity."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.durations import ttl_s
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import Form, complain, show, show_data, table
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.prompts import Yes, confirm
from meshwarden.cli.registration import (
    all_entries,
    registration_service,
    selector_messages,
    selectors_text,
)
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ca.entries import Entry
    from ca.entry_draft import EntryRules
    from protos.meshwarden.v1 import registration_pb2
    from protos.meshwarden.v1.registration_pb2_grpc import RegistrationStub

__all__ = ["app"]

_PUTS = 500

app = typer.Typer(
    name="entry", help="Say which workload gets which identity.", no_args_is_help=True
)
Selectors = Annotated[
    list[str] | None,
    typer.Option("--selector", metavar="KIND:VALUE", help="As unix:uid:1000; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check it there, and change nothing.")]


@app.command(cls=RemoteCommand)
def create(  # noqa: PLR0913, PLR0917 - each is an option
    spiffe_id: Annotated[
        str,
        typer.Argument(
            metavar="SPIFFE_ID",
            help="The identity; may be a template, as spiffe://{{trust_domain}}/ns/{{k8s.ns}}.",
        ),
    ],
    parent: Annotated[
        str,
        typer.Option(
            metavar="SPIFFE_ID",
            help="The agent that may issue it, or an alias of nodes. An alias is an entry whose "
            "parent is the service: /meshwarden/server in the trust domain.",
        ),
    ],
    selector: Selectors = None,
    x509_ttl: Annotated[
        int | None,
        typer.Option(
            metavar="TIME", parser=ttl_s, help="Of certificates, as 1800 or 30m; else as settings."
        ),
    ] = None,
    jwt_ttl: Annotated[
        int | None,
        typer.Option(
            metavar="TIME", parser=ttl_s, help="Of tokens, as 300 or 5m; else as settings."
        ),
    ] = None,
    dns_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="DNS name in certificates; may be repeated."),
    ] = None,
    hint: Annotated[
        str, typer.Option(metavar="TEXT", help="Tells the workload which of several it is.")
    ] = "",
    admin: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--admin", help="Workloads with it may administer the service.")
    ] = False,
    change: Annotated[
        str, typer.Option("--id", metavar="ID", help="Change this entry, in place of a new one.")
    ] = "",
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Register an entry, or change one."""
    from protos.meshwarden.v1 import agent_pb2, registration_pb2  # noqa: PLC0415

    entry = registration_pb2.Entry(
        workload=agent_pb2.WorkloadEntry(
            id=change,
            spiffe_id=spiffe_id,
            selectors=selector_messages(selector or ()),
            x509_ttl_s=x509_ttl or 0,
            jwt_ttl_s=jwt_ttl or 0,
            dns_names=dns_name or (),
            hint=hint,
        ),
        parent_id=parent,
        admin=admin,
    )
    with registration_service(config) as service:
        reply = service.PutEntries(
            registration_pb2.PutEntriesRequest(entries=[entry], dry_run=dry_run)
        )
    (kept,) = reply.entries
    _tell_doubts([kept])
    if dry_run and not change:
        # It is none yet: what would tell it from others is made when it is kept.
        kept.workload.id, kept.workload.version, kept.created_ns = "", 0, 0
    _show(kept, output, "no fault; nothing was changed" if dry_run else "")


@app.command("list", cls=RemoteCommand)
def list_entries(
    spiffe_id: Annotated[str, typer.Option(metavar="SPIFFE_ID", help="Of this identity.")] = "",
    parent: Annotated[str, typer.Option(metavar="SPIFFE_ID", help="Of this parent.")] = "",
    selector: Selectors = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List entries."""
    with registration_service(config) as service:
        found = [
            *all_entries(
                service,
                spiffe_id=spiffe_id,
                parent_id=parent,
                selectors=selector_messages(selector or ()),
            )
        ]
    if output.is_data:
        show_data([_as_dict(each) for each in found], output)
    elif not found and (spiffe_id or parent or selector):
        show("no such entry")
    elif not found:
        show("no entry: 'meshwarden entry create' makes one")
    else:
        rows = [
            (
                each.workload.id,
                each.workload.spiffe_id,
                each.parent_id,
                ", ".join(selectors_text(each.workload.selectors)),
                _origin(each),
                _role(each),
            )
            for each in found
        ]
        show(table(("entry", "gives", "parent", "to whom has", "from", "role"), rows))


@app.command("show", cls=RemoteCommand)
def show_entry(
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="As 'entry list' tells it.")],
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show one entry."""
    from meshwarden.config_checks import did_you_mean  # noqa: PLC0415
    from meshwarden.errors import SupervisorError  # noqa: PLC0415

    with registration_service(config) as service:
        found = {each.workload.id: each for each in all_entries(service)}
    if entry_id not in found:
        raise SupervisorError(f"there is no entry {entry_id!r}{did_you_mean(entry_id, found)}")
    _show(found[entry_id], output)


@app.command(cls=RemoteCommand)
def delete(
    entry_id: Annotated[list[str], typer.Argument(metavar="ID...", help="One or more.")],
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Delete entries: their workloads get no new certificates, and keep those they have."""
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    confirm(f"Delete {len(entry_id)} {'entry' if len(entry_id) == 1 else 'entries'}?", yes=yes)
    with registration_service(config) as service:
        reply = service.DeleteEntries(registration_pb2.DeleteEntriesRequest(ids=entry_id))
    if output.is_data:
        show_data({"deleted": [*reply.deleted]}, output)
    else:
        show(f"deleted {', '.join(reply.deleted)}")


@app.command(cls=RemoteCommand)
def apply(  # noqa: PLR0913, PLR0917 - each is an option
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML file of entries, or a folder of them.")
    ],
    prune: Annotated[  # noqa: FBT002 - an option
        bool,
        typer.Option("--prune", help="Delete what was registered by command and isn't in it."),
    ] = False,
    dry_run: DryRun = False,  # noqa: FBT002 - an option
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make entries be as a file says: add what is missing, change what differs.

    The service reads no file by this; identity.entries names one that it obeys by itself.
    """
    from meshwarden.entry_files import check_drafts, read_drafts  # noqa: PLC0415
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    drafts = read_drafts(path)
    with registration_service(config) as service:
        rules = _rules(service)
        wanted = {key: entry for key, (entry, _) in check_drafts(drafts, rules).items()}
        there = {_key(each): each for each in all_entries(service) if each.origin == "api"}
        puts = [
            made
            for key, entry in wanted.items()
            if not _is_same(made := _message(entry, there.get(key)), there.get(key))
        ]
        leaving = [each for key, each in there.items() if prune and key not in wanted]
        gone = [each.workload.id for each in leaving]
        _tell_doubts(puts)
        if gone and not dry_run:
            if not yes and not output.is_data:
                _show_changes([], leaving)
            confirm(f"Delete {len(gone)} entries that {path} doesn't have?", yes=yes)
        for start in range(0, len(puts), _PUTS):
            some = puts[start : start + _PUTS]
            service.PutEntries(registration_pb2.PutEntriesRequest(entries=some, dry_run=dry_run))
        if not dry_run:
            for start in range(0, len(gone), _PUTS):
                some_ids = gone[start : start + _PUTS]
                service.DeleteEntries(registration_pb2.DeleteEntriesRequest(ids=some_ids))
    added = sum(not each.workload.id for each in puts)
    if dry_run and not output.is_data:
        _show_changes(puts, leaving)
    if output.is_data:
        told = {"added": added, "changed": len(puts) - added, "deleted": len(gone)}
        show_data({**told, "dry_run": dry_run}, output)
    else:
        done = "would be " if dry_run else ""
        show(
            f"{added} {done}added, {len(puts) - added} {done}changed, {len(gone)} {done}deleted, "
            f"{len(wanted) - len(puts)} as they were"
        )


def _tell_doubts(entries: "Iterable[registration_pb2.Entry]") -> None:
    """Say on stderr what is allowed in an entry and was hardly meant; each thing once."""
    from ca.doubts import doubts  # noqa: PLC0415
    from ca.entries import Entry  # noqa: PLC0415
    from meshwarden.entry_files import doubt_text  # noqa: PLC0415
    from meshwarden.identity_messages import workload_from  # noqa: PLC0415

    read = (Entry(workload_from(each.workload), each.parent_id) for each in entries)
    found = dict.fromkeys(doubt for entry in read for doubt in doubts(entry))
    for each in found:
        complain(doubt_text(each), "careful: ")


def _show_changes(
    puts: "list[registration_pb2.Entry]", gone: "list[registration_pb2.Entry]"
) -> None:
    """List what would be done, an entry a line."""
    told = [("change" if each.workload.id else "add", each) for each in puts]
    rows = [
        (
            what,
            each.workload.spiffe_id,
            each.parent_id,
            ", ".join(selectors_text(each.workload.selectors)),
        )
        for what, each in (*told, *(("delete", each) for each in gone))
    ]
    if rows:
        show(table(("", "gives", "parent", "to whom has"), rows))


def _rules(service: "RegistrationStub") -> "EntryRules":
    """Give the rules that files are checked by here; the service checks by its own again.

    The trust domain is the service's, which may be on another machine.
    """
    from ca.entry_draft import EntryRules  # noqa: PLC0415
    from protos.meshwarden.v1 import registration_pb2  # noqa: PLC0415

    told = service.ListEntries(registration_pb2.ListEntriesRequest(limit=1)).trust_domain
    return EntryRules(told, max_x509_ttl_s=2**31 - 1, max_jwt_ttl_s=2**31 - 1)


def _key(entry: "registration_pb2.Entry") -> str:
    from ca.entries import fingerprint  # noqa: PLC0415
    from meshwarden.identity_messages import selectors_from  # noqa: PLC0415

    workload = entry.workload
    return fingerprint(entry.parent_id, workload.spiffe_id, selectors_from(workload.selectors))


def _message(entry: "Entry", there: "registration_pb2.Entry | None") -> "registration_pb2.Entry":
    from meshwarden.identity_messages import entry_message  # noqa: PLC0415

    made = entry_message(entry)
    made.workload.id = there.workload.id if there else ""
    made.origin = "api"
    return made


def _is_same(made: "registration_pb2.Entry", there: "registration_pb2.Entry | None") -> bool:
    if there is None:
        return False
    alike = type(made)()
    alike.CopyFrom(made)
    alike.created_ns = there.created_ns
    alike.workload.version = there.workload.version
    return alike == there


def _show(entry: "registration_pb2.Entry", output: Form, note: str = "") -> None:
    if output.is_data:
        show_data(_as_dict(entry), output)
        return
    workload = entry.workload
    rows = (
        ("entry", workload.id),
        ("gives", workload.spiffe_id),
        ("parent", entry.parent_id),
        ("to whom has", ", ".join(selectors_text(workload.selectors))),
        ("DNS names", ", ".join(workload.dns_names)),
        ("certificates", _lifetime(workload.x509_ttl_s)),
        ("tokens", _lifetime(workload.jwt_ttl_s)),
        ("hint", workload.hint),
        ("role", _role(entry)),
        ("from", _origin(entry)),
        ("made", time_text(entry.created_ns) if entry.created_ns else ""),
        ("version", str(workload.version or "")),
    )
    show(table(("", ""), [row for row in rows if row[1]]))
    if note:
        show(note)


def _lifetime(ttl_s: int) -> str:
    return f"for {ttl_s} s" if ttl_s else ""


def _role(entry: "registration_pb2.Entry") -> str:
    return "admin" if entry.admin else ""


def _origin(entry: "registration_pb2.Entry") -> str:
    from ca.entries import API  # noqa: PLC0415

    return "a command" if entry.origin == API else entry.origin


def _as_dict(entry: "registration_pb2.Entry") -> dict[str, Any]:
    workload = entry.workload
    return {
        "id": workload.id,
        "spiffe_id": workload.spiffe_id,
        "parent_id": entry.parent_id,
        "selectors": selectors_text(workload.selectors),
        "x509_ttl_s": workload.x509_ttl_s,
        "jwt_ttl_s": workload.jwt_ttl_s,
        "dns_names": [*workload.dns_names],
        "hint": workload.hint,
        "admin": entry.admin,
        "origin": entry.origin,
        "created_ns": entry.created_ns,
        "version": workload.version,
    }
