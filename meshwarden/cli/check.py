"""`meshwarden check` and `meshwarden explain`: may this request pass, by which rule, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli import policies, request_options
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import DENIED, Form, show, show_data, styled, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from meshwarden.cli.asking import Answer
    from meshwarden.cli.explaining import Explained, RuleText

__all__ = ["check", "explain"]

_ASKED = "Whom to ask"
_SHOWN_DIGEST = 12
Policy = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=_ASKED, metavar="FOLDER", help="Policy to ask; else the live policy."
    ),
]
Revision = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=_ASKED,
        min=0,
        metavar="NUMBER",
        help="Revision to ask; 0 is the newest.",
    ),
]
Candidate = Annotated[
    str,
    typer.Option(
        rich_help_panel=_ASKED,
        metavar="FOLDER|NUMBER|shadow",
        help="Ask this one as well, and tell what it changes.",
    ),
]


def check(  # noqa: PLR0913 - each is an option
    request: request_options.Request = None,
    *,
    principal: request_options.Principal = "",
    user: request_options.User = "",
    service: request_options.Service = "",
    method: request_options.Method = "GET",
    path: request_options.Path = "/",
    host: request_options.Host = "",
    header: request_options.Headers = [],  # noqa: B006 - never changed
    claim: request_options.Claims = [],  # noqa: B006
    context: request_options.Context = [],  # noqa: B006
    source_ip: request_options.SourceIp = "",
    policy: Policy = None,
    revision: Revision = None,
    candidate: Candidate = "",
    server: Annotated[
        str,
        typer.Option(
            rich_help_panel=_ASKED,
            metavar="HOST:PORT",
            help="Call Check of a service there in place of deciding here.",
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

    The live policy is asked unless told otherwise: what the running service decides by, or would
    if it ran.

    Exits with 0 when it is allowed, 1 when it is denied, 2 on a fault; with --candidate 0 when both
    say the same, 1 when they differ.
    """
    # gRPC and the engine take a while to import: only this command pays for them.
    from meshwarden.cli import asking, explaining  # noqa: PLC0415

    message = request_options.request_from(
        request, principal, user, service, method, path, host, header, claim, context, source_ip
    )
    if server:
        if policy is not None or revision is not None or candidate:
            raise typer.BadParameter("a policy and --server are two different ones to ask")
        answer = asking.ask_server(message, server, asking.Tls(ca, cert, key), timeout)
    else:
        answer = explaining.ask(message, policies.choose(config, policy, "--policy", revision))
    if candidate:
        other = explaining.ask(message, policies.candidate_policy(config, candidate))
        if output.is_data:
            show_data(_both(answer, other, answer, other), output)
        else:
            show(*_compared(answer, other))
        _end(is_well=answer.allowed == other.allowed)
    if output.is_data:
        show_data(answer, output)
    else:
        show(*_lines(answer))
    _end(is_well=answer.allowed)


