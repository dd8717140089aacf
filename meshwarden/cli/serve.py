"""`meshwarden serve`."""

from pathlib import Path
from typing import Annotated

import typer

from meshwarden.cli.options import ConfigFile, load_settings

__all__ = ["serve"]


def serve(  # noqa: PLR0913, PLR0917 - options of a command line
    config: ConfigFile = None,
    listen: Annotated[
        str | None, typer.Option(metavar="IP:PORT", help="Overrides listen.address.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Overrides policy.path.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Overrides runtime.state_dir.")
    ] = None,
    runtime_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Overrides runtime.runtime_dir.")
    ] = None,
    embedded_agent: Annotated[  # noqa: FBT002 - a flag of a command line
        bool,
        typer.Option(
            "--embedded-agent",
            help="Give this machine's workloads their identities too: server.embedded_agent.",
        ),
    ] = False,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; SIGHUP reloads the policy."""
    options = {
        "listen.address": ("--listen", listen),
        "policy.path": ("--policy", policy),
        "runtime.state_dir": ("--state-dir", state_dir),
        "runtime.runtime_dir": ("--runtime-dir", runtime_dir),
        "server.embedded_agent": ("--embedded-agent", "true" if embedded_agent else None),
    }
    settings = load_settings(config, options).settings
    # Only this command pays for what a server needs.
    from meshwarden.supervisor.main import run  # noqa: PLC0415

    raise typer.Exit(run(settings))
