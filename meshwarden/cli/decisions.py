"""`meshwarden decisions`: what was decided and why, read from the decision log's database.

Whether the service runs makes no difference: the file is only read.
"""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from meshwarden import clock
from meshwarden.cli.durations import Since
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import (
    DENIED,
    FAULT,
    Form,
    complain,
    json_line,
    show,
    show_data,
    styled,
    table,
)
from meshwarden.errors import DecisionLogError
from meshwarden.plain_text import plain

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from telemetry.record import DecisionRecord
    from telemetry.sink import DecisionArchive, Kept, Search

__all__ = ["app"]

_POLL_S = 0.25
_POLL_RECORDS = 1000
# A decision on one line needs this much; on a narrower terminal it has two.
_WIDE = 160

app = typer.Typer(
    name="decisions", help="Look into what was decided, and why.", no_args_is_help=True
)


Limit = Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many at most.")]
Denied = Annotated[bool, typer.Option("--denied", help="Denials only.")]


@app.command()
def tail(
    follow: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--follow", "-f", help="Go on with those to come, until Ctrl-C.")
    ] = False,
    denied: Denied = False,  # noqa: FBT002 - an option
    limit: Limit = 10,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show the last decisions that were recorded, the newest at the end.

    With -f, JSON is one object a line, and YAML one document a decision.
    """
    archive = _archive(config)
    from telemetry.sink import Search  # noqa: PLC0415

    wanted = Search(verdict="deny" if denied else "", limit=limit)
    if not follow:
        with _told():
            _print(archive.search(wanted), output)
        return
    for found in _followed(archive, wanted):
        _print(found, output, is_stream=True)


@app.command("show")
def show_decision(
    id_: Annotated[str, typer.Argument(metavar="ID", help="A decision's id, or its start.")],
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show everything that is known of one decision.

    Exits with 1 when it was not recorded, or not kept.
    """
    with _told():
        found = _archive(config).find(id_.strip().lower())
    if not found:
        complain(f"no decision {id_} on record")
        raise typer.Exit(DENIED)
    if len(found) > 1:
        complain(f"more than one decision's id begins with {id_}:")
        for each in found:
            complain(each.record.id, prefix="  ")
        raise typer.Exit(FAULT)
    if output.is_data:
        show_data(_as_dict(found[0]), output)
    else:
        show(table(("", ""), _details(found[0])))


