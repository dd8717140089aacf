"""globMatch: shell patterns in which `*` and `?` stay within a segment.

Source: casbin.org/docs/function. Where pycasbin's hand-written matcher departs from that (a star
before a slash eats the rest of the segment without looking), docs/divergences.md says so.
"""

from collections.abc import Iterable
from typing import Any

from authz.policy.functions.spec import Function, Pattern, Tools

__all__ = ["functions"]

_SPECIAL = frozenset("*?[\\")


def functions(_tools: Tools) -> Iterable[Function]:
    """Make the family."""

    def call(value: Any, key: Any) -> bool:
        return _prepare(key).matches(value)

    return (Function("globMatch", call, prepare=_prepare, varied=True),)


def _prepare(text: str) -> Pattern:
    plain = next((at for at, each in enumerate(text) if each in _SPECIAL), len(text))
    if plain == len(text):
        return Pattern(lambda value: value == text, literals=(text,))
    steps = _steps(text)
    return Pattern(lambda value: _run(steps, value), prefix=text[:plain])


def _steps(text: str) -> tuple[Any, ...]:
    """The pattern as a list: a character, "*" as None, or a set as (negated, ranges)."""
    steps: list[Any] = []
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "*":
            if not steps or steps[-1] is not None:
                steps.append(None)
        elif character == "?":
            steps.append((True, ()))
        elif character == "[":
            step, at = _set(text, at)
            steps.append(step)
        elif character == "\\" and at < len(text):
            steps.append(text[at])
            at += 1
        else:
            steps.append(character)
    return tuple(steps)


def _set(text: str, at: int) -> tuple[tuple[bool, tuple[tuple[str, str], ...]], int]:
    """Read a bracket expression; one that never closes goes to the end, as in pycasbin."""
    negated = text[at : at + 1] in {"!", "^"}
    at += negated
    ranges: list[tuple[str, str]] = []
    while at < len(text):
        low = text[at]
        at += 1
        if low == "]":
            break
        if low == "\\" and at < len(text):
            low = text[at]
            at += 1
        high = low
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in {"", "]"}:
            high = text[at + 1]
            at += 2
            if high == "\\" and at < len(text):
                high = text[at]
                at += 1
        ranges.append((low, high))
    return (negated, tuple(ranges)), at


def _run(steps: tuple[Any, ...], value: str) -> bool:
    """Match with at most one way back: to the last star, which stays within its segment.

    Cost: O(steps x length).
    """
    step = at = 0
    star = resume = -1
    while at < len(value) or step < len(steps):
        if step < len(steps) and steps[step] is None:
            star, resume = step, at
            step += 1
        elif step < len(steps) and at < len(value) and _fits(steps[step], value[at]):
            step += 1
            at += 1
        elif star >= 0 and resume < len(value) and value[resume] != "/":
            resume += 1
            step, at = star + 1, resume
        else:
            return False
    return True


def _fits(step: Any, character: str) -> bool:
    if isinstance(step, str):
        return step == character
    negated, ranges = step
    if character == "/":
        return False
    inside = any(low <= character <= high for low, high in ranges)
    return bool(negated) != inside
