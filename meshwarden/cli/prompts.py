"""Questions before what is hard to undo: asked on a terminal, never of a script."""

import sys
from typing import Annotated

import typer

from meshwarden.cli.output import DENIED, FAULT, complain

__all__ = ["Yes", "confirm"]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def confirm(question: str, *, yes: bool) -> None:
    """Go on only where somebody wants it.

    The question goes to stderr, so that what a command prints can be piped while it asks.

    Args:
        question: What is about to be done, as a question.
        yes: It was answered beforehand, by --yes.

    Raises:
        Exit: With 1 when the answer is no; with 2 when nobody is there to answer.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        complain(f"{question} Nobody is at a terminal to say so: give --yes")
        complain("nothing was changed")
        raise typer.Exit(FAULT)
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        # The end of input, as by Ctrl-D: the line of the question is still open.
        typer.echo(err=True)
    if answer.strip().lower() not in {"y", "yes"}:
        complain("nothing was changed")
        raise typer.Exit(DENIED)
