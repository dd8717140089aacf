"""The options that describe a request, for every command that asks about one."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = [
    "Claims",
    "Context",
    "Headers",
    "Host",
    "Method",
    "Path",
    "Principal",
    "Request",
    "Service",
    "SourceIp",
    "User",
    "request_from",
]

_PANEL = "The request"

Request = Annotated[
    str | None,
    typer.Argument(
        metavar="[-]",
        show_default=False,
        help="'-' reads a CheckRequest as JSON from stdin, in place of the flags.",
    ),
]
Principal = Annotated[
    str,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="ID",
        help="Caller's SPIFFE ID, such as td/ns/shop/sa/web.",
    ),
]
User = Annotated[
    str,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="ISSUER/SUBJECT",
        help="End user, as a verified token has it.",
    ),
]
Service = Annotated[
    str,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="NAME",
        help="Service that is called.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="NAME",
        help="HTTP method.",
    ),
]
Path = Annotated[
    str,
    typer.Option(
        rich_help_panel=_PANEL,
        metavar="PATH",
        help="Path, with its query.",
    ),
]
Host = Annotated[
    str, typer.Option(rich_help_panel=_PANEL, metavar="NAME", help="Host or :authority header.")
]
Headers = Annotated[
    list[str],
    typer.Option(
        "--header",
        rich_help_panel=_PANEL,
        metavar="NAME=VALUE",
        help="Request header; may be repeated.",
    ),
]
Claims = Annotated[
    list[str],
    typer.Option(
        "--claim",
        rich_help_panel=_PANEL,
        metavar="NAME=VALUE",
        help="Claim of the user's token; likewise.",
    ),
]
Context = Annotated[
    list[str],
    typer.Option(rich_help_panel=_PANEL, metavar="NAME=VALUE", help="Context extension; likewise."),
]
SourceIp = Annotated[
    str, typer.Option(rich_help_panel=_PANEL, metavar="IP", help="Caller's address.")
]


def request_from(  # noqa: PLR0913, PLR0917 - each is an option
    request: str | None,
    principal: str,
    user: str,
    service: str,
    method: str,
    path: str,
    host: str,
    headers: Sequence[str],
    claims: Sequence[str],
    context: Sequence[str],
    source_ip: str,
) -> "CheckRequest":
    """Make the CheckRequest that the options describe, or read the one on stdin.

    Raises:
        BadParameter: An option is not as it has to be.
        NoVerdictError: It describes none that a sidecar could send.
    """
    from meshwarden.cli import asking  # noqa: PLC0415 - gRPC's messages take a while to import

    if request == "-":
        return asking.request_from_json(sys.stdin.buffer.read())
    if request is not None:
        raise typer.BadParameter("give flags, or '-' for a CheckRequest on stdin")
    return asking.request_from_flags(
        asking.Asked(
            principal, user, service, method, path, host, source_ip,
            _pairs("--header", headers), _pairs("--claim", claims), _pairs("--context", context),
        )
    )  # fmt: skip


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{option} {text!r}: write NAME=VALUE")
        # As HTTP has it: a header sent twice is one with both values (RFC 9110 section 5.2).
        pairs[name] = f"{pairs[name]},{value}" if name in pairs else value
    return pairs
