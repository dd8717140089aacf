"""The `meshwarden` command: one file a group, put together here."""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from authz.errors import AuthzError
from ca.errors import IdentityError
from meshwarden.cli import (
    admin,
    agent,
    bundle,
    ca,
    check,
    config,
    decisions,
    entry,
    identity,
    mint,
    policy,
    serve,
    service,
    token,
    version,
)
from meshwarden.cli.output import FAULT, complain
from meshwarden.cli.remote import RemoteCommand
from meshwarden.errors import (
    CaseFileError,
    ConfigError,
    DecisionLogError,
    FunctionModuleError,
    NoVerdictError,
    SupervisorError,
    UnknownAdapterError,
    WorkloadApiError,
)

__all__ = ["app", "main"]

# Errors whose message is meant for the person at the terminal; others are ours, with a traceback.
_TOLD = (
    AuthzError,
    CaseFileError,
    DecisionLogError,
    FunctionModuleError,
    IdentityError,
    NoVerdictError,
    SupervisorError,
    UnknownAdapterError,
    WorkloadApiError,
)
_COMPLETE = "_MESHWARDEN_COMPLETE"  # typer names it after the program.
_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it.
_PIPE_CLOSED = 141  # 128 + SIGPIPE, likewise.


class Commands(TyperGroup):
    """Gives every fault exit code 2: 1 is a denial, and a fault must never look like one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        _complete_help(self)
        if _COMPLETE in os.environ:
            # A shell alone needs them. After typer has registered its own way to speak to shells,
            # which is what it does before it builds this.
            from meshwarden.cli import completing, shells  # noqa: PLC0415

            completing.attach(self)
            shells.register()

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            from meshwarden.cli.setting_lines import complain_of_settings  # noqa: PLC0415

            complain_of_settings(error)
        except _TOLD as error:
            complain(str(error))
        except BrokenPipeError:
            # Whoever read has read enough, as `head` does; no word of it, also not at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_PIPE_CLOSED) from None
        except OSError as error:
            told = error.strerror or str(error)
            complain(f"{error.filename}: {told}" if error.filename else told)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        raise typer.Exit(FAULT)


def _complete_help(command: Any) -> None:
    """Have every command's help say how it exits; most have nothing special to say."""
    inner = getattr(command, "commands", {})
    for each in inner.values():
        _complete_help(each)
    if inner:
        return
    # A terminal breaks lines where it is narrow, not where a file of ours is.
    paragraphs = [" ".join(each.split()) for each in (command.help or "").split("\n\n")]
    if not any("Exits " in each for each in paragraphs):
        asks = any(parameter.name == "yes" for parameter in command.params)
        no = ", with 1 when the answer is no" if asks else ""
        paragraphs.append(f"Exits with 0 when it is done{no}, with 2 on a fault.")
    command.help = "\n\n".join(paragraphs)


app = typer.Typer(
    name="meshwarden",
    cls=Commands,
    help="Who is who in an Envoy mesh, and who may talk to whom: gives workloads SPIFFE "
    "identities, and serves ext_authz by Casbin policy, with the reason on record.",
    epilog="Exit codes: 0 done or allowed, 1 denied or found wanting, 2 a fault, 130 interrupted; "
    "the help of each command has its own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Service")(serve.serve)
app.command(cls=RemoteCommand, rich_help_panel="Service")(service.status)
app.command(cls=RemoteCommand, rich_help_panel="Service")(service.reload)
app.add_typer(service.restart, rich_help_panel="Service")
app.command(rich_help_panel="Policy")(check.check)
app.command(rich_help_panel="Policy", cls=RemoteCommand)(check.explain)
app.add_typer(policy.app, rich_help_panel="Policy")
app.add_typer(decisions.app, rich_help_panel="Service")
app.add_typer(admin.app, rich_help_panel="Service")
app.add_typer(ca.app, rich_help_panel="Identity")
app.add_typer(bundle.app, rich_help_panel="Identity")
app.add_typer(mint.x509, rich_help_panel="Identity")
app.add_typer(mint.jwt, rich_help_panel="Identity")
app.add_typer(entry.app, rich_help_panel="Identity")
app.add_typer(agent.app, rich_help_panel="Identity")
app.add_typer(token.app, rich_help_panel="Identity")
app.add_typer(identity.app, rich_help_panel="Identity")
app.add_typer(config.app, rich_help_panel="Settings")
app.command(rich_help_panel="Settings")(version.version)


def main() -> None:
    """Run the command line.

    A fault of ours that nobody foresaw ends in 2 as well, with its traceback: Python's own exit
    code for it would be 1.
    """
    if sys.stdout is None:
        # A shell's `>&-`; whoever wants nothing printed gets that, and still the exit code.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good
    try:
        app()
    except Exception:  # noqa: BLE001 - the last line before the interpreter's exit code 1
        import traceback  # noqa: PLC0415 - seldom needed

        traceback.print_exc()
        sys.exit(FAULT)
