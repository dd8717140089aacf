"""Regular expressions: regexMatch, and the two engines behind every function that needs one.

`re` backtracks: `(a+)+$` on 27 characters took 2.8 s. The server runs re2, whose time is linear in
the value, and refuses at load what it can't express; the drop-in Enforcer and
`engine.backtracking_regex` keep `re`.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import re2

from authz.policy.errors import ExpressionError
from authz.policy.functions.spec import Function, Pattern, Tools

__all__ = ["backtracking", "functions", "linear", "literal_prefix"]

_SPECIAL = frozenset(".^$*+?{}[]\\|()")
_QUANTIFIERS = frozenset("*?{")
_MEMORY_BYTES = 1 << 20


def functions(tools: Tools) -> Iterable[Function]:
    """Make the family."""

    def prepare(text: str) -> Pattern:
        match = tools.regex(text)
        return Pattern(lambda value: match(value) is not None, prefix=literal_prefix(text))

    def call(value: Any, pattern: Any) -> bool:
        return tools.regex(pattern)(value) is not None

    return (Function("regexMatch", call, prepare=prepare),)


def linear(pattern: str) -> Callable[[str], Any]:
    """Compile with re2: linear time, no look-around, no back-references."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        match: Callable[[str], Any] = re2.compile(pattern, options).match
    except re2.error as error:
        raise ExpressionError(
            f"{pattern[:60]!r} is no regular expression for re2: {error}"
        ) from error
    return match


def backtracking(pattern: str) -> Callable[[str], Any]:
    """Compile with Python's re, as pycasbin does."""
    try:
        match: Callable[[str], Any] = re.compile(pattern).match
    except (re.error, RecursionError, OverflowError) as error:
        raise ExpressionError(f"{pattern[:60]!r} is no regular expression: {error}") from error
    return match


def literal_prefix(pattern: str) -> str:
    """The text that every match begins with; matches are anchored at the start.

    A superset is safe, so anything unusual simply ends the prefix.
    """
    text = pattern.removeprefix("^")
    if "|" in text or text.startswith("(?"):
        return ""
    at = 0
    while at < len(text) and text[at] not in _SPECIAL:
        at += 1
    # A quantifier that allows none takes the character before it out of the prefix.
    if at < len(text) and text[at] in _QUANTIFIERS:
        at -= 1
    return text[: max(at, 0)]
