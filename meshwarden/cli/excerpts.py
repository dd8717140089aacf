"""Lines of policy as people are shown them: with a caret, within the terminal's width.

Thousands of findings are printed at once, so this writes plain text by itself.
"""

import dataclasses
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from meshwarden.cli.output import FAULT, complain
from meshwarden.plain_text import plain

if TYPE_CHECKING:
    from authz.authoring.findings import Finding, Place
    from authz.policy.errors import PolicyError
    from meshwarden.errors import CaseFileError

__all__ = ["Lines", "Paper", "complain_of", "complain_under", "quoted", "told_under_lines"]

_INDENT = "    "
_NARROWEST = 40
# In files and pipes nothing is cut but what nobody reads.
_LONGEST = 2000
_PLACED = re.compile(r"(?P<file>[^:\n]+):(?P<line>\d+): (?P<message>.*)", re.DOTALL)
_QUOTED = re.compile(r"'([^']+)'|\"([^\"]+)\"")


def quoted(line: str, message: str) -> tuple[int, int] | None:
    """The columns of the first word of a line that a message quotes."""
    for single, double in _QUOTED.findall(message):
        word = single or double
        if word in line:
            at = line.index(word) + 1
            return at, at + len(word)
    return None


def _value(finding: "Finding") -> str:
    """The value that a finding is about, as its rule has it; "" where it is about none."""
    from authz.policy.csv_rows import parse_line  # noqa: PLC0415

    try:
        return parse_line(finding.text)[finding.field + 1] if finding.field >= 0 else ""
    except (ValueError, IndexError):
        return ""


class Lines:
    """The files of a policy folder, read again for their lines.

    Args:
        folder: The policy's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[str]] = {}

    def of(self, place: "Place") -> str:
        """One line as it stands in its file; "" where it can't be had."""
        return self.text(place.file, place.line)

    def path(self, file: str) -> Path:
        """A file as a terminal can open it."""
        return self._folder / file

    def text(self, file: str, line: int) -> str:
        """One line of a file; "" where it can't be had."""
        if not file or not line:
            return ""
        known = self.every(file)
        return known[line - 1] if line <= len(known) else ""

    def every(self, file: str) -> list[str]:
        """Every line of a file; none where it can't be had."""
        known = self._files.get(file)
        if known is None:
            try:
                text = (self._folder / file).read_text(encoding="utf-8", errors="replace")
            except OSError:
                text = ""
            # As the lines were counted: a form feed within a value ends none.
            text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
            known = self._files[file] = text.split("\n")
        return known

    def located(self, finding: "Finding") -> "Finding":
        """The finding with the columns of what it is about."""
        from authz.authoring.findings import columns_of  # noqa: PLC0415

        line = self.of(finding.place)
        if not line.strip():
            return finding
        start, end = columns_of(line, finding.field)
        # In YAML a value has no place among commas, if it stands on this line at all.
        if finding.field < 0 or finding.place.file.endswith(".yaml"):
            words = (finding.message, f"'{_value(finding)}'")
            start, end = next(filter(None, (quoted(line, each) for each in words)), (start, end))
        place = dataclasses.replace(finding.place, column=start, end_column=end)
        return dataclasses.replace(finding, place=place)

    def uri(self, file: str) -> str:
        """A file as code review names it: from the folder that the command runs in."""
        path = self._folder / file
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return path.as_uri() if path.is_absolute() else path.as_posix()


