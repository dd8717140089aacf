"""What lint says about a policy: one finding a thing to mend, with its place and its remedy."""

import enum
from dataclasses import dataclass

from authz.policy.csv_rows import parse_line

__all__ = ["Finding", "Place", "Severity", "columns_of"]


class Severity(enum.StrEnum):
    """How bad a finding is."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def weight(self) -> int:
        """Larger is worse."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written.

    Attributes:
        file: As the source named it; "" for what came through the API.
        line: 1-based; 0 where there is no line.
        column: 1-based, in characters; 0 where it isn't known.
        end_column: The first column behind it; 0 likewise.
    """

    file: str
    line: int
    column: int = 0
    end_column: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to mend.

    Attributes:
        id: Which lint found it, such as "duplicate-rule"; never renamed.
        severity: How bad it is.
        message: What is wrong: one sentence without a final stop.
        fix: What to do about it, likewise.
        place: Where it is.
        field: Which value of the line is meant, 0 the first after the type; -1 the whole line.
        text: The line as the policy has it, type and values; "" where it isn't about a line.
        other: A second line that the message speaks of, such as the rule that covers this one.
    """

    id: str
    severity: Severity
    message: str
    fix: str
    place: Place
    field: int = -1
    text: str = ""
    other: Place | None = None


def columns_of(line: str, field: int) -> tuple[int, int]:
    """Find a value in its line of policy, for a caret or a region.

    Args:
        line: The line as it stands in the file.
        field: See Finding.

    Returns:
        The first column and the first behind it, from 1; the whole line's where the value can't be
        told.

    Example:
        >>> columns_of("p, role:web, orders", 0)
        (4, 12)
    """
    start = len(line) - len(line.lstrip())
    whole = (start + 1, len(line.rstrip()) + 1)
    if field < 0:
        return whole
    try:
        values = parse_line(line)
    except ValueError:
        return whole
    if field + 1 >= len(values):
        return whole
    at = start
    # Each value is looked for behind the one before: the same word may stand in a line twice.
    for value in values[: field + 1]:
        found = line.find(value, at)
        at = max(line.find(",", (found if found >= 0 else at) + len(value)) + 1, at)
    value = values[field + 1]
    at = line.find(value, at)
    return (at + 1, at + len(value) + 1) if at >= 0 and value else whole
