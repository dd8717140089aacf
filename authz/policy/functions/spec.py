"""What a matcher function tells the engine about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from authz.policy.segments import Part, Segments

__all__ = ["Function", "Pattern", "RegexEngine", "Tools"]


class RegexEngine(Protocol):
    """Runs regular expressions; the builder says which engine does it."""

    def check(self, pattern: str) -> None:
        """Check one expression.

        Raises:
            ExpressionError: The engine can't express it.
        """
        ...

    def match(self, pattern: str, text: str) -> tuple[str, ...] | None:
        """Match from the start of the text.

        Cost: compiles what was not matched lately.

        Returns:
            What the groups caught, "" for one that took no part; None if there is no match.

        Raises:
            ExpressionError: The engine can't express it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What functions are made from.

    Attributes:
        regex: Runs regular expressions.
        now: Reads local time; None where the builder was given no clock.
    """

    regex: RegexEngine
    now: Callable[[], datetime] | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """The second argument of a matching function, made ready once.

    What an index goes by is the first of these that is set; an index asks `matches` too where that
    alone does not say it all.

    Attributes:
        matches: Whether a value matches; may raise on values that no pattern can be asked about.
        always: It matches every value, whatever its type.
        literals: It matches these values and no others; none at all if empty.
        segments: Its form for a segment tree, exact for values without a newline.
        shape: It matches the texts of this shape, but an empty one.
        network: It matches the addresses in this network.
        prefix: How every matching value begins; "" says nothing.
        exact: Every text with that prefix matches.
    """

    matches: Callable[[Any], bool]
    always: bool = False
    literals: tuple[str, ...] | None = None
    segments: Segments | None = None
    shape: Part | None = None
    network: IPv4Network | IPv6Network | None = None
    prefix: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the language.

    Attributes:
        name: As it is called in a matcher.
        call: Takes the arguments as they come; raises on what it can't judge.
        arity: Fewest and most arguments.
        prepare: Makes a Pattern of the last of two arguments; None if it has no such form.
        boolean: Whether it always returns a bool.
        total: Whether it never raises, whatever it is given, and always says the same.
        varied: Whether the values it is asked about are mostly new ones, as paths are.
    """

    name: str
    call: Callable[..., Any]
    arity: tuple[int, int] = (2, 2)
    prepare: Callable[[str], Pattern] | None = None
    boolean: bool = True
    total: bool = False
    varied: bool = False
