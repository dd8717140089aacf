"""How commands print: for people, or as JSON for programs.

People get colour where their terminal has it. What goes to a file or a pipe has none, and no line
of it is wrapped or cut: a digest must arrive whole.
"""

import enum
import io
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ALLOWED", "DENIED", "FAULT", "Form", "complain", "show", "show_json", "styled", "table"]

# Exit codes: a script must tell a denial from a fault.
ALLOWED = 0
DENIED = 1
FAULT = 2

# Wide enough for any one line; files and pipes have no width.
_UNBOUNDED = 100_000


class Form(enum.StrEnum):
    """What -o takes."""

    HUMAN = "human"
    JSON = "json"


def show_json(value: object) -> None:
    """Print one value as indented JSON; paths and the like as their text."""
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    typer.echo(text.decode())


def show(*parts: "RenderableType") -> None:
    """Print for people; Rich markup in plain text is not read."""
    # Rich takes 0.1 s to import: a command that prints JSON need not wait for it.
    from rich.console import Console  # noqa: PLC0415

    out = io.StringIO()
    is_terminal = sys.stdout.isatty()
    # Rich reads NO_COLOR, TERM and COLUMNS itself.
    console = Console(
        file=out,
        force_terminal=is_terminal,
        width=None if is_terminal else _UNBOUNDED,
        markup=False,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        console.print(part)
    # Rich fills each row of a table to its width.
    typer.echo("\n".join(line.rstrip() for line in out.getvalue().splitlines()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    """Lay out rows in columns; what is too long for a terminal goes on below, uncut."""
    from rich.table import Table  # noqa: PLC0415

    made = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(head)
    )
    for index, name in enumerate(head):
        # What a row is called stays whole; the other columns share what is left.
        made.add_column(name, overflow="fold", no_wrap=index == 0)
    for row in rows:
        made.add_row(*row)
    return made


def styled(*parts: str | tuple[str, str]) -> "RenderableType":
    """Put text together, parts of it with a style."""
    from rich.text import Text  # noqa: PLC0415

    return Text.assemble(*parts)


def complain(message: str, prefix: str = "meshwarden: ") -> None:
    """Print what went wrong on stderr; a list of faults is one line each."""
    for line in message.splitlines():
        typer.echo(f"{prefix}{line}", err=True)
