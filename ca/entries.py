"""Entries: which workload, on which node, gets which identity.

A draft is what somebody wrote; an entry is one that `check_draft` finds nothing wrong with. Agents
get `WorkloadEntry`, the part that they need; both sides match by the same `match`.
"""

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from ca import spiffe_id, templates
from ca.selectors import Selector, selector_texts
from ca.spiffe_id import SpiffeId

__all__ = [
    "API",
    "MANY_SELECTORS",
    "Entry",
    "Match",
    "Miss",
    "WorkloadEntry",
    "entry_digest",
    "fingerprint",
    "is_reserved",
    "match",
    "needed",
    "set_digest",
    "shortened",
    "why_none",
]

API = "api"
"""The origin of an entry that somebody registered by the API."""

MANY_SELECTORS = 256
"""Beyond so many of a workload's selectors only those that decided are told and recorded."""

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class WorkloadEntry:
    """What an agent knows of an entry.

    Attributes:
        id: Of the entry.
        spiffe_id: The identity, or a template of it; the trust domain is written out.
        selectors: Must all be found on a workload; sorted, each once.
        x509_ttl_s: Of its X509-SVIDs; 0 is the service's default.
        jwt_ttl_s: Of its JWT-SVIDs, likewise.
        dns_names: DNS SANs of its X509-SVIDs; may be templates too.
        hint: Tells the workload which of several identities is which.
        version: Grows with each change of this entry.
    """

    id: str
    spiffe_id: str
    selectors: tuple[Selector, ...]
    x509_ttl_s: int = 0
    jwt_ttl_s: int = 0
    dns_names: tuple[str, ...] = ()
    hint: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole entry, as the service keeps it.

    Attributes:
        workload: What its agents are told.
        parent_id: The agent that may issue for it, an alias of agents, or the service itself: then
            it is an alias, of all nodes that its selectors match.
        admin: Workloads with it may administer the service.
        created_ns: When, in nanoseconds since the epoch; 0 before it is kept.
        origin: API, or the file and line that declared it.
    """

    workload: WorkloadEntry
    parent_id: str
    admin: bool = False
    created_ns: int = 0
    origin: str = API


@dataclass(frozen=True, slots=True)
class Match:
    """The identity that an entry gives a workload."""

    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Miss:
    """Why an entry gives a workload no identity.

    Attributes:
        reason: In words.
        missing: The selectors that were not found.
    """

    reason: str
    missing: tuple[Selector, ...] = ()


def match(entry: WorkloadEntry, found: frozenset[Selector]) -> Match | Miss:
    """Give the identity that an entry gives a workload on which these selectors were found."""
    missing = tuple(each for each in entry.selectors if each not in found)
    if missing:
        return Miss(f"not found: {selector_texts(missing)}", missing)
    if "{{" not in entry.spiffe_id and not entry.dns_names:  # Most entries.
        # Judged all the same: the node may have filled a template of it.
        return _made(entry.spiffe_id, [])
    values = templates.values_of(found)
    text = templates.fill(entry.spiffe_id, values, templates.as_segment)
    names = [templates.fill(each, values, templates.as_label) for each in entry.dns_names]
    for filled in (text, *names):
        if isinstance(filled, templates.Unfilled):
            return Miss(filled.reason)
    return _made(str(text), [*map(str, names)])


def needed(entry: WorkloadEntry, found: frozenset[Selector]) -> frozenset[Selector]:
    """Give those of a workload's selectors that `match` looks at: by them alone it says the same.

    A user may be in thousands of groups, of which an entry asks for one.
    """
    wanted = found.intersection(entry.selectors)
    texts = (entry.spiffe_id, *entry.dns_names)
    names = {name for text in texts for name in templates.placeholders(text)}
    kinds = {name.partition(".")[0] for name in names}
    filling = (
        each
        for each in found
        if each.kind in kinds and not names.isdisjoint(templates.values_of([each]))
    )
    return wanted.union(filling)


def shortened(entry: WorkloadEntry, found: frozenset[Selector]) -> frozenset[Selector]:
    """Give what an order names of a workload's selectors: all, or of too many those `needed`."""
    return found if len(found) <= MANY_SELECTORS else needed(entry, found)


def _made(text: str, names: list[str]) -> Match | Miss:
    """Judge what templates have made of values that each fit by themselves."""
    try:
        made = spiffe_id.parse(text)
    except spiffe_id.InvalidSpiffeIdError as error:
        return Miss(f"the template makes no SPIFFE ID: {error}")
    # A label that fits by itself may make of the whole an address, or too long a name.
    unfit = [name for name in names if not templates.as_dns_name(name)]
    if is_reserved(made):
        return Miss(f"the template makes {made}, which is the service's own")
    if unfit:
        return Miss(f"the template makes {unfit[0]!r}, which is no DNS name")
    return Match(made, tuple(names))


def is_reserved(identity: SpiffeId) -> bool:
    """Whether an ID is one of those that the service gives to itself and its agents."""
    return identity.path == "/meshwarden" or identity.path.startswith("/meshwarden/")


def why_none(entries: Iterable[WorkloadEntry], found: frozenset[Selector]) -> str:
    """Say why no entry matches: what was found, and the entries that are nearest.

    Cost: O(entries); whoever has no identity may ask without end, so reasons are written for the
    nearest alone.
    """
    misses = []
    for entry in entries:
        missing = len([each for each in entry.selectors if each not in found])
        if missing or isinstance(match(entry, found), Miss):
            misses.append((missing, missing - len(entry.selectors), entry.id, entry))
    told = f"selectors found: {selector_texts(found)}"
    if not misses:
        return f"{told}; this agent has no entry at all"
    near = []
    for *_, entry in heapq.nsmallest(_NEAREST, misses, key=lambda each: each[:3]):
        miss = match(entry, found)
        assert isinstance(miss, Miss)  # noqa: S101 - seen above
        near.append(f"{entry.spiffe_id} (entry {entry.id}): {miss.reason}")
    return f"{told}; nearest of {len(misses)} entries: {'; '.join(near)}"


def fingerprint(parent_id: str, identity: str, selectors: Iterable[Selector]) -> str:
    """Name what makes an entry the same as another one, whatever else it says."""
    return _digest((parent_id, identity, *map(str, sorted(selectors)))).hex()


def entry_digest(entry: WorkloadEntry) -> bytes:
    """Digest one entry in canonical form: each field after its length, lists after their count."""
    return _digest(
        (
            entry.id,
            entry.spiffe_id,
            str(len(entry.selectors)),
            *map(str, entry.selectors),
            str(entry.x509_ttl_s),
            str(entry.jwt_ttl_s),
            str(len(entry.dns_names)),
            *entry.dns_names,
            entry.hint,
            str(entry.version),
        )
    )


def set_digest(entries: Iterable[WorkloadEntry]) -> bytes:
    """Digest a set of entries, however it is ordered: EntriesReply.digest.

    Cost: O(entries); 32 bytes whatever there is.
    """
    whole = hashlib.sha256()
    for each in sorted((entry.id.encode(), entry_digest(entry)) for entry in entries):
        whole.update(each[1])
    return whole.digest()


def _digest(fields: Iterable[str]) -> bytes:
    made = hashlib.sha256()
    for field in fields:
        data = field.encode()
        made.update(len(data).to_bytes(4, "big") + data)
    return made.digest()
