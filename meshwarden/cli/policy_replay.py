"""`meshwarden policy shadow replay`: a candidate decides again what is in the decision log."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden import clock
from meshwarden.cli import policies
from meshwarden.cli.durations import Since
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import DENIED, FAULT, Form, complain, show, show_data
from meshwarden.cli.shadow_lines import DIGEST_SHOWN, KINDS, Example, count_table, example_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from meshwarden.authoring.replay import Difference, Judge, Replayed
    from meshwarden.cli.policies import Chosen
    from meshwarden.settings import Settings
    from telemetry.record import DecisionRecord

__all__ = ["replay"]

CandidateFolder = Annotated[
    Path | None,
    typer.Argument(metavar="[FOLDER]", show_default=False, help="The candidate's folder."),
]


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
        **{kind: sum(_kind(each) == kind for each in found.differences) for kind in KINDS},
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
    name = f"{candidate.digest[:DIGEST_SHOWN]} ({chosen.where})"
    yield f"{count} decisions on record, decided again by candidate {name}"
    by_kind = {kind: [each for each in found.differences if _kind(each) == kind] for kind in KINDS}
    counts = {"same": found.same, **{kind: len(each) for kind, each in by_kind.items()}}
    yield count_table(counts, found.untold.most_common())
    if settings.decisions.sample_allows < 1:
        yield (
            f"of allowed requests a share of {settings.decisions.sample_allows:g} is recorded "
            "(decisions.sample_allows): there were more of them than are counted here"
        )
    shown = [_example(each) for kind in KINDS for each in by_kind[kind][-examples:] if examples]
    if shown:
        yield ""
        yield from example_lines(shown)


def _example(difference: "Difference") -> Example:
    record = difference.record
    return Example(
        record.id,
        _kind(difference),
        record.principal or record.user,
        record.service,
        record.method,
        record.path,
        difference.rule.where if difference.rule else "no rule matches",
    )
