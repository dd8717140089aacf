"""Regular expressions: regexMatch, and the two engines behind every function that needs one.

`re` backtracks: `(a+)+$` on 27 characters took 2.8 s. The server runs re2, whose time is linear in
the value, and refuses at load what it can't express; the drop-in Enforcer and
`engine.backtracking_regex` keep `re`.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import re2

from authz.policy.errors import ExpressionError
from authz.policy.functions.spec import Function, Pattern, Tools

__all__ = ["Backtracking", "Linear", "functions", "literal_prefix"]

_SPECIAL = frozenset(".^$*+?{}[]\\|()")
_QUANTIFIERS = frozenset("*?{")
_MEMORY_BYTES = 1 << 20
# A compiled expression holds kilobytes: of a hundred thousand only those in use are kept.
_MAX_COMPILED = 4096


def functions(tools: Tools) -> Iterable[Function]:
    """Make the family."""
    regex = tools.regex

    def prepare(text: str) -> Pattern:
        regex.check(text)
        return Pattern(
            lambda value: regex.match(text, value) is not None, prefix=literal_prefix(text)
        )

    def call(value: Any, pattern: Any) -> bool:
        return regex.match(pattern, value) is not None

    return (Function("regexMatch", call, prepare=prepare),)


class Linear:
    """re2: linear time, no look-around, no back-references."""

    def __init__(self) -> None:
        self._options = re2.Options()
        self._options.log_errors = False
        self._options.max_mem = _MEMORY_BYTES
        self._compiled = lru_cache(maxsize=_MAX_COMPILED)(self._compile)

    def check(self, pattern: str) -> None:
        """Check one expression; parsing it into a set costs an eighth of compiling it."""
        try:
            re2.Set.MatchSet(self._options).Add(pattern)
        except re2.error:
            self._compile(pattern)

    def match(self, pattern: str, text: str) -> tuple[str, ...] | None:
        """Match from the start; re2 works on UTF-8, and a text in bytes saves it the counting."""
        found = self._compiled(pattern)(text.encode("utf-8", "surrogateescape"))
        if found is None:
            return None
        return tuple([_text(group) for group in found.groups()])

    def _compile(self, pattern: str) -> Callable[[bytes], Any]:
        try:
            match: Callable[[bytes], Any] = re2.compile(pattern, self._options).match
        except re2.error as error:
            raise ExpressionError(
                f"{pattern[:60]!r} is no regular expression for re2: {error}",
            ) from error
        return match


class Backtracking:
    """Python's re, as pycasbin has it."""

    def __init__(self) -> None:
        self._compiled = lru_cache(maxsize=_MAX_COMPILED)(self._compile)

    def check(self, pattern: str) -> None:
        """Check one expression."""
        self._compiled(pattern)

    def match(self, pattern: str, text: str) -> tuple[str, ...] | None:
        """Match from the start."""
        found = self._compiled(pattern)(text)
        return None if found is None else found.groups("")

    def _compile(self, pattern: str) -> Callable[[str], Any]:
        try:
            match: Callable[[str], Any] = re.compile(pattern).match
        except (re.error, RecursionError, OverflowError) as error:
            raise ExpressionError(
                f"{pattern[:60]!r} is no regular expression: {error}",
            ) from error
        return match


def _text(group: bytes | None) -> str:
    return "" if group is None else group.decode("utf-8", "surrogateescape")


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
