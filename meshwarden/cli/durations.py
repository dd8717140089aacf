"""Durations, as people write and read them."""

import re
from typing import Annotated

import typer

__all__ = ["Since", "age", "duration_s", "lifetime_s", "ttl_s"]

_MINUTE_S = 60
_HOUR_S = 60 * _MINUTE_S
_DAY_S = 24 * _HOUR_S
_UNITS_S = {"s": 1, "m": _MINUTE_S, "h": _HOUR_S, "d": _DAY_S}
_SECONDS = re.compile(r"[0-9]{1,10}")
_MOST_S = 2**31 - 1  # What a message of the API can hold.
_DURATION = re.compile(r"(\d{1,6})([smhd])")


def duration_s(text: str) -> int:
    """Parse a duration such as "30m", in seconds.

    Raises:
        BadParameter: It is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter("write a number and s, m, h or d, such as 30m")
    return _bounded(int(found[1]) * _UNITS_S[found[2]])


def lifetime_s(text: str) -> int:
    """Parse how long something shall hold, in seconds; a service reads 0 as its default.

    Raises:
        BadParameter: It is none, or no time at all.
    """
    seconds = duration_s(text)
    if not seconds:
        raise typer.BadParameter("it would be over at once; leave it out for the default")
    return seconds


def ttl_s(text: str) -> int:
    """Parse what entry files have in seconds alone: "1800" as there, or "30m" as elsewhere.

    Raises:
        BadParameter: It is neither.
    """
    return _bounded(int(text)) if _SECONDS.fullmatch(text) else duration_s(text)


def _bounded(seconds: int) -> int:
    if seconds > _MOST_S:
        raise typer.BadParameter(f"{_MOST_S // _DAY_S}d is the most")
    return seconds


Since = Annotated[
    int | None,
    typer.Option(metavar="AGE", parser=duration_s, help="No older than this, such as 30m, 1h, 7d."),
]


def age(seconds: float) -> str:
    """Say a duration in its largest two units at most, such as "3 min" or "2 d 4 h"."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"
