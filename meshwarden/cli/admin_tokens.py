"""`meshwarden admin token`: secrets by which programs come in from other machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import admin_completion as completion
from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import FAULT, Form, complain, show, show_data, table
from meshwarden.cli.policy_history import time_text
from meshwarden.cli.remote import RemoteCommand

if TYPE_CHECKING:
    from protos.meshwarden.v1 import access_pb2
    from protos.meshwarden.v1.access_pb2_grpc import AccessStub

__all__ = ["app"]

_DAY_S = 86_400
_FIELDS = ("id", "name", "created_ns", "created_by", "expires_ns", "revoked_ns", "used_ns")

app = typer.Typer(
    name="token", help="Make, list and revoke tokens of the admin API.", no_args_is_help=True
)


@app.command(cls=RemoteCommand)
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="It comes as token:NAME, whatever its secret.")
    ],
    days: Annotated[
        int | None,
        typer.Option(min=1, metavar="NUMBER", help="Until it expires; else admin.token_days."),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="Give token:NAME this role as well.",
            autocompletion=completion.roles,
        ),
    ] = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Make a token, and print its secret once: on stdout, and nothing else there.

    Put it where only its holder reads: meshwarden admin token create ci > ci.token
    """
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    request = access_pb2.CreateTokenRequest(name=name, lifetime_s=(days or 0) * _DAY_S)
    with _calling(config) as service:
        if role:
            # First: a role that cannot be given should leave no secret about.
            given = service.Grant(access_pb2.GrantRequest(who=f"token:{name}", role=role))
            if given.errors:
                for fault in given.errors:
                    complain(fault)
                complain("no token was made")
                raise typer.Exit(FAULT)
        reply = service.CreateToken(request)
    if output.is_data:
        told = {"token": reply.text, **_as_dict(reply.token), "roles": list(reply.roles)}
        show_data(told, output)
        return
    typer.echo(reply.text)
    roles = f"has the role {reply.roles[-1]}" if reply.roles else "has no role yet"
    complain(f"token:{name} {roles}; good until {time_text(reply.token.expires_ns)}", prefix="")
    complain("The secret is shown this once; only its hash is kept.", prefix="")
    if not reply.roles:
        complain(f"Give it a role: meshwarden admin grant token:{name} viewer", prefix="")


@app.command("list", cls=RemoteCommand)
def list_tokens(
    every: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--all", "-a", help="Those that have ended, too.")
    ] = False,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List tokens, newest first: when they expire, and when they were last used."""
    from meshwarden import clock  # noqa: PLC0415
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    with _calling(config) as service:
        found = service.ListTokens(access_pb2.ListTokensRequest()).tokens
    now_ns = clock.now_ns()
    tokens = [each for each in found if every or (not each.revoked_ns and each.expires_ns > now_ns)]
    if output.is_data:
        show_data([_as_dict(each) for each in tokens], output)
    elif not tokens:
        show("no token is live: 'meshwarden admin token create NAME' makes one")
    else:
        rows = [
            (
                each.name,
                each.id,
                _ends(each, now_ns),
                time_text(each.used_ns) if each.used_ns else "never",
                each.created_by,
            )
            for each in tokens
        ]
        show(table(("name", "id", "ends", "last used", "made by"), rows))


@app.command(cls=RemoteCommand)
def revoke(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|ID",
            help="All tokens of a name, or the one of an id.",
            autocompletion=completion.tokens,
        ),
    ],
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """End tokens at once, everywhere within a second."""
    from protos.meshwarden.v1 import access_pb2  # noqa: PLC0415

    with _calling(config) as service:
        reply = service.RevokeToken(access_pb2.RevokeTokenRequest(name_or_id=name))
    if output.is_data:
        told = [_as_dict(each) for each in reply.tokens]
        show_data({"revoked": told, "no_admin_left": reply.no_admin_left}, output)
    else:
        show(", ".join(f"{each.name} ({each.id})" for each in reply.tokens) + ": revoked")
    if reply.no_admin_left:
        complain(
            "warning: nobody else has the role admin; the owner of the service's machine can "
            "give it: meshwarden admin grant WHO admin"
        )


@contextmanager
def _calling(config: Path | None) -> "Iterator[AccessStub]":
    from meshwarden.cli.policy_client import admin_service  # noqa: PLC0415
    from protos.meshwarden.v1.access_pb2_grpc import AccessStub  # noqa: PLC0415

    runtime_dir = load_settings(config).settings.runtime.runtime_dir
    with admin_service(runtime_dir, AccessStub) as service:
        yield service


def _as_dict(token: "access_pb2.Token") -> dict[str, object]:
    return {name: getattr(token, name) for name in _FIELDS}


def _ends(token: "access_pb2.Token", now_ns: int) -> str:
    if token.revoked_ns:
        return f"revoked {time_text(token.revoked_ns)}"
    when = time_text(token.expires_ns)
    return when if token.expires_ns > now_ns else f"expired {when}"
