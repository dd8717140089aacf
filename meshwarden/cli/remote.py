"""Which service a command speaks to: the one on this machine, or one behind `--server`.

Every command that can speak to both has the same options, from here; what was chosen is kept
beside the command's own arguments, so that no command has to pass it on.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption
from typing_extensions import override

from adapters.files.privacy import is_private
from meshwarden.cli.output import complain

__all__ = [
    "FLAGS",
    "Remote",
    "RemoteCommand",
    "address_of",
    "choosing",
    "chosen",
    "remote_of",
    "token_of",
]

_PANEL = "Service on another machine"
_PORT = 9191


@dataclass(frozen=True, slots=True)
class Remote:
    """A service on another machine, and how to come in there.

    Attributes:
        address: HOST:PORT of its public port.
        authority: PEM file of who vouches for it; None for those that the system trusts.
        name: The name in its certificate; "" for the address' own.
        certificate: PEM file of the caller's certificate; None for none.
        key: PEM file of its key.
        token_file: File that holds a token; None for none.
    """

    address: str
    authority: Path | None = None
    name: str = ""
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None


_CHOSEN: ContextVar[Remote | None] = ContextVar("remote", default=None)


def chosen() -> Remote | None:
    """Give the service on another machine that this command is to speak to; None for this one's."""
    return _CHOSEN.get()


@contextmanager
def choosing(remote: Remote | None) -> Iterator[None]:
    """Choose for the time of a block."""
    before = _CHOSEN.set(remote)
    try:
        yield
    finally:
        _CHOSEN.reset(before)


class RemoteCommand(TyperCommand):
    """A command that asks a running service for something, here or elsewhere."""

    def __init__(self, *arguments: Any, params: list[Any] | None = None, **options: Any) -> None:
        """Add the options that choose a service to a command's own."""
        super().__init__(*arguments, params=[*(params or ()), *_options()], **options)

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run the command, whose function has no part in these options."""
        given = {name: ctx.params.pop(name) for name in FLAGS}
        with choosing(remote_of(given)):
            return super().invoke(ctx)


FLAGS: Mapping[str, tuple[str, str, str, str]] = {
    "server": (
        "--server", "MESHWARDEN_SERVER", "HOST:PORT",
        "Public port of a service elsewhere, where admin.remote is on; always TLS.",
    ),
    "server_ca": (
        "--server-ca", "MESHWARDEN_SERVER_CA", "FILE",
        "Who vouches for it, in PEM; else whom the system trusts.",
    ),
    "server_name": (
        "--server-name", "MESHWARDEN_SERVER_NAME", "NAME",
        "The name in its certificate, where that is not HOST.",
    ),
    "client_cert": (
        "--client-cert", "MESHWARDEN_CLIENT_CERT", "FILE", "Certificate to show it, in PEM.",
    ),
    "client_key": ("--client-key", "MESHWARDEN_CLIENT_KEY", "FILE", "Its key."),
    "token_file": (
        "--token-file", "MESHWARDEN_TOKEN_FILE", "FILE",
        "File with a token to show it. A token itself is never an argument, which others can read.",
    ),
}  # fmt: skip
"""Name of each parameter to its flag, variable, metavar and words."""


def _options() -> Iterator[TyperOption]:
    for flag, variable, metavar, words in FLAGS.values():
        yield TyperOption(
            param_decls=[flag],
            envvar=variable,
            show_envvar=True,
            metavar=metavar,
            help=words,
            rich_help_panel=_PANEL,
        )


def remote_of(given: Mapping[str, str | None]) -> Remote | None:
    """Check what was given together.

    Raises:
        BadParameter: It does not fit together.
    """
    server = given["server"]
    if not server:
        # Variables may be set for other commands; an option was meant for this one.
        unused = [
            flag for name, (flag, variable, *_) in FLAGS.items()
            if given[name] and given[name] != os.environ.get(variable)
        ]  # fmt: skip
        if unused:
            raise typer.BadParameter(f"{unused[0]} needs --server: which service is meant?")
        return None
    address_of(server)
    certificate, key = _path(given["client_cert"]), _path(given["client_key"])
    if bool(certificate) != bool(key):
        raise typer.BadParameter("--client-cert and --client-key belong together")
    return Remote(
        server,
        _path(given["server_ca"]),
        given["server_name"] or "",
        certificate,
        key,
        _path(given["token_file"]),
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def address_of(server: str) -> tuple[str, int]:
    """Read HOST:PORT.

    Raises:
        BadParameter: It is no such pair.
    """
    host, colon, port = server.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()):
        raise typer.BadParameter(
            f"--server {server!r}: write HOST:PORT, such as meshwarden.example:{_PORT}"
        )
    return host.strip("[]"), int(port)


def token_of(file: Path) -> str:
    """Read a token from its file; what is in it is never said.

    Raises:
        BadParameter: There is none in it.
        OSError: It can't be read.
    """
    from authz.admin_tokens import has_token_form  # noqa: PLC0415 - most commands need none

    text = file.read_bytes()[:1000].decode("ascii", "replace").strip()
    if not has_token_form(text):
        raise typer.BadParameter(
            f"--token-file {file}: holds no token, which begins with mwt_ and is one line"
        )
    _warn_of_readers(file)
    return text


@cache
def _warn_of_readers(file: Path) -> None:
    """Say it once, however often a command calls."""
    if file.is_file() and not is_private(file):
        complain(f"warning: others on this machine can read {file}; chmod 600 it")
