"""What the program that embeds the engine decides for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["EngineOptions"]


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
    any_effect: bool = False
