"""`meshwarden policy shadow`: a candidate is judged beside the live policy, and never obeyed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden import clock
from meshwarden.cli import policies
from meshwarden.cli.durations import Since, age
from meshwarden.cli.excerpts import complain_of
from meshwarden.cli.options import ConfigFile, Output, load_folder_settings, load_settings
from meshwarden.cli.output import DENIED, FAULT, Form, complain, show, show_data, table
from meshwarden.cli.prompts import Yes, confirm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from rich.console import RenderableType

    from meshwarden.authoring.replay import Difference, Judge, Replayed
    from meshwarden.cli.policies import Chosen
    from meshwarden.settings import Settings
    from protos.meshwarden.v1 import shadow_pb2, shadow_pb2_grpc
    from telemetry.record import DecisionRecord

__all__ = ["app"]

_DIGEST_SHOWN = 12
_RUN = 1000
_KINDS = ("would_deny", "would_allow")

app = typer.Typer(
    name="shadow",
    help="Try a candidate beside the live policy: counted and recorded apart, never obeyed.",
    no_args_is_help=True,
)

CandidateFolder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="The candidate's folder."),
]
Message = Annotated[
    str, typer.Option("--message", "-m", metavar="TEXT", help="Why; the history keeps it.")
]


@app.command("set")
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
            f"candidate {made.digest[:_DIGEST_SHOWN]} is beside the live policy: {made.rules} rules"
        )
        show("'meshwarden policy shadow show' tells what it would have done")


@app.command("show")
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


@app.command()
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
        show(f"candidate {reply.candidate.digest[:_DIGEST_SHOWN]} was taken away")
    else:
        show("no candidate is beside the live policy")
    if not there:
        raise typer.Exit(DENIED)


@app.command()
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
        f"Put candidate {candidate.digest[:_DIGEST_SHOWN]} in force? It would have denied "
        f"{total['would_deny']} and allowed {total['would_allow']} of {sum(total.values())} checks "
        "that were decided the other way.",
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
        show(f"revision {number} is in force (policy {reply.digest[:_DIGEST_SHOWN]})")
    if candidate.is_fixed:
        show("policy.shadow of the configuration still names it: take that out")


@app.command()
def replay(  # noqa: PLR0913, PLR0917 - each is an option
    folder: CandidateFolder = None,
    revision: policies.Revision = None,
    since: Since = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, help="How many decisions, the newest of them.")
    ] = 100_000,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="How many of each kind are shown.")
    ] = 5,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Decide again, by a candidate, what is in the decision log; no service need run.

    A decision that hangs on what no record holds is counted as one that can't be told.

    Exits with 0 when all are the same that can be told, 1 when one is not, 2 when none can be told.
    """
    if (folder is None) == (revision is None):
        raise typer.BadParameter("name the candidate by its FOLDER or by --revision")
    from meshwarden.authoring.replay import replay as put_again  # noqa: PLC0415

    chosen = policies.choose(config, folder, "FOLDER", revision)
    settings = load_settings(config).settings
    since_ns = 0 if since is None else clock.now_ns() - since * 10**9
    records = list(_records(settings, since_ns, limit))
    candidate = _judge(chosen)
    found = put_again(records, candidate, _enforced(settings))
    if output.is_data:
        show_data(_replayed(found, candidate, chosen, settings), output)
    else:
        show(*_replayed_lines(found, candidate, chosen, settings, examples))
    if not found.told:
        complain("nothing can be told" if found.untold else "nothing is on record")
        raise typer.Exit(FAULT)
    if found.differences:
        raise typer.Exit(DENIED)


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
    return {name: getattr(counts, name) for name in ("same", *_KINDS)}


def _total(reply: "shadow_pb2.ShowShadowReply") -> dict[str, int]:
    """The counts of all replicas; of this one alone where there are no others."""
    if len(reply.replicas) <= 1:
        return _counts(reply.counts)
    each = [_counts(replica.counts) for replica in reply.replicas]
    return {name: sum(counts[name] for counts in each) for name in ("same", *_KINDS)}


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
        ("candidate", f"{candidate.digest[:_DIGEST_SHOWN]}, {candidate.rules} rules"),
        ("from", candidate.origin),
        ("set", f"{ago} ago by {candidate.author}"),
        ("why", candidate.message),
        ("beside", f"policy {reply.live_digest[:_DIGEST_SHOWN]}"),
    ]
    yield table(("", ""), [row for row in rows if row[1]])
    yield ""
    yield _count_table(total)
    if len(reply.replicas) > 1:
        yield ""
        head = ("replica", "same", "would deny", "would allow")
        yield table(
            head,
            [
                (
                    f"{each.host} {each.address}",
                    *(str(_counts(each.counts)[name]) for name in ("same", *_KINDS)),
                )
                for each in reply.replicas
            ],
        )
    if reply.no_examples:
        yield f"no examples: {reply.no_examples}"
    if reply.examples:
        yield ""
        yield table(
            ("decision", "", "caller", "request", "the candidate's rule"),
            [
                (
                    each.id,
                    each.verdict.replace("_", " "),
                    _printable(each.principal or each.user or "anybody"),
                    _printable(f"{each.method} {each.service or '-'} {each.path}"),
                    each.rule or each.reason,
                )
                for each in reply.examples
            ],
        )


