"""What is allowed in an entry, and was hardly meant: names that no attestor of ours finds.

A selector is text: `unix:usr:web` is one, and nothing is ever found to be it, so the entry is
nobody's and nobody is told. Who writes an entry is, here. It stays allowed: an attestor of another
version, or a node's, may find more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ca import spiffe_id, templates
from ca.entries import Entry
from ca.entry_draft import server_id

__all__ = ["WORKLOAD_KEYS", "Doubt", "doubts"]

WORKLOAD_KEYS: Mapping[str, frozenset[str]] = {
    "unix": frozenset({
        "gid", "group", "path", "sha256", "supplementary_gid", "supplementary_group", "uid", "user",
    }),
    "systemd": frozenset({"id", "unit"}),
    "k8s": frozenset({
        "container-image", "container-name", "node-name", "ns", "pod-label", "pod-name",
        "pod-owner", "pod-uid", "sa",
    }),
}  # fmt: skip
"""What the workload attestors find, by the kind of their selectors."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A selector or placeholder of a kind that we know, by a name that we don't.

    Attributes:
        text: As it was written.
        kind: Of attestor.
        key: What that doesn't find.
    """

    text: str
    kind: str
    key: str


def doubts(entry: Entry) -> Iterator[Doubt]:
    """Give what no workload can have; an alias of nodes asks for what nodes have."""
    workload = entry.workload
    if entry.parent_id == server_id(spiffe_id.parse(entry.parent_id).trust_domain):
        return
    for each in workload.selectors:
        yield from _doubt(str(each), each.kind, each.value.partition(":")[0])
    for text in (workload.spiffe_id, *workload.dns_names):
        for name in templates.placeholders(text):
            kind, _, rest = name.partition(".")
            yield from _doubt(f"{{{{{name}}}}}", kind, rest.partition(".")[0])


def _doubt(text: str, kind: str, key: str) -> Iterator[Doubt]:
    if kind in WORKLOAD_KEYS and key not in WORKLOAD_KEYS[kind]:
        yield Doubt(text, kind, key)
