"""A policy's text as it crosses between commands and control."""

import re
from collections.abc import Iterable
from typing import ClassVar

from authz.errors import AuthzError
from authz.policy.rules import PolicyText, Row
from authz.revisions import Revision
from protos.meshwarden.v1 import policy_pb2

__all__ = [
    "InvalidTextError",
    "checked_line",
    "limit_of",
    "number_of",
    "revision_message",
    "row_faults",
    "row_from",
    "row_message",
    "text_from",
    "text_message",
]

_MAX_CHARACTERS = 4000
_DEFAULT_LIMIT = 50
_MAX_LIMIT = 1000
# What every database takes for a number; there are no revisions beyond it.
_MAX_NUMBER = 2**31 - 1
_ENDS = frozenset("\n\r\0")
# What could steer a terminal, or show a line in another order than it is written in.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class InvalidTextError(AuthzError):
    """A text holds what a history can't show, or too much; who wrote it must mend it."""

    code: ClassVar[str] = "INVALID_ARGUMENT"


def text_message(text: PolicyText) -> policy_pb2.PolicyText:
    """Put a policy into the form that crosses."""
    return policy_pb2.PolicyText(
        model=text.model,
        model_file=text.model_file,
        rows=[row_message(row) for row in text.rows],
    )


def text_from(message: policy_pb2.PolicyText) -> PolicyText:
    """Take a policy out of the form that crosses."""
    return PolicyText(message.model, tuple(map(row_from, message.rows)), message.model_file)


def row_message(row: Row) -> policy_pb2.Row:
    """Put a row into the form that crosses."""
    return policy_pb2.Row(ptype=row.ptype, values=row.values, file=row.file, line=row.line)


def row_from(message: policy_pb2.Row) -> Row:
    """Take a row out of the form that crosses."""
    return Row(message.ptype, tuple(message.values), message.file, message.line)


def row_faults(rows: Iterable[Row]) -> list[str]:
    """Tell what in rows would be another policy in a file or a table, or break its database.

    Returns:
        Each fault with its place; nothing for rows that a file of policy holds.
    """
    faults = []
    for row in rows:
        where = f"{row.file}:{row.line}" if row.file else "api"
        if not row.file.isprintable():
            faults.append(f"{where}: the file's name holds what can't be printed")
        for value in (row.ptype, *row.values):
            if value != value.strip() or not _ENDS.isdisjoint(value):
                said = "has a line end, a NUL or a space at an end: no line of policy can hold it"
                faults.append(f"{where}: {value!a} {said}")
    return faults


def revision_message(revision: Revision) -> policy_pb2.Revision:
    """Put what is known of a revision into the form that crosses."""
    return policy_pb2.Revision(
        number=revision.number,
        parent=revision.parent,
        author=revision.author,
        created_ns=revision.created_ns,
        message=revision.message,
        digest=revision.digest,
        origin=revision.origin,
        rows=revision.rows,
        added=revision.added,
        removed=revision.removed,
    )


def limit_of(asked: int) -> int:
    """How many to list where somebody asked for so many; 0 is as many as usual."""
    return min(asked or _DEFAULT_LIMIT, _MAX_LIMIT)


def number_of(asked: int) -> int:
    """A revision's number as somebody asked for it; one that no store can have stays without."""
    return min(asked, _MAX_NUMBER)


def checked_line(text: str, what: str) -> str:
    """Give a text of somebody's for the history, which shows it to others.

    Raises:
        InvalidTextError: It is too long, or holds control characters other than line ends and tabs.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidTextError(f"{what} is longer than {_MAX_CHARACTERS} characters")
    odd = _CONTROL.search(text)
    if odd:
        raise InvalidTextError(f"{what} holds the control character {odd.group()!a}")
    return text
