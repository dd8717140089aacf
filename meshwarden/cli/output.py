"""How commands print: for people, or as JSON or YAML for programs.

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

from meshwarden.plain_text import is_plain, plain, plain_json, plain_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "ALLOWED",
    "DENIED",
    "FAULT",
    "PLACE",
    "Form",
    "complain",
    "echo_policy",
    "json_line",
    "show",
    "show_data",
    "styled",
    "table",
    "yaml_text",
]

PLACE = "written at"
"""The column of a table that says where each row's line of policy stands."""

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
    YAML = "yaml"

    @property
    def is_data(self) -> bool:
        """Whether a program reads it."""
        return self is not Form.HUMAN


def show_data(value: object, form: Form) -> None:
    """Print one value for a program; paths and the like as their text."""
    if form is Form.YAML:
        typer.echo(yaml_text(value), nl=False)
    else:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
        typer.echo(plain_json(text.decode()))


def json_line(value: object) -> str:
    """Write one value as JSON on one line, as streams have it."""
    return plain_json(msgspec.json.encode(value, enc_hook=str).decode())


def echo_policy(text: str) -> None:
    """Print lines of policy as they are, to be read again; on a terminal nobody does that."""
    typer.echo(plain_lines(text) if sys.stdout.isatty() else text, nl=False)


def yaml_text(value: object) -> str:
    """Write one value as YAML that says exactly what its JSON does, keys in the same order."""
    import yaml  # noqa: PLC0415 - JSON need not wait for it

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Writes a value out wherever it stands: no anchors."""

        def ignore_aliases(self, data: object) -> bool:
            """Never refer back."""
            del data
            return True

    encoded = msgspec.json.encode(value, enc_hook=str)
    # A line is not folded: what greps it finds it whole.
    text: str = yaml.dump(
        msgspec.json.decode(encoded),
        Dumper=Dumper,
        allow_unicode=is_plain(encoded.decode()),
        sort_keys=False,
        width=_UNBOUNDED,
    )
    return text


def show(*parts: "RenderableType") -> None:
    """Print for people; Rich markup in plain text is not read, nor what steers a terminal."""
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
        console.print(plain_lines(part) if isinstance(part, str) else part)
    # Rich fills each row of a table to its width.
    typer.echo("\n".join(line.rstrip() for line in out.getvalue().splitlines()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> "RenderableType":
    """Lay out rows in columns; what is too long for a terminal goes on below, uncut."""
    from rich.table import Table  # noqa: PLC0415

    made = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(head)
    )
    for index, name in enumerate(head):
        # What a row is called and where it stands stay whole: half of "policy.csv:10" is another
        # place. The other columns share what is left.
        is_whole = index == 0 or name == PLACE
        made.add_column(name, overflow="fold", no_wrap=is_whole)
    for row in rows:
        made.add_row(*map(plain_lines, row))
    return made


def styled(*parts: str | tuple[str, str]) -> "RenderableType":
    """Put text together, parts of it with a style."""
    from rich.text import Text  # noqa: PLC0415

    return Text.assemble(
        *(
            plain_lines(part) if isinstance(part, str) else (plain_lines(part[0]), part[1])
            for part in parts
        )
    )


def complain(message: str, prefix: str = "meshwarden: ") -> None:
    """Print what went wrong on stderr; a list of faults is one line each."""
    for line in message.splitlines():
        typer.echo(f"{prefix}{plain(line)}", err=True)
