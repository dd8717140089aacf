"""The mesh family: anchored matchers of the built-in model.

Nothing here is a regular expression: a dot is a dot, a final newline is a character like any other,
and an empty value matches nothing but `*`.
"""

import re
from collections.abc import Callable, Iterable

from authz.policy import segments
from authz.policy.errors import ExpressionError
from authz.policy.functions.spec import Function, Pattern, Tools
from authz.policy.nearest import did_you_mean

__all__ = ["check_role", "functions", "is_principal", "methods"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")


def functions(_tools: Tools) -> Iterable[Function]:
    """Make the family."""
    return (
        Function("meshWho", _caller(_who), prepare=_who, total=True),
        Function("meshName", _caller(_name), prepare=_name, total=True),
        Function("meshMethod", _caller(_method), prepare=_method, total=True),
        Function("meshPath", _caller(_path), prepare=_path, total=True, varied=True),
        Function("meshPrincipal", principal, (1, 1), boolean=False, total=True),
        Function("meshUser", user, (1, 1), boolean=False, total=True),
    )


def principal(value: object) -> str:
    """The value if it is a principal, else "": what has a colon in its first segment is none."""
    return value if isinstance(value, str) and is_principal(value) else ""


def user(value: object) -> str:
    """The value if it is a user, `user:ISS/SUB`, else ""."""
    return value if isinstance(value, str) and value.startswith("user:") else ""


def is_principal(value: str) -> bool:
    """Whether this could be a principal: kinds of names are told apart by their first segment."""
    return bool(value) and ":" not in value.partition("/")[0]


def methods(text: str) -> tuple[str, ...]:
    """The methods a policy value names, `*` included.

    Raises:
        ExpressionError: A name is not an upper-case token.
    """
    if text == "*":
        return ("*",)
    names = tuple(text.split("|"))
    for name in names:
        if not _METHOD.fullmatch(name):
            hint = did_you_mean(name[:40], _METHODS)
            raise ExpressionError(
                f"{name[:40]!r} is no method; write * or names like GET|HEAD{hint}"
            )
    return names


def check_role(member: str, role: str) -> None:
    """Check a row that gives a role.

    Raises:
        ExpressionError: The member is no principal, user or role, or the role is not role:NAME.
    """
    if not role.startswith("role:") or len(role) == len("role:") or "*" in role:
        raise ExpressionError(f"{role[:60]!r} is no role; write role:NAME")
    if member == "*":
        raise ExpressionError("everybody can't be given a role; write * as who in the rule")
    _who(member)


def _caller(prepare: Callable[[str], Pattern]) -> Callable[[object, object], bool]:
    def call(value: object, pattern: object) -> bool:
        if not isinstance(pattern, str):
            return False
        try:
            return prepare(pattern).matches(value)
        except ExpressionError:
            return False

    return call


def _who(text: str) -> Pattern:
    if text == "*":
        return Pattern(lambda _value: True, always=True)
    kind, colon, rest = text.partition(":")
    if not text or (colon and "/" not in kind and kind not in {"role", "user"}):
        raise ExpressionError(
            f"{text[:60]!r} names nobody; write *, a principal td/ns/N/sa/S,"
            " role:NAME or user:ISS/SUB",
        )
    if colon and "/" not in kind:
        if not rest:
            raise ExpressionError(f"{text[:60]!r} has no name")
        if kind == "role":
            # Only g() gives roles: no value of a request ever is one.
            return Pattern(lambda _value: False, literals=())
    return _of_segments(text)


def _path(text: str) -> Pattern:
    if text == "**":
        return Pattern(lambda value: isinstance(value, str), segments=(segments.MANY,))
    if not text.startswith("/"):
        raise ExpressionError(f"{text[:60]!r} is no path; it starts with / (/** is any)")
    return _of_segments(text)


def _of_segments(text: str) -> Pattern:
    form = segments.parse_segments(text)
    if "*" not in text and "{" not in text:
        return Pattern(lambda value: value == text, literals=(text,))
    return Pattern(
        lambda value: isinstance(value, str) and value != "" and segments.matches(form, value),
        segments=form,
    )


def _name(text: str) -> Pattern:
    if not text:
        raise ExpressionError("a service is missing; write its name or *")
    if text == "*":
        return Pattern(lambda _value: True, always=True)
    if "*" not in text:
        return Pattern(lambda value: value == text, literals=(text,))
    part = segments.Part(tuple(text.split("*")))
    return Pattern(
        lambda value: isinstance(value, str) and value != "" and part.matches(value),
        shape=part,
    )


def _method(text: str) -> Pattern:
    names = methods(text)
    if names == ("*",):
        return Pattern(lambda _value: True, always=True)
    if len(names) == 1:
        return Pattern(lambda value: value == text, literals=(text,))
    return Pattern(lambda value: value in names, literals=names)
