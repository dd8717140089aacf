"""Templates: one entry for every workload of a kind, its SPIFFE ID made of what is found there.

`spiffe://{{trust_domain}}/ns/{{k8s.ns}}/sa/{{k8s.sa}}` takes the value of the selector `k8s:ns:...`
and that of `k8s:sa:...` of the workload; `{{node.k8s_psat.cluster}}` that of the node's selector
`k8s_psat:cluster:...`. A value comes from somebody's file or pod, so it goes in only where it is
exactly one segment of a path, or one label of a DNS name: it can't add a segment, leave one, or
make two workloads that differ one identity.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ca.selectors import Selector

__all__ = [
    "NODE",
    "TRUST_DOMAIN",
    "Unfilled",
    "as_dns_name",
    "as_label",
    "as_segment",
    "fill",
    "grammar_fault",
    "placeholders",
    "values_of",
]

TRUST_DOMAIN = "trust_domain"
NODE = "node."
"""What placeholders begin with that the node fills, not the workload."""

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_-]+)+")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
# RFC 1123 section 2.1, in lower case.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_DNS_BYTES = 253  # RFC 1035 section 2.3.4, without the root's dot.


@dataclass(frozen=True, slots=True)
class Unfilled:
    """Why a template can't be filled from what was found."""

    reason: str


def placeholders(text: str) -> Iterator[str]:
    """Give the name in each pair of braces, in order."""
    return (found[1] for found in _PLACEHOLDER.finditer(text))


def grammar_fault(text: str, separator: str) -> str:
    """Say what is wrong with a template; "" for nothing.

    Args:
        text: The template.
        separator: What stands between the parts that hold one value each: "/" or ".".
    """
    rest = _PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        return "it has a brace that belongs to no {{placeholder}}"
    for name in placeholders(text):
        if name != TRUST_DOMAIN and not _NAME.fullmatch(name):
            return (
                f"{{{{{name}}}}} is no placeholder; there are {{{{trust_domain}}}}, "
                "{{KIND.KEY}} such as {{k8s.ns}}, and {{node.KIND.KEY}}"
            )
        if name.startswith(NODE) and name.count(".") < 2:  # noqa: PLR2004 - node.KIND.KEY
            return f"{{{{{name}}}}} names no selector; write {{{{node.KIND.KEY}}}}"
    # A dot inside the braces is no separator.
    parts = _PLACEHOLDER.sub("{}", text).split(separator)
    if any(part.count("{}") > 1 for part in parts):
        # "a-b" + "c" and "a" + "b-c" would be one identity.
        return f"two placeholders stand side by side; put {separator!r} between them"
    return ""


def values_of(selectors: Iterable[Selector], prefix: str = "") -> Mapping[str, frozenset[str]]:
    """Give each value by the name of its placeholder.

    Args:
        selectors: What was found.
        prefix: Before each name: "" for a workload, NODE for a node.
    """
    found: dict[str, set[str]] = {}
    for selector in selectors:
        parts = selector.value.split(":")
        # "pod-label:app:web" has a value for k8s.pod-label.app, and one for k8s.pod-label.
        for end in range(1, len(parts)):
            name = prefix + ".".join((selector.kind, *parts[:end]))
            found.setdefault(name, set()).add(":".join(parts[end:]))
    return {name: frozenset(values) for name, values in found.items()}


def as_segment(value: str) -> bool:
    """Whether it is one segment of a SPIFFE ID's path (SPIFFE-ID, section 2.2)."""
    return _SEGMENT.fullmatch(value) is not None and value not in {".", ".."}


def as_label(value: str) -> bool:
    """Whether it is one label of a DNS name."""
    return _LABEL.fullmatch(value) is not None


def as_dns_name(text: str) -> bool:
    """Whether it is a DNS name in lower case, which nobody reads as an address."""
    labels = text.split(".")
    if len(text) > _MAX_DNS_BYTES or not all(map(as_label, labels)):
        return False
    # RFC 1123 section 2.1: what ends in a number would be read as an address.
    return not labels[-1].isdigit()


def fill(
    text: str,
    values: Mapping[str, frozenset[str]],
    is_fit: Callable[[str], bool],
    only: Callable[[str], bool] = lambda _: True,
) -> str | Unfilled:
    """Put values into a template.

    Args:
        text: A template that `grammar_fault` finds nothing wrong with.
        values: Each value by the name of its placeholder.
        is_fit: Whether a value may stand there: `as_segment` or `as_label`.
        only: Which placeholders to fill; the others stay.

    Returns:
        The text; or why not, at the first placeholder that has no value, several, or an unfit one.

    Example:
        >>> fill("/ns/{{k8s.ns}}", {"k8s.ns": frozenset({"shop"})}, as_segment)
        '/ns/shop'
    """
    for name in dict.fromkeys(placeholders(text)):
        if not only(name):
            continue
        there = values.get(name, frozenset())
        if len(there) != 1:
            what = "no value" if not there else f"{len(there)} values: {', '.join(sorted(there))}"
            return Unfilled(f"{{{{{name}}}}} has {what}")
        (value,) = there
        if not is_fit(value):
            return Unfilled(f"{{{{{name}}}}} can't take the value {value!r}")
    return _PLACEHOLDER.sub(
        lambda found: next(iter(values[found[1]])) if only(found[1]) else found[0], text
    )
