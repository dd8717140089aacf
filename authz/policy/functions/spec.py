"""What a matcher function tells the engine about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from authz.policy.segments import Segments

__all__ = ["Function", "Pattern", "RegexEngine", "Tools"]


class RegexEngine(Protocol):
    """Compiles regular expressions; the builder says which engine does it."""

    def __call__(self, pattern: str) -> Callable[[str], Any]:
        """Compile one expression.

        Returns:
            A function from text to a match that begins at the text's start, or None.

        Raises:
            ExpressionError: The engine can't express it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What functions are made from.

    Attributes:
        regex: Compiles a regular expression.
        now: Reads local time; None where the builder was given no clock.
    """

    regex: RegexEngine
    now: Callable[[], datetime] | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """The second argument of a matching function, made ready once.

    At most one of `literal`, `segments` and `prefix` is what an index goes by, in this order; each
    is exact or a superset: a value that they rule out is never matched.

    Attributes:
        matches: Whether a value matches; may raise on values that no pattern can be asked about.
        literal: The one value that it matches.
        segments: Its form for a segment tree, which must be exact for values without a newline.
        prefix: How every matching value begins; "" says nothing.
        exact: Whether every value with that prefix matches.
        always: Whether it matches every value, whatever its type.
    """

    matches: Callable[[Any], bool]
    literal: str | None = None
    segments: Segments | None = None
    prefix: str = ""
    exact: bool = False
    always: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the language.

    Attributes:
        name: As it is called in a matcher.
        call: Takes the arguments as they come; raises on what it can't judge.
        arity: Fewest and most arguments.
        prepare: Makes a Pattern of the last of two arguments; None if it has no such form.
        boolean: Whether it always returns a bool.
        total: Whether it never raises, whatever text it is given.
    """

    name: str
    call: Callable[..., Any]
    arity: tuple[int, int] = (2, 2)
    prepare: Callable[[str], Pattern] | None = None
    boolean: bool = True
    total: bool = False
