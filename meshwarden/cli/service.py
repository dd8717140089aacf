"""`meshwarden status`, `reload` and `restart fronts`: asked of a running service."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli import remote
from meshwarden.cli.durations import age
from meshwarden.cli.options import ConfigFile, Output, RuntimeDir, load_settings
from meshwarden.cli.output import DENIED, FAULT, Form, complain, show, show_data, styled, table
from meshwarden.control_socket import ask
from meshwarden.errors import SupervisorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

__all__ = ["reload", "restart", "status"]

_SHORT_DIGEST = 12
# Nine columns need this much; on a narrower terminal a replica has lines of its own.
_WIDE = 150

restart = typer.Typer(
    name="restart", help="Renew processes without a failed request.", no_args_is_help=True
)

Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for an answer.")
]


def status(
    config: ConfigFile = None,
    runtime_dir: RuntimeDir = None,
    timeout: Timeout = 5.0,
    output: Output = Form.HUMAN,
) -> None:
    """Show the policy in force, every process of the running service, and every replica.

    Replicas are those that share the store. One that has said nothing for 20 s is stale; after an
    hour it is forgotten.

    Exits with 0 when the service is ready, with 1 when it is not, with 2 when none runs.
    """
    answer = _ask("status", config, runtime_dir, timeout, output)
    if output.is_data:
        show_data(answer, output)
    else:
        _show_status(answer)
    if not answer["ready"]:
        raise typer.Exit(DENIED)


def reload(
    config: ConfigFile = None,
    runtime_dir: RuntimeDir = None,
    timeout: Timeout = 60.0,
    output: Output = Form.HUMAN,
) -> None:
    """Load the policy again, and wait until every front decides by it.

    A policy with a fault changes nothing: the last good one stays in force.
    """
    answer = _ask("reload", config, runtime_dir, timeout, output)
    if output.is_data:
        show_data(answer, output)
    else:
        show(
            f"policy {answer['digest'][:_SHORT_DIGEST]} in force: {_count(answer['rules'], 'rule')}"
        )


@restart.command()
def fronts(
    config: ConfigFile = None,
    runtime_dir: RuntimeDir = None,
    timeout: Timeout = 600.0,
    output: Output = Form.HUMAN,
) -> None:
    """Renew the fronts one after the other, each by a hot restart."""
    answer = _ask("restart_fronts", config, runtime_dir, timeout, output)
    if output.is_data:
        show_data(answer, output)
        return
    for front in answer["fronts"]:
        show(f"{front['name']} renewed: process {front['pid']}")


def _ask(
    op: str, config: Path | None, runtime_dir: Path | None, timeout_s: float, output: Form
) -> dict[str, Any]:
    if runtime_dir is None:
        runtime_dir = load_settings(config).settings.runtime.runtime_dir
    try:
        if remote.chosen():
            # gRPC takes a while to import: the service on this machine is asked without it.
            from meshwarden.cli.remote_status import ask_elsewhere  # noqa: PLC0415

            return ask_elsewhere(op, timeout_s)
        return ask(runtime_dir.absolute(), op, timeout_s)
    except SupervisorError as error:
        if output.is_data:
            show_data({**error.answer, "error": str(error)}, output)
        complain(str(error))
        raise typer.Exit(FAULT) from None


def _show_status(answer: dict[str, Any]) -> None:
    lines = [f"ready   {_yes(answer['ready'])}", *_policy_lines(answer["policy"])]
    if answer.get("identity"):
        lines += _identity_lines(answer["identity"])
    if answer.get("entries"):
        lines += _entry_lines(answer["entries"])
    rows = [
        (
            each["name"],
            str(each["pid"]),
            _yes(each["ready"]),
            age(each["age_s"]),
            str(each["epoch"]),
            each["digest"][:_SHORT_DIGEST],
            each["error"],
        )
        for each in answer["processes"]
    ]
    head = ("process", "pid", "ready", "up", "epoch", "policy", "error")
    show("\n".join(lines), "", table(head, rows))
    # One that shares its store with nobody has said all of itself above.
    replicas, error = answer.get("replicas", []), answer.get("replicas_error", "")
    if len(replicas) > 1 or error:
        _show_replicas(replicas)
        for revision in _split(replicas):
            complain(
                f"replicas read revision {revision} as different policies: policy.bind, "
                "engine.functions or the version is not the same in all of them"
            )
    if error:
        complain(f"replicas as they were last known: {error}")


def _policy_lines(policy: dict[str, Any]) -> list[str]:
    lines = []
    if policy["digest"]:
        rules = _count(policy["rules"], "rule")
        # Of a revision the source tells number and author.
        is_number = policy.get("revision") and not policy.get("version")
        number = f"{policy['source']}, " if is_number else ""
        digest, ago = policy["digest"][:_SHORT_DIGEST], age(policy["age_s"])
        lines.append(f"policy  {number}{digest}, {rules}, published {ago} ago")
        if policy.get("source") and not number:
            lines.append(f"        from {policy['source']}")
        if policy.get("version"):
            lines.append(f"        {policy['version']}")
    else:
        lines.append("policy  none yet: every request fails")
    if policy["restored"]:
        lines.append("        from the local copy: its source was not loaded since the start")
    if policy["errors"]:
        lines.append(f"        loads have failed for {age(policy['failing_for_s'])}:")
        lines += [f"        {error}" for error in policy["errors"]]
    return lines


def _identity_lines(identity: dict[str, Any]) -> "Iterator[str]":
    entries = _count(identity["entries"], "entry", "entries")
    yield f"domain  {identity['trust_domain']}: {entries}, {_count(identity['agents'], 'agent')}"
    if identity["waits"]:
        yield f"        nothing is issued: {identity['waits']}"
    elif identity["ends_in_s"] <= 0:
        yield f"        {identity['first_to_end']} has expired"
    else:
        yield f"        {identity['first_to_end']} ends in {age(identity['ends_in_s'])}"


def _entry_lines(entries: dict[str, Any]) -> "Iterator[str]":
    if entries["age_s"] is not None:
        source, ago = entries["source"], age(entries["age_s"])
        yield f"entries {entries['count']} declared by {source}, taken {ago} ago"
    else:
        yield f"entries those of {entries['source']} were not taken since the start"
    if entries["errors"]:
        yield f"        not taken for {age(entries['failing_for_s'])}, the last good ones stay:"
        yield from (f"        {error}" for error in entries["errors"])


def _show_replicas(replicas: list[dict[str, Any]]) -> None:
    if sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDE:
        show(
            "", styled(("replicas", "bold")), *(part for each in replicas for part in _stack(each))
        )
        return
    head = ("replica", "address", "version", "revision", "policy", "in force", "up", "seen", "")
    rows = [
        (
            each["host"],
            each["address"],
            each["version"],
            str(each["revision"] or ""),
            each["digest"][:_SHORT_DIGEST],
            _in_force(each),
            age(each["up_s"]),
            _seen(each),
            each["error"],
        )
        for each in replicas
    ]
    show("", table(head, rows))


def _split(replicas: list[dict[str, Any]]) -> list[int]:
    """Revisions by which replicas decide differently; nothing makes that pass by itself."""
    digests: dict[int, set[str]] = {}
    for each in replicas:
        if each["revision"] and not each["stale"]:
            digests.setdefault(each["revision"], set()).add(each["digest"])
    return [number for number, found in digests.items() if len(found) > 1]


def _stack(replica: dict[str, Any]) -> "Iterator[RenderableType]":
    """One replica on as many lines as a narrow terminal needs."""
    yield f"{replica['host']} {replica['address']}"
    number = f"revision {replica['revision']}, " if replica["revision"] else ""
    digest = replica["digest"][:_SHORT_DIGEST]
    yield f"    policy {number}{digest}, {_in_force(replica)}" if digest else "    no policy yet"
    seen = f"    {replica['version']}, up {age(replica['up_s'])}, seen "
    yield styled(seen, (_seen(replica), "red" if replica["stale"] else ""))
    if replica["error"]:
        yield styled((f"    {replica['error']}", "red"))


def _in_force(replica: dict[str, Any]) -> str:
    return "" if replica["age_s"] is None else f"for {age(replica['age_s'])}"


def _seen(replica: dict[str, Any]) -> str:
    return f"{age(replica['seen_s_ago'])} ago{', stale' if replica['stale'] else ''}"


def _yes(is_true: bool) -> str:  # noqa: FBT001 - it turns that very flag into a word
    return "yes" if is_true else "no"


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
