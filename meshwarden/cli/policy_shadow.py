"""`meshwarden policy shadow`: a candidate is judged beside the live policy, and never obeyed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden import clock
from meshwarden.cli import policies, policy_replay
from meshwarden.cli.durations import age
from meshwarden.cli.excerpts import complain_of
from meshwarden.cli.options import ConfigFile, Output, load_folder_settings, load_settings
from meshwarden.cli.output import DENIED, FAULT, Form, complain, show, show_data, table
from meshwarden.cli.prompts import Yes, confirm
from meshwarden.cli.remote import RemoteCommand
from meshwarden.cli.shadow_lines import DIGEST_SHOWN, KINDS, Example, count_table, example_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import shadow_pb2, shadow_pb2_grpc

__all__ = ["app"]

app = typer.Typer(
    name="shadow",
    help="Try a candidate beside the live policy: counted and recorded apart, never obeyed.",
    no_args_is_help=True,
)

app.command("replay")(policy_replay.replay)

CandidateFolder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="The candidate's folder."),
]
Message = Annotated[
    str, typer.Option("--message", "-m", metavar="TEXT", help="Why; the history keeps it.")
]


@app.command("set", cls=RemoteCommand)
def set_candidate(
    folder: CandidateFolder = None,
    revision: policies.Revision = None,
    message: Message = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Put a candidate beside the live policy, in place of another one.

    Replicas that share a store all judge by it; it stays until it is stopped, over restarts too.

    Exits with 0 when it is there, with 2 when it has a fault; nothing is changed then.
    """
    if (folder is None) == (revision is None):
        raise typer.BadParameter("name the candidate by its FOLDER or by --revision")
    from protos.meshwarden.v1 import shadow_pb2  # noqa: PLC0415

    request = shadow_pb2.SetShadowRequest(message=message)
    if folder is not None:
        from meshwarden.policy_messages import text_message  # noqa: PLC0415

        settings = load_folder_settings(config, "FOLDER", folder)
        request.text.CopyFrom(text_message(policies.read_folder(settings)))
        request.origin = str(settings.policy.path)
    else:
        settings = load_settings(config).settings
        request.revision = _number(settings, revision or 0)
    with _service(settings) as service:
        reply = service.Set(request)
    if output.is_data:
        found = _plain(reply.candidate) if reply.HasField("candidate") else None
        data = {"ok": not reply.errors, "errors": list(reply.errors), "candidate": found}
        show_data(data, output)
    if reply.errors:
        complain_of(reply.errors, folder)
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    if not output.is_data:
        made = reply.candidate
        show(
            f"candidate {made.digest[:DIGEST_SHOWN]} is beside the live policy: {made.rules} rules"
        )
        show("'meshwarden policy shadow show' tells what it would have done")


@app.command("show", cls=RemoteCommand)
def show_candidate(
    examples: Annotated[
        int, typer.Option("-n", "--examples", min=1, max=100, help="How many of each kind.")
    ] = 5,
    exit_code: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--exit-code", help="Exit with 1 if it would have differed.")
    ] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show which candidate there is, what it would have done, and on which decisions.

    Exits with 1 when there is none, and with --exit-code also when it would have differed.
    """
    from protos.meshwarden.v1 import shadow_pb2  # noqa: PLC0415

    with _service(load_settings(config).settings) as service:
        reply = service.Show(shadow_pb2.ShowShadowRequest(examples=examples))
    there = reply.HasField("candidate")
    total = _total(reply)
    if output.is_data:
        show_data(_shown(reply, total), output)
    elif there:
        show(*_lines(reply, total))
    else:
        show("no candidate is beside the live policy")
    for error in reply.errors:
        complain(error)
    if not there or (exit_code and (total["would_deny"] or total["would_allow"])):
        raise typer.Exit(DENIED)


@app.command(cls=RemoteCommand)
def stop(config: ConfigFile = None, output: Output = Form.HUMAN) -> None:
    """Take the candidate away.

    Exits with 1 when there is none.
    """
    from protos.meshwarden.v1 import shadow_pb2  # noqa: PLC0415

    with _service(load_settings(config).settings) as service:
        reply = service.Stop(shadow_pb2.StopShadowRequest())
    there = reply.HasField("candidate")
    if output.is_data:
        show_data({"stopped": _plain(reply.candidate) if there else None}, output)
    elif there:
        show(f"candidate {reply.candidate.digest[:DIGEST_SHOWN]} was taken away")
    else:
        show("no candidate is beside the live policy")
    if not there:
        raise typer.Exit(DENIED)


@app.command(cls=RemoteCommand)
def promote(
    message: Message = "",
    yes: Yes = False,  # noqa: FBT002 - an option
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make the candidate the next revision, put it in force, and stop judging by it.

    Exits with 1 when there is none or the answer is no, with 2 on a fault; nothing is changed then.
    """
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2, shadow_pb2  # noqa: PLC0415

    settings = load_settings(config).settings
    with _service(settings) as service:
        found = service.Show(shadow_pb2.ShowShadowRequest(with_text=True))
    if not found.HasField("candidate"):
        complain("no candidate is beside the live policy")
        raise typer.Exit(DENIED)
    candidate, total = found.candidate, _total(found)
    confirm(
        f"Put candidate {candidate.digest[:DIGEST_SHOWN]} in force? Of {sum(total.values())} "
        f"checks it would have denied {total['would_deny']} that passed, and allowed "
        f"{total['would_allow']} that were denied.",
        yes=yes,
    )
    origin = f"shadow, from {candidate.origin}"
    with policy_service(settings.runtime.runtime_dir) as service:
        reply = service.Apply(
            policy_pb2.ApplyRequest(
                text=found.text,
                message=message or candidate.message or "Promoted from the shadow",
                origin=origin,
            )
        )
    if reply.errors:
        complain_of(reply.errors, None)
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    if not candidate.is_fixed:
        with _service(settings) as service:
            service.Stop(shadow_pb2.StopShadowRequest(digest=candidate.digest))
    number = reply.revision.number
    if output.is_data:
        data = {"revision": number or None, "digest": reply.digest, "unchanged": reply.unchanged}
        show_data(data, output)
        return
    if reply.unchanged:
        show("unchanged: the live policy is the candidate already")
    else:
        show(f"revision {number} is in force (policy {reply.digest[:DIGEST_SHOWN]})")
    if candidate.is_fixed:
        show("policy.shadow of the configuration still names it: take that out")


