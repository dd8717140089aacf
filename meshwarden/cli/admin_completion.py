"""What a shell completes of `meshwarden admin`: roles, members, tokens.

Of the embedded store only, read as it is: to ask control takes as long as a shell may wait.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import typer

from meshwarden.cli.completion import settings_of, soon

__all__ = ["members", "roles", "tokens"]

_ROLES = (
    ("viewer", "may look at everything"),
    ("author", "may change the policy too"),
    ("admin", "may also say who may"),
)
_MEMBERS = (
    "SELECT body FROM meshwarden_revision WHERE stream = 'admin' ORDER BY number DESC LIMIT 1"
)
_TOKENS = "SELECT name, id, created_by FROM meshwarden_token WHERE revoked_ns = 0 ORDER BY name"


def roles(incomplete: str) -> list[tuple[str, str]]:
    """The three that are built in."""
    return [each for each in _ROLES if each[0].startswith(incomplete)]


def members(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Those who have a role, with it."""

    def find() -> Iterator[tuple[str, str]]:
        for (body,) in _read(ctx, _MEMBERS):
            for row in msgspec.json.decode(zlib.decompress(body))["text"]["rows"]:
                if row["ptype"] == "g":
                    yield row["values"][0], row["values"][1].removeprefix("role:")

    return soon(find, incomplete)


def tokens(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names and ids of tokens that were not revoked."""

    def find() -> Iterator[tuple[str, str]]:
        for name, token_id, author in _read(ctx, _TOKENS):
            yield name, f"by {author}"
            yield token_id, name

    return soon(find, incomplete)


def _read(ctx: typer.Context, query: str) -> list[tuple[Any, ...]]:
    settings = settings_of(ctx)
    if settings.store.url:
        return []
    database = settings.runtime.state_dir / "meshwarden.db"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()
