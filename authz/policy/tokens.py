"""Expression text to tokens."""

import re
from dataclasses import dataclass
from typing import NoReturn

from authz.policy.errors import ExpressionError

__all__ = ["Token", "tokens"]

_MAX_LENGTH = 16_384
_MAX_TOKENS = 4_096
_MAX_DIGITS = 40
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:[0-9]+\.[0-9]*|\.?[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<operator>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]])
  | (?P<end>$)
)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_HINTS = {
    "=": "use == to compare",
    "&": "use && for and",
    "|": "use || for or",
    "{": "dicts can't be written in an expression",
    "`": "use ' or \" around text",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: "name", "string", "number", "operator" or "end".
        text: As it was written.
        value: What a string or number stands for.
        at: 0-based place in the text.
    """

    kind: str
    text: str
    value: str | int | float
    at: int


def tokens(text: str) -> list[Token]:
    """Cut an expression into tokens; the last one is the end.

    Raises:
        ExpressionError: A character that starts no token, or text beyond all measure.
    """
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"longer than {_MAX_LENGTH} characters")
    found: list[Token] = []
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse(text, at)
        kind = str(match.lastgroup)
        word = match[kind]
        found.append(Token(kind, word, _value(kind, word), match.start(kind)))
        if kind == "end":
            return found
        if len(found) > _MAX_TOKENS:
            raise ExpressionError(f"more than {_MAX_TOKENS} tokens")
        at = match.end()


def _value(kind: str, word: str) -> str | int | float:
    if kind == "string":
        return _ESCAPE.sub(_unescape, word[1:-1]) if "\\" in word else word[1:-1]
    if kind == "number":
        if len(word) > _MAX_DIGITS:
            raise ExpressionError(f"a number longer than {_MAX_DIGITS} characters")
        return int(word) if word.isdecimal() else float(word)
    return word


def _unescape(match: re.Match[str]) -> str:
    r"""Read an escape as Python does: one that it does not know stays, such as `\d`."""
    code = match[1]
    if len(code) > 1:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, match[0])


def _refuse(text: str, at: int) -> NoReturn:
    at += len(text[at:]) - len(text[at:].lstrip())
    character = text[at]
    if character in "'\"":
        raise ExpressionError(f"the text that begins at character {at + 1} is not closed")
    hint = _HINTS.get(character)
    raise ExpressionError(
        f"unexpected {character!r} at character {at + 1}" + (f"; {hint}" if hint else ""),
    )
