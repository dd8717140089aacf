"""A policy written as a folder that says the same when it is read: all of it, or no folder.

The file names of a revision come from whoever applied it.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from adapters.policies.folder import Config, FolderSource
from authz.authoring.edits import EditError
from authz.policy.csv_rows import write_line
from authz.policy.errors import PolicyError
from authz.policy.files import is_passed_over
from authz.policy.rules import PolicyText, Row

__all__ = ["csv_lines", "write_folder"]

_DEFAULT_FILE = "policy.csv"
_MODEL_FILE = "model.conf"
_BUILT_IN = "mesh"
_NAME_BYTES = 255


def csv_lines(rows: Iterable[Row]) -> str:
    """Write rows as lines of policy.

    Raises:
        EditError: A row can't be written as one.
    """
    try:
        return "".join(write_line(row) + "\n" for row in rows)
    except ValueError as error:
        raise EditError(f"{error}; JSON and YAML can") from None


def write_folder(folder: Path, text: PolicyText) -> list[str]:
    """Write a policy as a folder, each row in the file that it came from where that can be.

    Args:
        folder: Where; nothing may be there.
        text: The policy.

    Returns:
        The files of rules, named from the folder.

    Raises:
        EditError: A row can't be written as a line of policy.
        OSError: The folder is there already, or can't be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made at once, so that two who export to one place don't both think it theirs.
    folder.mkdir()
    try:
        for names in (_names(text.rows), [_DEFAULT_FILE] * len(text.rows)):
            files = _write_beside(folder, text, names)
            if files is not None:
                return files
    except BaseException:
        folder.rmdir()
        raise
    folder.rmdir()
    raise EditError("no folder can hold this policy; -o json of 'policy get' can")


def _write_beside(folder: Path, text: PolicyText, names: Sequence[str]) -> list[str] | None:
    """Write everything beside the folder, and put it there if it is read as it was."""
    files: dict[str, list[Row]] = {}
    for name, row in zip(names, text.rows, strict=True):
        files.setdefault(name, []).append(row)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:100]}.", dir=folder.parent) as held:
        made = Path(held) / "made"
        made.mkdir()
        for name, rows in (files or {_DEFAULT_FILE: []}).items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(csv_lines(rows), encoding="utf-8")
        if text.model_file != _BUILT_IN:
            (made / _MODEL_FILE).write_text(text.model, encoding="utf-8")
        try:
            found = FolderSource(Config(made)).load()
        except PolicyError:
            return None
        if not _is_same(found, text):
            return None
        # An empty folder gives way to another one in one step.
        made.replace(folder)
    return list(files)


def _is_same(found: PolicyText, text: PolicyText) -> bool:
    """Whether what is read says what was written; only the built-in model never asks for order."""
    one, other = ([(row.ptype, row.values) for row in each.rows] for each in (found, text))
    if text.model_file == _BUILT_IN:
        return Counter(one) == Counter(other)
    return one == other


def _names(rows: Sequence[Row]) -> list[str]:
    """Where each row goes: where it came from, if that is a file of policy within the folder.

    A name that is also a folder's would be neither.
    """
    names = [_safe_name(row.file) for row in rows]
    folders = {str(above) for name in set(names) for above in PurePosixPath(name).parents}
    return [_DEFAULT_FILE if name in folders else name for name in names]


def _safe_name(file: str) -> str:
    path = PurePosixPath(file)
    is_safe = (
        path.suffix == ".csv"
        and not path.is_absolute()
        and file.isprintable()
        and not any(part == ".." or is_passed_over(part) for part in path.parts)
        and all(len(part.encode()) <= _NAME_BYTES for part in path.parts)
    )
    return str(path) if is_safe else _DEFAULT_FILE
