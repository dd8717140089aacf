"""`meshwarden identity`: a client of any SPIFFE Workload API, for people and for old software."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from meshwarden.cli.options import Output
from meshwarden.cli.output import DENIED, FAULT, Form, complain, show, show_data, table
from meshwarden.cli.policy_history import time_text
from meshwarden.errors import WorkloadApiError
from meshwarden.secrecy import forbid_cores

if TYPE_CHECKING:
    from meshwarden.workload_client import FetchedSvid, Update, WorkloadClient

__all__ = ["app"]

_SECOND_NS = 1_000_000_000
_TIMES = {"exp", "iat", "nbf"}
_LAST_S = 253_402_300_799  # The end of the year 9999.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_COMMAND_TIMEOUT_S = 60.0

app = typer.Typer(
    name="identity",
    help="Ask a SPIFFE Workload API who this process is.",
    no_args_is_help=True,
)

Socket = Annotated[
    str | None,
    typer.Option(
        "--socket",
        metavar="ENDPOINT",
        help="The Workload API, as unix:///PATH or tcp://IP:PORT; else SPIFFE_ENDPOINT_SOCKET.",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for an answer.")
]
Id = Annotated[
    str,
    typer.Option(
        "--spiffe-id",
        metavar="ID",
        help="Which of several identities.",
    ),
]
Hint = Annotated[
    str, typer.Option(metavar="TEXT", help="Which of several identities, by its entry's hint.")
]


class Kind(StrEnum):
    """What can be fetched."""

    X509 = "x509"
    JWT = "jwt"
    BUNDLES = "bundles"


@app.command()
def fetch(  # noqa: PLR0913, PLR0917 - options of a command line
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="What is to be shown: x509, jwt or bundles.")
    ] = Kind.X509,
    socket: Socket = None,
    audience: Annotated[
        list[str] | None,
        typer.Option("--audience", metavar="NAME", help="Whom a jwt is for; may be repeated."),
    ] = None,
    spiffe_id: Id = "",
    hint: Hint = "",
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FOLDER",
            help="With x509: write files of mode 0600 there, svid.pem, svid.key, bundle.pem, and "
            "those of the SPIFFE Filesystem Delivery standard.",
        ),
    ] = None,
    timeout: Timeout = 15.0,
    output: Output = Form.HUMAN,
) -> None:
    """Show the certificates, a token or the bundles that this process gets.

    All identities are shown, and the first is written, where neither --spiffe-id nor --hint says
    which. A key is never shown: --write puts it into a file.

    Exits with 1 where there is no identity.
    """
    with _client(socket) as client:
        if kind is Kind.JWT:
            if not audience:
                complain("a jwt is for somebody: say for whom by --audience NAME")
                raise typer.Exit(FAULT)
            tokens = client.tokens(audience, spiffe_id, timeout)
            chosen = [each for each in tokens if hint in {"", each.hint}]
            if not chosen:
                complain(f"no identity has the hint {hint!r}")
                raise typer.Exit(DENIED)
            _show_tokens(chosen, output)
            if len(chosen) > 1 and output is Form.HUMAN:
                whose = ", ".join(each.spiffe_id for each in chosen)
                complain(f"a line each for {whose}: --spiffe-id or --hint picks one")
            return
        update = client.fetch(timeout)
        if kind is Kind.BUNDLES:
            _show_bundles(update, client.jwt_bundles(timeout), output)
            return
        chosen_one = update.choose(spiffe_id, hint)
        if write is not None:
            _write(write, chosen_one, update)
        _show_svids(replace(update, svids=(chosen_one,)) if spiffe_id or hint else update, output)


@app.command()
def watch(socket: Socket = None, output: Output = Form.HUMAN) -> None:
    """Show the certificates that this process gets, and again on each change, until Ctrl-C."""
    for update in _following(socket):
        if output is Form.HUMAN:
            now = time.strftime("%H:%M:%S", time.gmtime())
            for svid in update.svids:
                typer.echo(
                    f"{now} {svid.spiffe_id} {svid.serial} until {time_text(svid.not_after_ns)}"
                )
        else:
            # One value a line, as streams are read.
            typer.echo(msgspec.json.encode(_data(update)).decode())


@app.command()
def validate(
    token: Annotated[
        str,
        typer.Argument(
            metavar="TOKEN",
            help="The JWT-SVID; '-' reads it from standard input, where no other user sees it.",
        ),
    ],
    audience: Annotated[str, typer.Option(metavar="NAME", help="Whom it must be for.")],
    socket: Socket = None,
    timeout: Timeout = 15.0,
    output: Output = Form.HUMAN,
) -> None:
    """Have a JWT-SVID verified by the Workload API, and show whose it is.

    Exits with 1 where it doesn't hold.
    """
    text = sys.stdin.read().strip() if token == "-" else token  # noqa: S105 - no password
    with _client(socket) as client:
        try:
            valid = client.validate(text, audience, timeout)
        except WorkloadApiError as error:
            if error.code == "INVALID_ARGUMENT":
                complain(str(error))
                raise typer.Exit(DENIED) from None
            raise
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    claims = _claims(MessageToDict(valid.claims))
    if output.is_data:
        show_data({"spiffe_id": valid.spiffe_id, "claims": claims}, output)
    else:
        show(table(("", ""), [("spiffe id", valid.spiffe_id), *_claim_rows(claims)]))


@app.command()
def write(
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            metavar="FOLDER",
            help="For svid.pem, svid.key, bundle.pem and the like; made if it isn't there.",
        ),
    ],
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="COMMAND",
            help="Run it each time that files were written, as 'nginx -s reload'; by no shell.",
        ),
    ] = "",
    socket: Socket = None,
    spiffe_id: Id = "",
    hint: Hint = "",
) -> None:
    """Keep an identity in files for software that knows no SPIFFE, until SIGTERM or Ctrl-C.

    It is the first identity, where neither --spiffe-id nor --hint says which. All files of a set
    are replaced at once, and only where one of them is another or gone. What the Workload API takes
    back stays in the files, and is told on standard error.
    """
    from meshwarden.credential_folder import has_credentials  # noqa: PLC0415

    command = _command(run)
    written = None
    for update in _following(socket):
        try:
            svid = update.choose(spiffe_id, hint)
        except WorkloadApiError as error:
            complain(str(error))
            continue
        # Other identities of this process are renewed as well, and whoever reconnects is told all.
        news = (svid.chain, svid.key, update.bundles)
        if news == written and has_credentials(folder, svid, update):
            continue
        if written is None:
            _write(folder, svid, update)
        else:
            _write_at_last(folder, svid, update)
        written = news
        typer.echo(f"{svid.spiffe_id} until {time_text(svid.not_after_ns)}")
        if command:
            _run(command)


@contextmanager
def _client(socket: str | None) -> "Iterator[WorkloadClient]":
    """Open a client; a refusal for want of an identity ends the command with 1."""
    forbid_cores()
    from meshwarden.workload_client import (  # noqa: PLC0415 - grpc takes a while to import
        ENDPOINT_VARIABLE,
        WorkloadClient,
    )

    client = WorkloadClient(socket or os.environ.get(ENDPOINT_VARIABLE, ""))
    try:
        yield client
    except WorkloadApiError as error:
        if error.code != "PERMISSION_DENIED":
            raise
        complain(str(error))
        raise typer.Exit(DENIED) from None
    finally:
        client.close()


def _following(socket: str | None) -> "Iterator[Update]":
    """Follow for ever, over whatever ends a stream; say on stderr what it was."""
    forbid_cores()
    from meshwarden.workload_client import ENDPOINT_VARIABLE, WorkloadClient  # noqa: PLC0415

    endpoint = socket or os.environ.get(ENDPOINT_VARIABLE, "")
    pause_s, said = _FIRST_PAUSE_S, ""
    while True:
        client = WorkloadClient(endpoint)
        try:
            for update in client.follow():
                pause_s, said = _FIRST_PAUSE_S, ""
                yield update
            reason = "the API ended the stream"
        except WorkloadApiError as error:
            # Workload Endpoint section 6: this is a mistake, and stays one.
            if error.code == "INVALID_ARGUMENT":
                raise
            reason = str(error)
        finally:
            client.close()
        if reason != said:
            complain(reason)
            said = reason
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _write(folder: Path, svid: "FetchedSvid", update: "Update") -> None:
    from meshwarden.credential_folder import (  # noqa: PLC0415
        CredentialFolderError,
        write_credentials,
    )

    try:
        write_credentials(folder, svid, update)
    except CredentialFolderError as error:
        complain(str(error))
        raise typer.Exit(FAULT) from None


def _write_at_last(folder: Path, svid: "FetchedSvid", update: "Update") -> None:
    """Write what is to be renewed, however long that takes: a disk may be full for a while."""
    pause_s, said = _FIRST_PAUSE_S, ""
    while True:
        try:
            _write(folder, svid, update)
        except OSError as error:
            reason = f"{folder}: {error.strerror}; trying again"
        else:
            return
        if reason != said:
            complain(reason)
            said = reason
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def _command(text: str) -> list[str]:
    """Split a command into words, before anything is written for it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        complain(f"--run: {str(error).lower()}: {text}")
        raise typer.Exit(FAULT) from None