def explain(  # noqa: PLR0913 - each is an option
    request: request_options.Request = None,
    *,
    principal: request_options.Principal = "",
    user: request_options.User = "",
    service: request_options.Service = "",
    method: request_options.Method = "GET",
    path: request_options.Path = "/",
    host: request_options.Host = "",
    header: request_options.Headers = [],  # noqa: B006 - never changed
    claim: request_options.Claims = [],  # noqa: B006
    context: request_options.Context = [],  # noqa: B006
    source_ip: request_options.SourceIp = "",
    policy: Policy = None,
    revision: Revision = None,
    candidate: Candidate = "",
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Tell all about a verdict: each rule that matches, the role path, and the nearest misses.

    The live policy is asked unless told otherwise: what the running service decides by, or would
    if it ran.

    Exits as `meshwarden check` does: with 0 when it is allowed, 1 when it is denied, 2 on a fault;
    with --candidate 0 when both say the same, 1 when they differ.
    """
    from meshwarden.cli import explaining  # noqa: PLC0415 - likewise

    message = request_options.request_from(
        request, principal, user, service, method, path, host, header, claim, context, source_ip
    )
    found = explaining.explain(message, policies.choose(config, policy, "--policy", revision))
    if candidate:
        other = explaining.explain(message, policies.candidate_policy(config, candidate))
        if output.is_data:
            show_data(_both(found, other, found.answer, other.answer), output)
        else:
            show(*_compared(found.answer, other.answer))
            show("", *_explained(found, _title(found.answer, "policy")))
            show("", *_explained(other, _title(other.answer, "candidate")))
        _end(is_well=found.answer.allowed == other.answer.allowed)
    if output.is_data:
        show_data(found, output)
    else:
        show(*_lines(found.answer, found), *_explained(found))
    _end(is_well=found.answer.allowed)


def _end(*, is_well: bool) -> None:
    raise typer.Exit(0 if is_well else DENIED)


def _word(answer: "Answer") -> tuple[str, str]:
    word, style = ("ALLOWED", "bold green") if answer.allowed else ("DENIED", "bold red")
    return f"{word} {answer.status}", style


def _lines(answer: "Answer", explained: "Explained | None" = None) -> "list[RenderableType]":
    lines: list[RenderableType] = [styled(_word(answer), f"  {answer.reason}")]
    rows = []
    if answer.rule:
        rows.append(("rule", answer.rule))
        if answer.rule_text:
            rows.append(("", answer.rule_text))
    if explained is not None and explained.role_path:
        rows.append(("role path", " -> ".join(explained.role_path)))
    rows += [(name.replace("_", " "), value) for name, value in answer.request.items() if value]
    rows += [("raised", where) for where in answer.faults]
    rows.append(("policy", answer.digest))
    if answer.source:
        rows.append(("", _whence(answer)))
    # A decision made here is in nobody's log.
    if not answer.source:
        rows.append(("decision", answer.id))
    lines.append(table(("", ""), rows))
    if explained is None and answer.misses:
        lines += [styled("nearest misses"), *(f"  {miss}" for miss in answer.misses)]
    return lines


def _whence(answer: "Answer") -> str:
    return f"live, {answer.source}" if answer.live else answer.source


def _explained(found: "Explained", title: str = "") -> "list[RenderableType]":
    lines: list[RenderableType] = [styled((title, "bold"))] if title else []
    if title and found.role_path:
        lines.append(f"role path  {' -> '.join(found.role_path)}")
    if found.matching:
        lines += [styled(("matching rules", "bold"), ", in the order in which they count")]
        lines.append(_rules(found.matching, found.answer.rule))
    else:
        lines.append(styled(("no rule matches", "bold")))
    if found.nearest:
        lines.append(styled(("nearest misses", "bold")))
        for each in found.nearest:
            lines.append(f"  {each.rule}  {each.text}".rstrip())
            lines.append(styled(("      " + each.reason, "yellow")))
    return lines


def _rules(rules: "Sequence[RuleText]", deciding: str) -> "RenderableType":
    rows = [
        ("  *" if each.rule == deciding and deciding else "", each.effect, each.rule, each.text)
        for each in rules
    ]
    return table(("", "", "", ""), rows)


def _title(answer: "Answer", name: str) -> str:
    return f"{name} {answer.digest[:_SHOWN_DIGEST]} ({_whence(answer)})"


def _compared(one: "Answer", other: "Answer") -> "list[RenderableType]":
    """Both verdicts side by side; what a candidate lets in is what a reader looks for."""
    if one.allowed == other.allowed:
        said = [styled(_word(one), "  the candidate says the same")]
    else:
        does = "lets it in" if other.allowed else "keeps it out"
        said = [styled(_word(one), " -> ", _word(other), f"  the candidate {does}")]
    rows = [
        ("verdict", _word(one)[0], _word(other)[0]),
        ("reason", one.reason, other.reason),
        ("rule", one.rule, other.rule),
        ("", one.rule_text, other.rule_text),
        ("nearest", "\n".join(one.misses), "\n".join(other.misses)),
        ("raised", "\n".join(one.faults), "\n".join(other.faults)),
        ("policy", one.digest[:_SHOWN_DIGEST], other.digest[:_SHOWN_DIGEST]),
        ("from", _whence(one), _whence(other)),
    ]
    shown = [row for row in rows if row[1] or row[2]]
    return [*said, table(("", "live" if one.live else "policy", "candidate"), shown)]


def _both(
    one: object, other: object, answer: "Answer", other_answer: "Answer"
) -> dict[str, object]:
    change = {(True, False): "allow->deny", (False, True): "deny->allow"}
    return {
        "change": change.get((answer.allowed, other_answer.allowed), "none"),
        "policy": one,
        "candidate": other,
    }
