"""What a candidate would have done, as people are shown it."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshwarden.cli.output import styled, table
from meshwarden.plain_text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["DIGEST_SHOWN", "KINDS", "Example", "count_table", "example_lines"]

DIGEST_SHOWN = 12
KINDS = ("would_deny", "would_allow")
_COLOURS = {"would_deny": "red", "would_allow": "green"}


class Example(NamedTuple):
    """A decision on which a candidate differs.

    Attributes:
        id: The decision's.
        verdict: "would_deny" or "would_allow".
        caller: Who asked; "" is anybody.
        service: For what.
        method: And how.
        path: And where.
        rule: The candidate's deciding rule, or why none did.
    """

    id: str
    verdict: str
    caller: str
    service: str
    method: str
    path: str
    rule: str


def count_table(
    counts: Mapping[str, int], untold: Sequence[tuple[str, int]] = ()
) -> "RenderableType":
    """How often it agrees, how often not, and why of others it can't be told."""
    rows = [("same", str(counts["same"]), "")]
    rows += [(kind.replace("_", " "), str(counts[kind]), "") for kind in KINDS]
    rows += [("can't be told", str(number), why) for why, number in untold]
    return table(("", "", ""), rows)


def example_lines(examples: Sequence[Example]) -> "Iterator[RenderableType]":
    """Each on two lines of a terminal; on one where a program may cut it into columns."""
    if not sys.stdout.isatty():
        yield table(
            ("decision", "", "caller", "request", "the candidate's rule"),
            [
                (
                    each.id,
                    each.verdict.replace("_", " "),
                    plain(each.caller or "anybody"),
                    plain(f"{each.method} {each.service or '-'} {each.path}"),
                    each.rule,
                )
                for each in examples
            ],
        )
        return
    for each in examples:
        word = each.verdict.replace("_", " ")
        caller, service = plain(each.caller or "anybody"), plain(each.service or "-")
        request = plain(f"{each.method} {each.path}")
        yield styled((f"{word:<11}", _COLOURS[each.verdict]), f"  {caller} -> {service}  {request}")
        yield styled((f"  {each.id}  {each.rule}", "dim"))
