"""`meshwarden agent`: gives this machine's workloads their identities, and says how it is doing."""

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from meshwarden.cli import agents
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import DENIED, Form, complain, show, show_data, table
from meshwarden.cli.policy_history import time_text

__all__ = ["agent", "app", "status"]

_STANDARD_INPUT = Path("-")
_MOST_TOKEN_BYTES = 4096

app = typer.Typer(
    name="agent",
    help="Run the agent that gives this machine's workloads their identities; or see to agents."
    "\n\n"
    "Without a command it runs until SIGTERM or Ctrl-C, and exits with 0 then, with 2 where it "
    "can't start or the service doesn't believe it. 'status' is about the agent on this machine; "
    "the other commands ask the service about all of them.",
    invoke_without_command=True,
)
agents.add_to(app)


@app.callback()
def agent(  # noqa: PLR0913, PLR0917 - options of a command line
    context: typer.Context,
    config: ConfigFile = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="The service's public port, by TLS; overrides agent.server."
        ),
    ] = None,
    trust_bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="PEM file of who vouches for the service, as 'bundle show' gives it; overrides "
            "agent.trust_bundle. A join token mostly holds its hash, which is enough.",
        ),
    ] = None,
    join_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help="The join token itself. Every user of this machine can read it in /proc for as "
            "long as the agent runs: --join-token-file is better.",
        ),
    ] = None,
    join_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of the join token, mode 0600; '-' reads it from standard input. Overrides "
            "agent.join_token_file.",
        ),
    ] = None,
    attestor: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How this machine proves which one it is: join_token, x509pop or k8s_psat; "
            "overrides agent.attestor.",
        ),
    ] = None,
    socket: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The socket that workloads connect to; overrides agent.socket."
        ),
    ] = None,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="What is kept over restarts, keys included; overrides agent.state_dir.",
        ),
    ] = None,
    runtime_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Holds the sockets; overrides agent.runtime_dir."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="IP:PORT",
            help="Serve /metrics and /healthz there; overrides agent.metrics. Beyond loopback "
            "the settings have to ask for it.",
        ),
    ] = None,
    insecure_bootstrap: Annotated[  # noqa: FBT002 - a flag of a command line
        bool,
        typer.Option(
            "--insecure-bootstrap",
            help="Believe the first server there is, where nothing is known to prove it by. "
            "Whoever is in between then gets the join token.",
        ),
    ] = False,
) -> None:
    """Run the agent until SIGTERM or Ctrl-C, unless a command follows."""
    if context.invoked_subcommand is not None:
        return
    if join_token is not None and join_token_file is not None:
        raise typer.BadParameter("--join-token and --join-token-file name two tokens; give one")
    if join_token_file == _STANDARD_INPUT:
        join_token, join_token_file = _token_from(sys.stdin.buffer), None
    options = {
        "agent.server": ("--server", server),
        "agent.trust_bundle": ("--trust-bundle", trust_bundle),
        "agent.join_token_file": ("--join-token-file", join_token_file),
        "agent.attestor": ("--attestor", attestor),
        "agent.socket": ("--socket", socket),
        "agent.state_dir": ("--state-dir", state_dir),
        "agent.runtime_dir": ("--runtime-dir", runtime_dir),
        "agent.metrics": ("--metrics", metrics),
        "agent.insecure_bootstrap": (
            "--insecure-bootstrap",
            "true" if insecure_bootstrap else None,
        ),
    }
    settings = load_settings(config, options).settings
    # Only this command pays for what a server needs.
    from meshwarden.agent.main import run  # noqa: PLC0415

    raise typer.Exit(run(settings, join_token or ""))


@app.command()
def status(
    config: ConfigFile = None,
    runtime_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The agent's own; overrides agent.runtime_dir."),
    ] = None,
    output: Output = Form.HUMAN,
) -> None:
    """Show how the agent on this machine is doing.

    Exits with 0 when it follows the service, with 1 when it doesn't, with 2 when none runs.
    """
    options = {"agent.runtime_dir": ("--runtime-dir", runtime_dir)}
    settings = load_settings(config, options).settings
    from meshwarden.agent.places import places  # noqa: PLC0415 - likewise
    from meshwarden.agent.report import is_running, read_status  # noqa: PLC0415

    where = places(settings)
    try:
        where.status.stat()
    except PermissionError:
        complain(f"{where.runtime} is not yours: ask as the user that the agent runs as")
        raise typer.Exit(2) from None
    except OSError:
        pass  # None has been there.
    told = read_status(where.status)
    if told is None or not is_running(told):
        complain(f"no agent runs on {where.runtime}")
        raise typer.Exit(2)
    values = {name: getattr(told, name) for name in told.__struct_fields__}
    if output.is_data:
        show_data(values, output)
    else:
        _show(values)
    if not told.connected:
        raise typer.Exit(DENIED)


def _token_from(source: BinaryIO) -> str:
    """Read a join token; what was there in its place is never said.

    Raises:
        BadParameter: There is none.
    """
    text = source.read(_MOST_TOKEN_BYTES).decode("ascii", "replace").strip()
    if not text:
        raise typer.BadParameter("--join-token-file -: there is nothing on standard input")
    return text


def _show(told: dict[str, Any]) -> None:
    connected = "yes" if told["connected"] else f"no: {told['fault']}"
    entries = "not known yet" if told["entries"] < 0 else str(told["entries"])
    rows = [
        ("agent", told["agent"] or "not attested yet"),
        ("server", told["server"] or "the service that it is part of"),
        ("connected", connected),
        ("own certificate", _own(told)),
        ("entries", entries),
        ("identities", f"{told['identities']}, the first expires {_until(told['next_expires_ns'])}")
        if told["identities"]
        else ("identities", "none"),
        ("workloads", f"{told['streams']} streams, {told['connections']} connections"),
        ("socket", told["socket"]),
        *(("not signed", each) for each in told["refusals"]),
    ]
    show(table(("", ""), rows))


def _own(told: dict[str, Any]) -> str:
    """Say until when the agent's own certificate holds; a part of the service needs none."""
    return _until(told["own_expires_ns"]) if told["server"] else "none is needed"


def _until(at_ns: int) -> str:
    return time_text(at_ns) if at_ns else "none"
