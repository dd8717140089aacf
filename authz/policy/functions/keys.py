"""keyMatch and keyGet in their numbered forms, as pycasbin has them, quirks included.

What is odd about them is part of their names: keyMatch ignores what follows its first `*`, the
others are made into regular expressions, so a dot is any character and a final newline passes with
`re`. The mesh family has none of this.

Source: casbin.org/docs/function, pycasbin 1.43 util/builtin_operators.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from authz.policy import segments
from authz.policy.errors import ExpressionError
from authz.policy.functions.spec import Function, Pattern, Tools
from authz.policy.segments import Segments

__all__ = ["functions"]

_COLON_NAME = re.compile(r":[^/]+")
_BRACE_NAME = re.compile(r"{[^/]+?}")
_BRACE_GREEDY = re.compile(r"{([^/]+)}")
_BRACE_ANY = re.compile(r"{[^/]+}")
_ONE = r"[^\\/]+"
# A key that a request brings may be a header of 60 KiB; to translate one takes quadratic time.
_MAX_KEY_CHARACTERS = 2048
_SPECIAL = frozenset(".^$*+?{}[]\\|():")


def functions(tools: Tools) -> Iterable[Function]:
    """Make the family."""

    def matcher(name: str, prepare: Callable[[str], Pattern]) -> Function:
        def call(value: Any, key: Any) -> bool:
            if len(key) > _MAX_KEY_CHARACTERS:
                raise ExpressionError(f"{key[:60]!r}... is too long to be a pattern")
            return prepare(key).matches(value)

        return Function(name, call, prepare=prepare, varied=True)

    return (
        matcher("keyMatch", _key_match),
        matcher("keyMatch2", partial(_key_match2, tools)),
        matcher("keyMatch3", partial(_key_match3, tools)),
        matcher("keyMatch4", partial(_key_match4, tools)),
        matcher("keyMatch5", partial(_key_match5, tools)),
        Function("keyGet", _key_get, boolean=False),
        Function("keyGet2", partial(_key_get2, tools), (3, 3), boolean=False),
        Function("keyGet3", partial(_key_get3, tools), (3, 3), boolean=False),
    )


def _key_match(key: str) -> Pattern:
    star = key.find("*")
    if star < 0:
        return Pattern(lambda value: value == key, literals=(key,))
    prefix = key[:star]
    return Pattern(lambda value: value[:star] == prefix, prefix=prefix, exact=True)


def _key_match2(tools: Tools, key: str) -> Pattern:
    source = _COLON_NAME.sub(_ONE, key.replace("/*", "/.*"))
    if source == "*":
        source = "(.*)"
    simple = _simple(key, lambda part: len(part) > 1 and part[0] == ":")
    return _of(tools, source, simple, key)


def _key_match3(tools: Tools, key: str) -> Pattern:
    source = _BRACE_NAME.sub(_ONE, key.replace("/*", "/.*"))
    return _of(tools, source, _simple(key, _is_braced), key)


def _key_match5(tools: Tools, key: str) -> Pattern:
    source = _BRACE_ANY.sub(r"[^/]+", key.replace("/*", "/.*"))
    inner = _of(tools, source, None, key)
    matches = inner.matches
    # The value loses its query first, so no index can go by the value as it comes.
    return Pattern(lambda value: matches(value.partition("?")[0]), prefix=inner.prefix)


def _key_match4(tools: Tools, key: str) -> Pattern:
    names: list[str] = []

    def name(match: re.Match[str]) -> str:
        names.append(match[1])
        return "([^/]+)"

    source = _BRACE_GREEDY.sub(name, key.replace("/*", "/.*"))
    if len(set(names)) == len(names):
        return _of(tools, source, _simple(key, _is_braced), key)
    regex, whole = tools.regex, f"^{source}$"
    regex.check(whole)

    def matches(value: Any) -> bool:
        found = regex.match(whole, value)
        if found is None:
            return False
        bound: dict[str, str] = {}
        # setdefault binds a name at its first place and compares at every later one.
        return all(
            bound.setdefault(each, group) == group
            for each, group in zip(names, found, strict=False)
        )

    return Pattern(matches, prefix=_plain_prefix(key))


def _of(tools: Tools, source: str, simple: Segments | None, key: str) -> Pattern:
    """A pattern that runs the regular expression only where the segments can't say it."""
    regex, whole = tools.regex, f"^{source}$"
    if simple is None:
        regex.check(whole)
        return Pattern(
            lambda value: regex.match(whole, value) is not None,
            prefix=_plain_prefix(key),
        )

    def matches(value: Any) -> bool:
        if "\n" in value:
            return regex.match(whole, value) is not None
        return segments.matches(simple, value)

    return Pattern(matches, segments=simple)


def _simple(key: str, is_wild: Callable[[str], bool]) -> Segments | None:
    """The key as segments if it is nothing but plain text, whole wild segments and a final /*."""
    parts = key.split("/")
    form: list[Any] = []
    for place, part in enumerate(parts):
        if part == "*" and 0 < place == len(parts) - 1:
            form.append(segments.REST)
        elif is_wild(part):
            form.append(segments.ONE)
        elif _SPECIAL.isdisjoint(part):
            form.append(part)
        else:
            return None
    return tuple(form)


def _is_braced(part: str) -> bool:
    return (
        len(part) > 2  # noqa: PLR2004 - the braces and a name
        and part[0] == "{"
        and part[-1] == "}"
        and "{" not in part[1:]
        and "}" not in part[:-1]
    )


def _plain_prefix(key: str) -> str:
    at = 0
    while at < len(key) and key[at] not in _SPECIAL:
        at += 1
    if at < len(key) and key[at] in "*?{" and key[at - 1 : at + 1] != "/*":
        at -= 1
    return "" if "|" in key else key[: max(at, 0)]


def _key_get(value: str, key: str) -> str:
    star = key.find("*")
    if star < 0 or len(value) <= star or value[:star] != key[:star]:
        return ""
    return value[star:]


def _key_get2(tools: Tools, value: str, key: str, variable: str) -> str:
    key = key.replace("/*", "/.*")
    names = [name[1:] for name in _COLON_NAME.findall(key)]
    source = _COLON_NAME.sub(r"([^\\/]+)", key)
    return _captured(tools, "(.*)" if source == "*" else source, names, value, variable)


def _key_get3(tools: Tools, value: str, key: str, variable: str) -> str:
    key = key.replace("/*", "/.*")
    names = [name[1:-1] for name in _BRACE_NAME.findall(key)]
    source = _BRACE_NAME.sub("([^/]+?)", key)
    return _captured(tools, "(.*)" if source == "*" else source, names, value, variable)


def _captured(tools: Tools, source: str, names: list[str], value: str, variable: str) -> str:
    groups = tools.regex.match(f"^{source}$", value)
    if groups is None or variable not in names:
        return ""
    return groups[names.index(variable)]
