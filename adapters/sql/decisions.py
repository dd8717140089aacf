"""What tables of decisions have in common, whichever database they are in."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from telemetry.record import DecisionRecord, read_line
from telemetry.sink import Kept, Search

__all__ = ["COLUMNS", "LAST", "NUMBERS", "PARTED", "conditions", "kept", "row"]

LAST = "\U0010ffff"
"""Sorts after every character that can follow."""

_PLAIN = (
    "id", "time_ns", "verdict", "status", "rule_file", "rule_line", "rule_text", "reason", "digest",
    "principal", "user", "service", "method", "path", "source_ip", "host",
)  # fmt: skip
NUMBERS = frozenset({"time_ns", "status", "rule_line"})
"""The columns that hold whole numbers; all others hold text."""
PARTED: Mapping[str, type] = {"misses": tuple, "faults": tuple, "headers": dict, "claims": dict}
"""The columns whose text is JSON."""
COLUMNS = (*_PLAIN, "front", *PARTED)
"""One for each field of a record; lists and tables of text are JSON."""

_values = attrgetter(*COLUMNS)
_encode = msgspec.json.Encoder().encode


def row(line: bytes) -> tuple[object, ...]:
    """Give the columns of a record that came as a line.

    Raises:
        msgspec.MsgspecError: It is no such line.
    """
    *plain, misses, faults, headers, claims = _values(read_line(line))
    # Most have none of these.
    return (
        *plain,
        _encode(misses).decode() if misses else "[]",
        _encode(faults).decode() if faults else "[]",
        _encode(headers).decode() if headers else "{}",
        _encode(claims).decode() if claims else "{}",
    )


def kept(row: Sequence[Any]) -> Kept:
    """Read a row: its number, then `COLUMNS`."""
    number, *values = row
    fields = dict(zip(COLUMNS, values, strict=True))
    for name, kind in PARTED.items():
        fields[name] = msgspec.json.decode(fields[name], type=kind)
    return Kept(number, DecisionRecord(**fields))


def conditions(wanted: Search, mark: str) -> tuple[list[str], list[object]]:
    """Write what is looked for as SQL.

    Args:
        wanted: What is looked for.
        mark: What stands for a value, such as "?".

    Returns:
        Conditions, to be joined by AND, and the values for their marks.
    """
    found: list[str] = []
    values: list[object] = []

    def ask(condition: str, *asked: object) -> None:
        found.append(condition.replace("?", mark))
        values.extend(asked)

    if wanted.principal:
        ask(*_caller(wanted.principal))
    if wanted.path:
        ask("path >= ? AND path <= ?", wanted.path, wanted.path + LAST)
    if wanted.service:
        ask("service = ?", wanted.service)
    if wanted.rule:
        ask(*_rule(wanted.rule))
    if wanted.verdict == "deny":
        # As text: the index of denials is taken only for a condition that names them.
        ask("verdict = 'deny'")
    elif wanted.verdict:
        ask("verdict = ?", wanted.verdict)
    if wanted.since_ns:
        ask("time_ns >= ?", wanted.since_ns)
    return found, values


def _caller(principal: str) -> tuple[str, ...]:
    column = '"user"' if principal.startswith("user:") else "principal"
    start = principal.removesuffix("*")
    if start == principal:
        return f"{column} = ?", start
    return f"{column} >= ? AND {column} <= ?", start, start + LAST


def _rule(rule: str) -> tuple[str, *tuple[object, ...]]:
    file, _, line = rule.rpartition(":")
    if line.isdecimal():
        return "rule_file = ? AND rule_line = ?", file, int(line)
    return "rule_file = ?", rule
