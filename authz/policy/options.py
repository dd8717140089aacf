"""What the program that embeds the engine decides for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final

__all__ = ["MASKED", "EngineOptions", "Privacy"]

MASKED: Final = "[masked]"
"""Stands for what must not be told."""


class Privacy(Enum):
    """How much may be told of a value that a request brings."""

    TOLD = "told"
    """All of it."""
    PRIVATE = "private"
    """That it is there, and what a rule has in its place."""
    SECRET = "secret"  # noqa: S105 - a word, no password
    """That it is there, and nothing of what it is compared with."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Everything that a Snapshot depends on besides its text.

    Attributes:
        attribute: Resolves a dotted name of a condition to a function from the request's
            attributes to the value, and raises on a name there is not. None reads the name from a
            mapping as it stands.
        backtracking_regex: Use Python's `re` in place of re2; a pattern from policy may then hang
            a decision.
        now: Local time for timeMatch; None leaves timeMatch out.
        functions: Functions from installed modules, by their name in matchers.
        role_matching: For a role definition, the name of the function by which names match.
        domain_matching: The same for domains.
        link_condition: For a role definition with parameters, the function that says whether a
            link holds.
        privacy: How much near misses tell of the attribute that a request field is bound to.
        masked: Takes what must not be told out of a condition's text.
        any_effect: Take a rule with an effect other than allow or deny, which then takes no part,
            as pycasbin does. Off, it is refused.
    """

    attribute: Callable[[str], Callable[[Any], Any]] | None = None
    backtracking_regex: bool = False
    now: Callable[[], datetime] | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    role_matching: Mapping[str, str] = field(default_factory=dict)
    domain_matching: Mapping[str, str] = field(default_factory=dict)
    link_condition: Mapping[str, str] = field(default_factory=dict)
    privacy: Callable[[str], Privacy] = lambda _: Privacy.TOLD
    masked: Callable[[str], str] = str
    any_effect: bool = False