def _run(command: list[str]) -> None:
    """Run what the user asked for; a failure is told, and the next renewal runs it again."""
    try:
        done = subprocess.run(command, check=False, timeout=_COMMAND_TIMEOUT_S)
    except OSError as error:
        complain(f"{command[0]}: {error.strerror}")
        return
    except subprocess.TimeoutExpired:
        complain(f"{command[0]} was ended: it ran for more than {_COMMAND_TIMEOUT_S:.0f} s")
        return
    if done.returncode:
        complain(f"{command[0]} ended with {done.returncode}")


def _show_svids(update: "Update", output: Form) -> None:
    if output.is_data:
        show_data(_data(update), output)
        return
    rows = [
        (
            each.spiffe_id,
            each.hint,
            each.serial,
            time_text(each.not_after_ns),
            str(len(each.chain)),
        )
        for each in update.svids
    ]
    show(table(("spiffe id", "hint", "serial", "expires", "chain"), rows))


def _show_tokens(tokens: list[Any], output: Form) -> None:
    if output.is_data:
        values = [
            {"spiffe_id": each.spiffe_id, "hint": each.hint, "token": each.svid} for each in tokens
        ]
        show_data(values, output)
        return
    # The token alone, for $(...): a table would have to be cut apart again.
    for each in tokens:
        typer.echo(each.svid)


