"""Selectors: one thing that was found true of a workload, or of a node.

Source: SPIFFE has no standard for them; the form KIND:VALUE is SPIRE's, whose users write it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from typing_extensions import override

__all__ = ["InvalidSelectorError", "Selector", "parse_selector", "selector_texts"]

_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_VALUE = 1024


class InvalidSelectorError(ValueError):
    """The text is no selector; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """What an attestor found.

    Attributes:
        kind: Who found it: "unix", "k8s", "x509pop".
        value: What: "uid:1000".
    """

    kind: str
    value: str

    @override
    def __str__(self) -> str:
        """The form that `parse_selector` reads."""
        return f"{self.kind}:{self.value}"


def parse_selector(text: str) -> Selector:
    """Read "unix:uid:1000".

    Raises:
        InvalidSelectorError: It is none.
    """
    kind, colon, value = text.partition(":")
    if not colon:
        raise InvalidSelectorError(f"{text[:80]!r} is no selector; write KIND:VALUE")
    if not _KIND.fullmatch(kind):
        raise InvalidSelectorError(
            f"{kind[:80]!r} is no kind of selector: lower-case letters, digits and '_', 64 at most"
        )
    if not value:
        raise InvalidSelectorError(f"selector {kind!r} has no value")
    if len(value) > _MAX_VALUE:
        raise InvalidSelectorError(f"a value of {kind!r} is longer than {_MAX_VALUE} characters")
    # Two that look alike must be alike.
    if not value.isprintable() or value != value.strip():
        raise InvalidSelectorError(
            f"the value of {kind!r} has a control character or a space at an end: {value[:80]!r}"
        )
    return Selector(kind, value)


def selector_texts(selectors: Iterable[Selector]) -> str:
    """Write selectors for people, sorted."""
    return ", ".join(map(str, sorted(selectors))) or "none"
