"""Lines put into the CSV files of a policy folder or taken out of them; all else stays as it is.

A file is replaced by one rename, so whoever reads the folder sees the old file or the new one.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from authz.authoring.edits import Edit, EditError
from authz.policy.csv_rows import parse_line, write_line
from authz.policy.rules import PolicyText, Row

__all__ = ["file_for", "write_edit"]

_DEFAULT = "policy.csv"
_LINE_END = re.compile(r"(\r\n|\r|\n)")
_BYTE_ORDER_MARK = "\ufeff"


def file_for(text: PolicyText, row: Row) -> str:
    """Choose the file that a new row fits in best: where the row stands that is most like it.

    Returns:
        Its name within the folder; policy.csv where no file has such rows yet.
    """
    best, name = -1, _DEFAULT
    for other in text.rows:
        if other.ptype[0] != row.ptype[0] or not other.file.endswith(".csv"):
            continue
        alike = sum(mine == its for mine, its in zip(row.values, other.values, strict=False))
        if alike >= best:
            best, name = alike, other.file
    return name


def write_edit(folder: Path, edit: Edit, file: str) -> list[str]:
    """Bring an edit into the files of a folder.

    Args:
        folder: The policy's folder.
        edit: Made upon what was read of that folder.
        file: Where added rows go, at its end; it is made where there is none.

    Returns:
        The names of the files that were written.

    Raises:
        EditError: A file is not as it was read, or is none that this can write.
        OSError: The disk is full or read-only; no file is half written.
    """
    changed: dict[str, _File] = {}
    for row in edit.removed:
        if not row.file.endswith(".csv"):
            raise EditError(
                f"{row.file or 'api'}:{row.line}: only *.csv files are edited; take it out by hand"
            )
        changed.setdefault(row.file, _File.read(folder, row.file)).remove(row)
    for row in edit.added:
        changed.setdefault(file, _File.read(folder, file)).append(row)
    for each in changed.values():
        each.write()
    return sorted(changed)


@dataclass(slots=True)
class _File:
    """One file as text; None marks a line that goes away.

    Attributes:
        name: As messages name it.
        path: Where it really is: a link stays one.
        before: Its bytes; None where there is no file yet.
        lines: Each line, and the line end behind it.
    """

    name: str
    path: Path
    before: bytes | None
    lines: list[tuple[str, str] | None]

    @classmethod
    def read(cls, folder: Path, name: str) -> "_File":
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path.suffix != ".csv":
            raise EditError(f"{name} is no *.csv in the folder {folder}")
        before = path.read_bytes() if path.exists() else None
        try:
            parts = _LINE_END.split((before or b"").decode())
        except UnicodeDecodeError as error:
            raise EditError(f"{name} is not UTF-8") from error
        ends = [*parts[1::2], ""]
        return cls(name, path, before, list(zip(parts[::2], ends, strict=True)))

    def remove(self, row: Row) -> None:
        line = self.lines[row.line - 1] if row.line <= len(self.lines) else None
        if line is None or _parsed(line[0]) != [row.ptype, *row.values]:
            raise EditError(f"{self.name}:{row.line} was changed meanwhile; nothing was written")
        self.lines[row.line - 1] = None

    def append(self, row: Row) -> None:
        end = next((each[1] for each in self.lines if each and each[1]), "\n")
        last = self.lines.pop()
        # A last line without an end gets one, so that the new row has its own.
        if last is not None and last[0]:
            self.lines.append((last[0], end))
        self.lines += [(write_line(row), end), ("", "")]

    def write(self) -> None:
        text = "".join("".join(line) for line in self.lines if line is not None)
        if self.before is not None and self.before.startswith(_BYTE_ORDER_MARK.encode()):
            text = _BYTE_ORDER_MARK + text.removeprefix(_BYTE_ORDER_MARK)
        if (self.path.read_bytes() if self.path.exists() else None) != self.before:
            raise EditError(f"{self.name} was changed meanwhile; nothing was written")
        # A name with a dot in front is no policy: nobody reads it half written.
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with fresh.open("wb") as file:
                file.write(text.encode())
                _take_after(self.path, file.fileno())
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)


def _take_after(path: Path, descriptor: int) -> None:
    """Give a new file the mode and, where we may, the owner of the one whose place it takes."""
    if path.exists():
        status = path.stat()
        os.fchmod(descriptor, status.st_mode & 0o7777)
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, status.st_uid, status.st_gid)


def _parsed(line: str) -> Sequence[str]:
    try:
        return parse_line(line.removeprefix(_BYTE_ORDER_MARK))
    except ValueError:
        return ()
