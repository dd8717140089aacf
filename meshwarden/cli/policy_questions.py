"""`meshwarden policy plan`, `who-can` and `what-can`: questions to a policy without a request."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import PLACE, Form, complain, show, show_data, styled, table
from meshwarden.cli.policies import Folder, Revision, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.policy.queries import Grant

__all__ = ["plan", "what_can", "who_can"]

_WHEN_INDEX = 5  # Of the mesh model's p: who, service, method, path, eft, when.


def plan(
    folder: Folder = None,
    revision: Revision = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Tell for each matcher which terms are looked up in an index and which are tried one by one.

    Warns of what costs more with each rule.
    """
    plans = choose(config, folder, "FOLDER", revision).policy.snapshot.plan()
    if output.is_data:
        show_data(plans, output)
        return
    for each in plans:
        for number, branch in enumerate(each.branches, 1):
            way = f", way {number} of {len(each.branches)}" if len(each.branches) > 1 else ""
            show(styled((f"{each.matcher}{way}", "bold")))
            rows = [(term.how, term.text, term.by) for term in branch]
            show(table(("", "", ""), rows))
        for warning in each.warnings:
            complain(warning, prefix="warning: ")


def who_can(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Folder = None,
    service: Annotated[
        str,
        typer.Option(metavar="NAME", help="Service that is called."),
    ] = "",
    method: Annotated[str, typer.Option(metavar="NAME", help="HTTP method.")] = "GET",
    path: Annotated[
        str,
        typer.Option(metavar="PATH", help="Path in its normal form."),
    ] = "/",
    revision: Revision = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List the rules about a service, method and path, and whom they speak of."""
    _ask(
        {"service": service, "method": method.upper(), "path": path},
        "who",
        folder,
        revision,
        config,
        output,
    )


def what_can(  # noqa: PLR0913, PLR0917 - each is an option
    folder: Folder = None,
    principal: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Caller's SPIFFE ID, such as td/ns/shop/sa/web.",
        ),
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            metavar="ISSUER/SUBJECT",
            help="End user, as a verified token has it.",
        ),
    ] = "",
    revision: Revision = None,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """List the rules that speak of a caller, by name or by role."""
    known = {
        "who": principal.removeprefix("spiffe://"),
        "user": f"user:{user.removeprefix('user:')}" if user else "",
    }
    _ask(known, "what", folder, revision, config, output)


def _ask(  # noqa: PLR0913, PLR0917 - each is an option
    known: "Mapping[str, Any]",
    question: str,
    folder: Path | None,
    revision: int | None,
    config: Path | None,
    output: Form,
) -> None:
    from meshwarden.errors import NoVerdictError  # noqa: PLC0415

    asked = choose(config, folder, "FOLDER", revision)
    snapshot = asked.policy.snapshot
    try:
        grants = snapshot.who_can(known) if question == "who" else snapshot.what_can(known)
    except KeyError as error:
        raise NoVerdictError(
            f"{error.args[0]}; this question is for the built-in mesh model"
        ) from error
    if output.is_data:
        show_data([_as_dict(grant) for grant in grants], output)
    elif not grants:
        show("no rule speaks of it: denied")
    else:
        rows = [
            (
                grant.rule.effect,
                *grant.rule.values[: _WHEN_INDEX - 1],
                ", ".join(grant.members),
                grant.rule.values[_WHEN_INDEX],
                grant.rule.where,
            )
            for grant in grants
        ]
        head = ("", "who", "service", "method", "path", "members", "when", PLACE)
        show(table(head, rows))


def _as_dict(grant: "Grant") -> dict[str, object]:
    rule = grant.rule
    return {
        "effect": rule.effect,
        "rule": rule.where,
        "values": rule.values,
        "left": grant.left,
        "members": grant.members,
    }
