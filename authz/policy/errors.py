"""What the engine raises: a policy that can't be used, with everything that is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from authz.errors import AuthzError

__all__ = ["ExpressionError", "Fault", "PolicyError"]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with a model or a policy, and where.

    Attributes:
        file: Path as the source named it; "" for what came through the API.
        line: 1-based; 0 where there is no line.
        message: One sentence without a final stop.
    """

    file: str
    line: int
    message: str

    @override
    def __str__(self) -> str:
        """Render as "file:line: message", leaving out what is not known."""
        if not self.file:
            return self.message
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}"


class PolicyError(AuthzError):
    """A policy can't become a Snapshot; the author must mend every fault listed.

    Attributes:
        faults: All that is wrong, in the order of file and line.
    """

    code: ClassVar[str] = "INVALID_ARGUMENT"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ExpressionError(AuthzError):
    """An expression is outside the language; its author must rewrite it.

    The builder turns it into a `Fault` with the file and line of the rule or model.
    """

    code: ClassVar[str] = "INVALID_ARGUMENT"
