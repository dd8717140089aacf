"""Where a fault of the settings stands in its file, shown as a policy's faults are."""

import re
from pathlib import Path

from meshwarden.cli.excerpts import Lines, complain_under
from meshwarden.cli.output import complain
from meshwarden.errors import ConfigError, ConfigFault

__all__ = ["complain_of_settings", "line_of"]

_TABLE = re.compile(r"\s*\[\[?(?P<name>[^\]]+)\]")
_KEY = re.compile(r"\s*(?P<name>(?:[\w.-]+|\"[^\"]*\"|'[^']*'|\s*\.\s*)+?)\s*=")
# As tomllib says where it stopped.
_AT = re.compile(r" \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)")


def complain_of_settings(error: ConfigError) -> None:
    """Print every fault on stderr, with its line and a caret where it is from a file."""
    for fault in error.faults:
        lines = _lines_of(fault)
        number, column, word = _found(fault, lines)
        if not number:
            complain(str(fault))
            continue
        # The line says the same and more.
        message = _AT.sub("", fault.message) if column else fault.message
        said = ": ".join(part for part in (fault.key, message) if part)
        complain(f"{fault.where}:{number}: {said}")
        # A value that the message quotes is what is meant; else the key is.
        complain_under(lines[number - 1], f"{fault.message} '{word}'", column)


def line_of(fault: ConfigFault) -> int:
    """The line of a fault in its file; 0 where it has none."""
    return _found(fault, _lines_of(fault))[0]


def _lines_of(fault: ConfigFault) -> list[str]:
    path = Path(fault.where)
    if not path.is_file():
        return []
    return Lines(path.parent).every(path.name)


def _found(fault: ConfigFault, lines: list[str]) -> tuple[int, int, str]:
    """The line, the column if the reader of TOML told it, and the word that is meant."""
    if fault.key:
        return _of_key(fault.key, lines)
    stopped = _AT.search(fault.message)
    if stopped is None or not lines:
        return 0, 0, ""
    if stopped["line"] is None:
        last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=0)
        return last, len(lines[last - 1].rstrip()) + 1 if last else 0, ""
    return min(int(stopped["line"]), len(lines)), int(stopped["column"]), ""


def _of_key(wanted: str, lines: list[str]) -> tuple[int, int, str]:
    """The last line that sets a key, or else the table or the key that it is within."""
    found, length = (0, 0, ""), 0
    table = ""
    for number, line in enumerate(lines, 1):
        if header := _TABLE.match(line):
            table = _plain(header["name"])
            key, word = table, header["name"].strip()
        elif assigned := _KEY.match(line):
            key, word = _joined(table, _plain(assigned["name"])), assigned["name"].strip()
        else:
            continue
        is_within = wanted == key or wanted.startswith(f"{key}.")
        if is_within and len(key) >= length:
            found, length = (number, 0, word), len(key)
    return found


def _joined(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key


def _plain(name: str) -> str:
    return re.sub(r"\s*\.\s*", ".", name.strip()).replace('"', "").replace("'", "")
