"""`meshwarden check`: may this request pass, and by which rule."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.options import ConfigFile, Output, load_settings
from meshwarden.cli.output import DENIED, Form, show, show_data, styled, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from meshwarden.cli.asking import Answer

__all__ = ["check"]

Pairs = list[str]
_REQUEST = "The request"
_ASKED = "Whom to ask"


def check(  # noqa: PLR0913 - each is an option
    request: Annotated[
        str | None,
        typer.Argument(
            metavar="[-]",
            show_default=False,
            help="'-' reads a CheckRequest as JSON from stdin, in place of the flags.",
        ),
    ] = None,
    *,
    principal: Annotated[
        str,
        typer.Option(
            rich_help_panel=_REQUEST,
            metavar="ID",
            help="Caller's SPIFFE ID, such as td/ns/shop/sa/web.",
        ),
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            rich_help_panel=_REQUEST,
            metavar="ISSUER/SUBJECT",
            help="End user, as a verified token has it.",
        ),
    ] = "",
    service: Annotated[
        str, typer.Option(rich_help_panel=_REQUEST, metavar="NAME", help="Service that is called.")
    ] = "",
    method: Annotated[
        str, typer.Option(rich_help_panel=_REQUEST, metavar="NAME", help="HTTP method.")
    ] = "GET",
    path: Annotated[
        str, typer.Option(rich_help_panel=_REQUEST, metavar="PATH", help="Path, with its query.")
    ] = "/",
    host: Annotated[
        str,
        typer.Option(rich_help_panel=_REQUEST, metavar="NAME", help="Host or :authority header."),
    ] = "",
    header: Annotated[
        Pairs,
        typer.Option(
            rich_help_panel=_REQUEST, metavar="NAME=VALUE", help="Request header; may be repeated."
        ),
    ] = [],  # noqa: B006 - never changed
    claim: Annotated[
        Pairs,
        typer.Option(
            rich_help_panel=_REQUEST,
            metavar="NAME=VALUE",
            help="Claim of the user's token; likewise.",
        ),
    ] = [],  # noqa: B006
    context: Annotated[
        Pairs,
        typer.Option(
            rich_help_panel=_REQUEST, metavar="NAME=VALUE", help="Context extension; likewise."
        ),
    ] = [],  # noqa: B006
    source_ip: Annotated[
        str, typer.Option(rich_help_panel=_REQUEST, metavar="IP", help="Caller's address.")
    ] = "",
    policy: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_ASKED, metavar="FOLDER", help="Policy to ask; else as configured."
        ),
    ] = None,
    server: Annotated[
        str,
        typer.Option(
            rich_help_panel=_ASKED,
            metavar="HOST:PORT",
            help="Ask a running service in place of a policy.",
        ),
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_ASKED, metavar="FILE", help="The service's authority; without, no TLS."
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_ASKED, metavar="FILE", help="Certificate to show the service."
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(rich_help_panel=_ASKED, metavar="FILE", help="Its key.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            rich_help_panel=_ASKED,
            min=0.01,
            metavar="SECONDS",
            help="Longest wait for the service.",
        ),
    ] = 5.0,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Tell whether a request may pass, and by which rule.

    Exits with 0 when it is allowed, 1 when it is denied, 2 on a fault.
    """
    # gRPC and the engine take a while to import: only this command pays for them.
    from meshwarden.cli import asking  # noqa: PLC0415

    if request not in {None, "-"}:
        raise typer.BadParameter("give flags, or '-' for a CheckRequest on stdin")
    if request == "-":
        message = asking.request_from_json(sys.stdin.buffer.read())
    else:
        message = asking.request_from_flags(
            asking.Asked(
                principal, user, service, method, path, host, source_ip,
                _pairs("--header", header), _pairs("--claim", claim), _pairs("--context", context),
            )
        )  # fmt: skip
    if server:
        if policy is not None:
            raise typer.BadParameter("--policy and --server are two different ones to ask")
        answer = asking.ask_server(message, server, asking.Tls(ca, cert, key), timeout)
    else:
        settings = load_settings(config, {"policy.path": ("--policy", policy)}).settings
        answer = asking.ask_here(message, settings)
    if output.is_data:
        show_data(answer, output)
    else:
        show(*_lines(answer))
    if not answer.allowed:
        raise typer.Exit(DENIED)


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{option} {text!r}: write NAME=VALUE")
        # As HTTP has it: a header sent twice is one with both values (RFC 9110 section 5.2).
        pairs[name] = f"{pairs[name]},{value}" if name in pairs else value
    return pairs


def _lines(answer: "Answer") -> "list[RenderableType]":
    word, style = ("ALLOWED", "bold green") if answer.allowed else ("DENIED", "bold red")
    lines: list[RenderableType] = [styled((f"{word} {answer.status}", style), f"  {answer.reason}")]
    rows = []
    if answer.rule:
        rows.append(("rule", answer.rule))
        if answer.rule_text:
            rows.append(("", answer.rule_text))
    rows += [(name.replace("_", " "), value) for name, value in answer.request.items() if value]
    rows += [("raised", where) for where in answer.faults]
    rows += [("policy", answer.digest), ("decision", answer.id)]
    lines.append(table(("", ""), rows))
    if answer.misses:
        lines += [styled("nearest misses"), *(f"  {miss}" for miss in answer.misses)]
    return lines
