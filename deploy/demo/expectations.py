"""Reads requests.toml: who sends what through the sidecar, and what has to come of it."""

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["NOBODY", "ExpectationError", "Expectations", "Request"]

NOBODY = "nobody"


class ExpectationError(Exception):
    """The file can't be used; the message says where and why."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request and its expected outcome.

    Attributes:
        about: What it shows, in a few words.
        who: A caller of the file, or "nobody".
        method: HTTP method.
        path: Sent byte for byte, query included.
        verdict: What Meshwarden has to decide.
        status: The HTTP status that the caller has to see.
        headers: Sent along.
        rule: The line that has to decide, such as "policy.csv:10"; "" if none may match.
    """

    about: str
    who: str
    method: str
    path: str
    verdict: Literal["allow", "deny"]
    status: int
    headers: dict[str, str] = {}
    rule: str = ""


class Expectations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        callers: Name to SPIFFE ID.
        requests: In the order in which they are sent.
    """

    callers: dict[str, str]
    requests: list[Request]

    @classmethod
    def load(cls, file: Path) -> "Expectations":
        """Read and check the file.

        Raises:
            ExpectationError: It can't be read, or a request has no such caller.
        """
        try:
            read = msgspec.convert(tomllib.loads(file.read_text()), cls)
        except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ExpectationError(f"{file}: {error}") from error
        for request in read.requests:
            if request.who != NOBODY and request.who not in read.callers:
                raise ExpectationError(f"{file}: {request.about!r}: no caller {request.who!r}")
        return read
