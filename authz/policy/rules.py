"""Policy as it was written (rows) and as the engine holds it (rules)."""

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

__all__ = ["PolicyText", "Row", "Rule"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of policy as written.

    Attributes:
        ptype: Which definition of the model it fills: "p", "p2", "g", "g2", ...
        values: What follows the type, unquoted and trimmed.
        file: Path relative to the policy folder; "" for a row from the API.
        line: 1-based; 0 for a row from the API.
    """

    ptype: str
    values: tuple[str, ...]
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Everything that a Snapshot is made of.

    Attributes:
        model: Text of the model file.
        rows: Every row, in the order of the source.
        model_file: How messages name the model; "mesh" is the built-in one.
    """

    model: str
    rows: tuple[Row, ...]
    model_file: str = "mesh"


# Compared by identity: two rows with the same words are still two rules.
@dataclass(slots=True, eq=False, repr=False)
class Rule:
    """One policy rule, checked and placed in order; nothing changes it after the build.

    Attributes:
        id: Counts up in the order of the source.
        ptype: "p", "p2", ...
        values: One for each field of the policy definition.
        file: See Row.
        line: See Row.
        effect: "allow" or "deny"; any other word takes no part (pycasbin's rule, refused in the
            server).
        rank: What decides first; lower wins. An int, or a pair where the model has priorities.
    """

    id: int
    ptype: str
    values: tuple[str, ...]
    file: str
    line: int
    effect: str
    rank: Any = 0

    @property
    def where(self) -> str:
        """Where the rule was written, such as "policy.csv:12"; "api" when it has no file."""
        return f"{self.file}:{self.line}" if self.file else "api"

    @override
    def __repr__(self) -> str:
        """Show the rule as its line of policy."""
        return f"<{self.where} {', '.join((self.ptype, *self.values))}>"