def _count_table(counts: dict[str, int]) -> "RenderableType":
    rows = [("same", str(counts["same"]))]
    rows += [(kind.replace("_", " "), str(counts[kind])) for kind in _KINDS]
    return table(("", ""), rows)


def _printable(text: str) -> str:
    """What a caller sent must not move a reader's cursor or colour his terminal."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _judge(chosen: "Chosen") -> "Judge":
    from meshwarden.authoring.replay import Judge  # noqa: PLC0415
    from meshwarden.follower import engine_options  # noqa: PLC0415

    bind = dict(chosen.settings.policy.bind)
    return Judge(chosen.text, bind, engine_options(chosen.settings))


def _enforced(settings: "Settings") -> "Judge | None":
    """The policy in force, if it can be had: it shows which records lead to their decision."""
    from authz.errors import AuthzError  # noqa: PLC0415
    from meshwarden.errors import SupervisorError  # noqa: PLC0415

    try:
        return _judge(policies.live_policy(settings))
    except (AuthzError, SupervisorError, OSError):
        return None


def _records(settings: "Settings", since_ns: int, limit: int) -> "Sequence[DecisionRecord]":
    from meshwarden import plugins  # noqa: PLC0415
    from meshwarden.errors import DecisionLogError  # noqa: PLC0415
    from telemetry.sink import ArchiveUnavailableError, Search  # noqa: PLC0415

    archive = plugins.decision_archive(settings)
    if archive is None:
        raise DecisionLogError(
            "decisions.sinks names none that can be searched: add sqlite, and restart the service"
        )
    try:
        return [each.record for each in archive.search(Search(since_ns=since_ns, limit=limit))]
    except ArchiveUnavailableError as error:
        raise DecisionLogError(str(error)) from error


def _kind(difference: "Difference") -> str:
    return "would_allow" if difference.allowed else "would_deny"


def _replayed(
    found: "Replayed", candidate: "Judge", chosen: "Chosen", settings: "Settings"
) -> dict[str, Any]:
    return {
        "candidate": {"digest": candidate.digest, "source": chosen.where},
        "same": found.same,
        **{kind: sum(_kind(each) == kind for each in found.differences) for kind in _KINDS},
        "untold": dict(found.untold.most_common()),
        "sample_allows": settings.decisions.sample_allows,
        "differences": [
            {
                "id": each.record.id,
                "verdict": _kind(each),
                "rule": each.rule.where if each.rule else "",
                **{
                    name: getattr(each.record, name)
                    for name in ("principal", "user", "service", "method", "path")
                },
            }
            for each in found.differences
        ],
    }


def _replayed_lines(
    found: "Replayed", candidate: "Judge", chosen: "Chosen", settings: "Settings", examples: int
) -> "Iterator[RenderableType]":
    count = found.told + sum(found.untold.values())
    name = f"{candidate.digest[:_DIGEST_SHOWN]} ({chosen.where})"
    yield f"{count} decisions on record, decided again by candidate {name}"
    rows = [("same", str(found.same), "")]
    for kind in _KINDS:
        number = sum(_kind(each) == kind for each in found.differences)
        rows.append((kind.replace("_", " "), str(number), ""))
    rows += [("can't be told", str(number), why) for why, number in found.untold.most_common()]
    yield table(("", "", ""), rows)
    if settings.decisions.sample_allows < 1:
        yield (
            f"of allowed requests a share of {settings.decisions.sample_allows:g} is recorded "
            "(decisions.sample_allows): there were more of them than are counted here"
        )
    shown = [
        each
        for kind in _KINDS
        for each in [each for each in found.differences if _kind(each) == kind][-examples:]
        if examples
    ]
    if shown:
        yield ""
        yield table(
            ("decision", "", "caller", "request", "the candidate's rule"),
            [
                (
                    each.record.id,
                    _kind(each).replace("_", " "),
                    _printable(each.record.principal or each.record.user or "anybody"),
                    _printable(
                        f"{each.record.method} {each.record.service or '-'} {each.record.path}"
                    ),
                    each.rule.where if each.rule else "no rule matches",
                )
                for each in shown
            ],
        )