def _service(settings: "Settings") -> "AbstractContextManager[shadow_pb2_grpc.ShadowStub]":
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from protos.meshwarden.v1 import shadow_pb2_grpc  # noqa: PLC0415

    return admin_service(settings.runtime.runtime_dir, shadow_pb2_grpc.ShadowStub)


def _number(settings: "Settings", number: int) -> int:
    """A revision's number, the newest one's for 0."""
    if number:
        return number
    from meshwarden.cli.policy_client import policy_service  # noqa: PLC0415
    from protos.meshwarden.v1 import policy_pb2  # noqa: PLC0415

    with policy_service(settings.runtime.runtime_dir) as service:
        found = service.History(policy_pb2.HistoryRequest(limit=1)).revisions
    return found[0].number if found else 1


def _plain(candidate: "shadow_pb2.Candidate") -> dict[str, Any]:
    fields = ("digest", "rules", "author", "origin", "message", "set_ns", "is_fixed")
    return {name: getattr(candidate, name) for name in fields}


def _counts(counts: "shadow_pb2.ShadowCounts") -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("same", *KINDS)}


def _total(reply: "shadow_pb2.ShowShadowReply") -> dict[str, int]:
    """The counts of all replicas; of this one alone where there are no others."""
    if len(reply.replicas) <= 1:
        return _counts(reply.counts)
    each = [_counts(replica.counts) for replica in reply.replicas]
    return {name: sum(counts[name] for counts in each) for name in ("same", *KINDS)}


_EXAMPLE = (
    "id", "time_ns", "verdict", "principal", "user", "service", "method", "path", "rule", "reason",
)  # fmt: skip


def _shown(reply: "shadow_pb2.ShowShadowReply", total: dict[str, int]) -> dict[str, Any]:
    return {
        "candidate": _plain(reply.candidate) if reply.HasField("candidate") else None,
        "live_digest": reply.live_digest,
        "counts": total,
        "replicas": [
            {"host": each.host, "address": each.address, **_counts(each.counts)}
            for each in reply.replicas
        ],
        "examples": [{name: getattr(each, name) for name in _EXAMPLE} for each in reply.examples],
        "no_examples": reply.no_examples,
        "errors": list(reply.errors),
    }


def _lines(
    reply: "shadow_pb2.ShowShadowReply", total: dict[str, int]
) -> "Iterator[RenderableType]":
    candidate = reply.candidate
    ago = age((clock.now_ns() - candidate.set_ns) / 1e9)
    rows = [
        ("candidate", f"{candidate.digest[:DIGEST_SHOWN]}, {candidate.rules} rules"),
        ("from", candidate.origin),
        ("set", f"{ago} ago by {candidate.author}"),
        ("why", candidate.message),
        ("beside", f"policy {reply.live_digest[:DIGEST_SHOWN]}"),
    ]
    yield table(("", ""), [row for row in rows if row[1]])
    yield ""
    yield count_table(total)
    if len(reply.replicas) > 1:
        yield ""
        head = ("replica", "same", "would deny", "would allow")
        yield table(
            head,
            [
                (
                    f"{each.host} {each.address}",
                    *(str(_counts(each.counts)[name]) for name in ("same", *KINDS)),
                )
                for each in reply.replicas
            ],
        )
    if reply.no_examples:
        yield f"no examples: {reply.no_examples}"
    if reply.examples:
        yield ""
        yield from example_lines(
            [
                Example(
                    each.id,
                    each.verdict,
                    each.principal or each.user,
                    each.service,
                    each.method,
                    each.path,
                    each.rule or each.reason,
                )
                for each in reply.examples
            ]
        )
