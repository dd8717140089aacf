"""Policy CSV to rows.

Casbin's dialect: comma-separated, trimmed, `#` starts a comment line. RFC 4180 quotes are
understood (a quoted field may hold commas and doubled quotes), and so are Casbin's unquoted
parentheses and brackets, inside which a comma does not separate.

Source: RFC 4180, section 2; Casbin's file adapter.
"""

from authz.policy.errors import Fault
from authz.policy.rules import Row

__all__ = ["parse_csv", "parse_line", "write_line"]

_UNUSUAL = frozenset('"()[]')
_OPENING = {"(": ")", "[": "]"}


def parse_csv(text: str, file: str) -> tuple[list[Row], list[Fault]]:
    """Read all rows of one file.

    Args:
        text: The file's text; a byte-order mark and CRLF line ends are understood.
        file: How rows and faults name the file.

    Returns:
        The rows that could be read, and a fault for each line that could not.
    """
    rows: list[Row] = []
    faults: list[Fault] = []
    # Not splitlines: U+2028 or a form feed inside a value does not end a line of policy.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            values = parse_line(line)
        except ValueError as error:
            faults.append(Fault(file, number, str(error)))
            continue
        if not values:
            continue
        if values[0][:1] not in {"p", "g"}:
            faults.append(
                Fault(file, number, f"a row starts with p or g, not {values[0][:40]!r}"),
            )
            continue
        rows.append(Row(values[0], tuple(values[1:]), file, number))
    return rows, faults


def parse_line(line: str) -> list[str]:
    """Split one line of policy.

    Returns:
        The trimmed fields; nothing for an empty line or a comment.

    Raises:
        ValueError: A quote or bracket is not closed, or text follows a closing quote.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    # Nearly every line is plain: no quotes or brackets, so no need to look at each character.
    if _UNUSUAL.isdisjoint(line):
        return [field.strip() for field in line.split(",")]
    fields: list[str] = []
    at = 0
    while True:
        field, at = _quoted(line, at) if _is_quoted(line, at) else _bare(line, at)
        fields.append(field)
        if at == len(line):
            return fields
        at += 1


def write_line(row: Row) -> str:
    """Write a row as the line that is parsed to it again, without a line end.

    Raises:
        ValueError: No line can hold it, as with a line end in a value.

    Example:
        >>> write_line(Row("p", ("a", "b, c")))
        'p, a, "b, c"'
    """
    line = ", ".join(map(_written, (row.ptype, *row.values)))
    # A last value that is empty needs its comma, which the join has written; the space is not.
    line = line.removesuffix(" ")
    if "\n" in line or "\r" in line or parse_line(line) != [row.ptype, *row.values]:
        raise ValueError(f"no line of policy can hold {row.values!r}")
    return line


def _written(value: str) -> str:
    try:
        is_plain = parse_line(f"p, {value}") == ["p", value]
    except ValueError:
        is_plain = False
    return value if is_plain else '"' + value.replace('"', '""') + '"'


def _is_quoted(line: str, at: int) -> bool:
    return line[at:].lstrip()[:1] == '"'


def _quoted(line: str, start: int) -> tuple[str, int]:
    """Read from an opening quote to the comma after its field."""
    at = line.index('"', start) + 1
    parts: list[str] = []
    while True:
        end = line.find('"', at)
        if end < 0:
            raise ValueError("a quoted field is not closed")
        parts.append(line[at:end])
        if line[end + 1 : end + 2] != '"':
            break
        parts.append('"')
        at = end + 2
    comma = line.find(",", end)
    rest = line[end + 1 : comma if comma >= 0 else None].strip()
    if rest:
        raise ValueError(f"text after a closing quote: {rest[:40]!r}")
    return "".join(parts).strip(), comma if comma >= 0 else len(line)


def _bare(line: str, start: int) -> tuple[str, int]:
    """Read an unquoted field; commas inside its brackets are part of it."""
    closing: list[str] = []
    for at in range(start, len(line)):
        character = line[at]
        if character in _OPENING:
            closing.append(_OPENING[character])
        elif character in ")]":
            if not closing or closing.pop() != character:
                raise ValueError(f"{character!r} closes nothing")
        elif character == "," and not closing:
            return line[start:at].strip(), at
    if closing:
        raise ValueError(f"{closing[-1]!r} is missing")
    return line[start:].strip(), len(line)