def _show_bundles(update: "Update", jwks: Any, output: Form) -> None:
    from meshwarden.pem import certificates_pem  # noqa: PLC0415

    if output.is_data:
        values = {
            name: {
                "x509": certificates_pem(authorities),
                "jwks": msgspec.json.decode(jwks.get(f"spiffe://{name}", b"{}")),
            }
            for name, authorities in update.bundles.items()
        }
        show_data(values, output)
        return
    for name, authorities in update.bundles.items():
        typer.echo(f"# {name}")
        typer.echo(certificates_pem(authorities), nl=False)


def _data(update: "Update") -> dict[str, Any]:
    return {
        "svids": [
            {
                "spiffe_id": each.spiffe_id,
                "hint": each.hint,
                "serial": each.serial,
                "expires": _until(each),
                "chain": len(each.chain),
            }
            for each in update.svids
        ],
        "bundles": {name: len(authorities) for name, authorities in update.bundles.items()},
    }


def _claims(claims: dict[str, Any]) -> dict[str, Any]:
    """Give claims by name; protobuf's Struct knows no whole numbers and no order."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in sorted(claims.items())
    }


def _claim_rows(claims: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, _claim_text(name, value)) for name, value in claims.items()]


def _claim_text(name: str, value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    if name in _TIMES and isinstance(value, int) and 0 <= value <= _LAST_S:
        return f"{text}, {time_text(value * _SECOND_NS)}"
    return text


def _until(svid: "FetchedSvid") -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(svid.not_after_ns // _SECOND_NS))
