"""`meshwarden policy diff`: what a new policy lets in that the old one kept out, with the proof."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshwarden.cli.excerpts import told_under_lines
from meshwarden.cli.options import ConfigFile, Output
from meshwarden.cli.output import Form, show_data
from meshwarden.cli.policy_effects import (
    SECONDS,
    build,
    compared,
    differs,
    plain,
    print_difference,
)
from meshwarden.cli.policy_place import Place, named_policy

if TYPE_CHECKING:
    from authz.check import ActivePolicy
    from authz.policy.rules import PolicyText

__all__ = ["diff"]

_DIFFERS = 1
_LIVE = "live"


def diff(  # noqa: PLR0913, PLR0917 - each is an option
    first: Annotated[
        str,
        typer.Argument(
            metavar="[OLD]",
            help="The policy before: a folder, a revision's number, or 'live'; the live one unless "
            "given.",
            show_default=False,
        ),
    ],
    second: Annotated[
        str | None,
        typer.Argument(metavar="NEW", help="The policy after, likewise.", show_default=False),
    ] = None,
    exit_code: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--exit-code", help="Exit with 1 on any difference in effect.")
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds", min=0, metavar="NUMBER", help="How long to look for requests; 0 is no end."
        ),
    ] = SECONDS,
    config: ConfigFile = None,
    output: Output = Form.HUMAN,
) -> None:
    """Compare two policies by rule and by effect, with a request that shows each effect.

    `policy diff OLD NEW` compares two folders or revisions, `policy diff FOLDER` the running
    service's policy with a folder: what `policy apply` would do. A folder whose name is a number
    is written ./3.

    What was denied and is now allowed comes first. Each request has been decided under both
    policies, as `meshwarden check` does it. Where none was found, there may be an effect all the
    same.

    Exits with 1 when something that was denied is now allowed, or --seconds were too few to look
    into every change; with --exit-code also for what was allowed and is now denied, for another
    model and for another order where that decides; with 2 on a fault.
    """
    names = (_LIVE, first) if second is None else (first, second)
    places = [named_policy(config, name) for name in names]

    def read() -> "tuple[tuple[PolicyText, ActivePolicy], tuple[PolicyText, ActivePolicy]]":
        old, new = map(_ready, places)
        return old, new

    difference = compared(read, places[0].settings, seconds)
    if not output.is_data:
        print_difference(difference, places[1].folder)
    else:
        show_data(plain(difference), output)
    if difference.widened or difference.unsearched or (exit_code and differs(difference)):
        raise typer.Exit(_DIFFERS)


def _ready(place: Place) -> "tuple[PolicyText, ActivePolicy]":
    """One of the two policies, as text and ready to decide.

    Raises:
        Exit: It has faults; they are shown.
    """
    with told_under_lines(place.folder):
        return place.text, build(place.text, place.settings)