@app.command()
def search(  # noqa: PLR0913, PLR0917 - each is an option
    principal: Annotated[
        str, typer.Option(help="A workload or user:ISSUER/SUBJECT; a final * is any ending.")
    ] = "",
    path: Annotated[str, typer.Option(help="What the path begins with.")] = "",
    service: Annotated[str, typer.Option(help="The service asked for.")] = "",
    rule: Annotated[
        str, typer.Option(metavar="FILE[:LINE]", help="The deciding rule, or its file.")
    ] = "",
    verdict: Annotated[
        Literal["allow", "deny", "would_allow", "would_deny"] | None,
        typer.Option(help="What came of it, or would have by the shadow policy."),
    ] = None,
    denied: Denied = False,  # noqa: FBT002 - an option
    since: Since = None,
    limit: Limit = 20,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Find decisions on record by what they were about; the newest are at the end."""
    archive = _archive(config)
    from telemetry.sink import Search  # noqa: PLC0415

    wanted = Search(
        principal=principal.removeprefix("spiffe://"),
        path=path,
        service=service,
        rule=rule,
        verdict="deny" if denied else verdict or "",
        since_ns=0 if since is None else clock.now_ns() - since * 10**9,
        limit=limit,
    )
    with _told():
        _print(archive.search(wanted), output)


def _archive(config: "Path | None") -> "DecisionArchive":
    settings = load_settings(config).settings
    from meshwarden import plugins  # noqa: PLC0415 - gRPC's messages take a while to import

    archive = plugins.decision_archive(settings)
    if archive is None:
        raise DecisionLogError(
            "decisions.sinks names none that can be searched: add sqlite, and restart the service"
        )
    return archive


@contextmanager
def _told() -> Iterator[None]:
    from telemetry.sink import ArchiveUnavailableError  # noqa: PLC0415

    try:
        yield
    except ArchiveUnavailableError as error:
        raise DecisionLogError(str(error)) from error


def _followed(archive: "DecisionArchive", wanted: "Search") -> "Iterator[Sequence[Kept]]":
    """Give what is on record, then what comes; a service that isn't started yet is waited for."""
    from telemetry.sink import ArchiveUnavailableError  # noqa: PLC0415

    position, told = 0, ""
    while True:
        try:
            more = wanted._replace(limit=_POLL_RECORDS) if position else wanted
            found = archive.search(more, after=position)
            told = ""
        except ArchiveUnavailableError as error:
            found = []
            if str(error) != told:
                told = str(error)
                complain(f"{told}; waiting")
        if found:
            position = found[-1].position
            yield found
        if len(found) < _POLL_RECORDS:
            time.sleep(_POLL_S)


def _print(found: "Sequence[Kept]", output: Form, *, is_stream: bool = False) -> None:
    if is_stream and output is Form.JSON:
        for each in found:
            typer.echo(json_line(_as_dict(each)))
    elif is_stream and output is Form.YAML:
        for each in found:
            typer.echo("---")
            show_data(_as_dict(each), output)
    elif output.is_data:
        show_data([_as_dict(each) for each in found], output)
    elif not found:
        show("nothing on record")
    else:
        # What isn't a terminal is read by grep: one decision, one line.
        is_wide = not sys.stdout.isatty() or shutil.get_terminal_size().columns >= _WIDE
        show(*(part for each in found for part in _lines(each.record, is_wide=is_wide)))


def _lines(record: "DecisionRecord", *, is_wide: bool) -> "Iterator[RenderableType]":
    verdict = (f"{record.verdict} {record.status}", "green" if record.verdict == "allow" else "red")
    pad = " " * max(2, 11 - len(verdict[0]))
    request = f"{record.method} {plain(record.path)}"
    service = plain(record.service) or "-"
    rule = _rule(record) or record.reason
    caller = plain(record.principal or record.user) or "anybody"
    when = f"{_time(record.time_ns)}  "
    if is_wide:
        rest = f"{pad}{record.id}  {rule:<16}  {caller}  {service}  {request}"
        yield styled(when, verdict, rest)
        return
    yield styled(when, verdict, f"{pad}{caller} -> {service}")
    yield styled((f"{record.id}  {rule}  {request}", "dim"))


def _details(kept: "Kept") -> "Iterator[tuple[str, str]]":
    """Everything that holds something, in the order in which a reader asks."""
    record = kept.record
    yield "id", record.id
    yield "decided", f"{_time(record.time_ns, 'milliseconds')} by {record.front}"
    yield "verdict", f"{record.verdict} {record.status}: {record.reason}"
    if rule := _rule(record):
        yield "rule", rule
    optional = (
        ("", record.rule_text),
        ("principal", record.principal),
        ("user", record.user),
        ("service", record.service),
        ("request", f"{record.method} {record.path}".strip()),
        ("host", record.host),
        ("from", record.source_ip),
        ("policy", record.digest),
        *((f"header {name}", value) for name, value in record.headers.items()),
        *((f"claim {name}", value) for name, value in record.claims.items()),
    )
    yield from ((name, plain(value)) for name, value in optional if value)
    for number, miss in enumerate(record.misses):
        yield "" if number else "nearest", plain(miss)
    for number, fault in enumerate(record.faults):
        yield "" if number else "raised", plain(fault)


def _as_dict(kept: "Kept") -> dict[str, object]:
    import msgspec  # noqa: PLC0415 - only what is printed for programs needs it

    return msgspec.structs.asdict(kept.record)


def _rule(record: "DecisionRecord") -> str:
    if record.rule_file:
        return f"{record.rule_file}:{record.rule_line}"
    return record.rule_text


def _time(time_ns: int, precision: str = "seconds") -> str:
    when = datetime.fromtimestamp(time_ns / 1e9, UTC)
    return when.isoformat(" ", precision).removesuffix("+00:00") + "Z"