class Paper:
    """Collects what is to be printed; colours and width are the terminal's, if it is one.

    Args:
        out: Where it is printed: stdout unless told otherwise.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        is_terminal = self._out.isatty()
        # no-color.org: any value but an empty one.
        self._coloured = is_terminal and not os.environ.get("NO_COLOR")
        self.width = max(_NARROWEST, shutil.get_terminal_size().columns) if is_terminal else 0
        self._lines: list[str] = []

    def styled(self, text: str, colour: str) -> str:
        """Text in a colour, and bold."""
        text = plain(text)
        return typer.style(text, fg=colour, bold=True) if self._coloured else text

    def bold(self, text: str) -> str:
        """Text that stands out."""
        text = plain(text)
        return typer.style(text, bold=True) if self._coloured else text

    def faint(self, text: str) -> str:
        """Text that stands back."""
        text = plain(text)
        return typer.style(text, dim=True) if self._coloured else text

    def line(self, *parts: str) -> None:
        """Add a line of parts that a space or two set apart; what is in them is plain already."""
        self._lines.append("  ".join(parts))

    def wrapped(
        self,
        text: str,
        indent: str = "",
        *,
        first: tuple[str, str] | None = None,
    ) -> None:
        """Add a text, over several lines where the terminal is narrow.

        Args:
            text: The text.
            indent: What each line begins with; the lines after the first two spaces deeper.
            first: How the text begins, and in what colour to show that.
        """
        text = plain(text)
        lines = [indent + text]
        if self.width:
            lines = textwrap.wrap(
                text,
                self.width,
                initial_indent=indent,
                subsequent_indent=indent + "  ",
                break_on_hyphens=False,
            )
        if first is not None:
            sign, colour = first
            at = len(indent) + len(sign)
            lines[0] = indent + self.styled(sign, colour) + lines[0][at:]
        self._lines += lines

    def excerpt(self, line: str, column: int, end_column: int) -> None:
        """Add a line of policy with a caret under what is meant; cut where it is too long."""
        if not line.strip():
            return
        shown = "".join(each if each.isprintable() else " " for each in line.rstrip())
        at, length = max(0, column - 1), max(1, end_column - column)
        room = (self.width or _LONGEST) - len(_INDENT)
        start = 0
        if len(shown) > room:
            # What is meant stays in sight, with some of what stands before it.
            start = max(0, min(at - room // 3, len(shown) - room))
            shown = shown[start : start + room]
            if start:
                shown = "…" + shown[1:]
        carets = "^" * min(length, room - (at - start))
        self._lines.append(_INDENT + shown)
        if column:
            self._lines.append(_INDENT + " " * (at - start) + self.styled(carets, "red"))

    def print(self) -> None:
        """Print it all."""
        if self._lines:
            typer.echo("\n".join(self._lines), file=self._out)


@contextmanager
def told_under_lines(folder: Path | str | None) -> Iterator[None]:
    """End with 2 on faults of a policy or its tests, and show every one under its line.

    Args:
        folder: The policy's folder; None or "" where it came from elsewhere.

    Raises:
        Exit: There are some.
    """
    from authz.policy.errors import PolicyError  # noqa: PLC0415
    from meshwarden.errors import CaseFileError  # noqa: PLC0415

    try:
        yield
    except (PolicyError, CaseFileError) as error:
        complain_of(error, folder)
        raise typer.Exit(FAULT) from None


def complain_of(
    faults: "PolicyError | CaseFileError | Iterable[str]", folder: Path | str | None
) -> None:
    """Print every fault of a policy on stderr, with its line and a caret where that can be had.

    Args:
        faults: As the policy's error has them, or each as "file:line: message".
        folder: The policy's folder; None or "" where it came from elsewhere.
    """
    told = faults if isinstance(faults, Iterable) else faults.faults
    lines = Lines(Path(folder)) if folder else None
    for fault in told:
        placed = _PLACED.fullmatch(str(fault))
        if lines is None or placed is None:
            complain(str(fault))
            continue
        file, number, message = placed["file"], int(placed["line"]), placed["message"]
        complain(f"{lines.path(file)}:{number}: {message}")
        complain_under(lines.text(file, number), message)


def complain_under(line: str, message: str, column: int = 0) -> None:
    """Print a line on stderr, with a caret under what a message says of it.

    Args:
        line: As it stands in its file.
        message: What it quotes is what is meant; else that is the line as a whole.
        column: What is meant, from 1, if that is known better.
    """
    start = len(line) - len(line.lstrip()) + 1
    meant = quoted(line, message) or (start, len(line.rstrip()) + 1)
    paper = Paper(sys.stderr)
    paper.excerpt(line, *((column, column + 1) if column else meant))
    paper.print()
