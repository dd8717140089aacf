"""What an entry must be: every fault of a draft at once, each with the field it is in.

The limits are far above what anybody needs and far below what would hurt: an agent holds all its
entries, and a stream carries them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ca import spiffe_id, templates
from ca.entries import API, Entry, WorkloadEntry, is_reserved
from ca.selectors import InvalidSelectorError, Selector, parse_selector
from ca.spiffe_id import SpiffeId

__all__ = [
    "Draft",
    "EntryRules",
    "Fault",
    "agent_id_fault",
    "agent_spiffe_id",
    "check_draft",
    "server_id",
]

_MAX_SELECTORS = 32
_MAX_DNS_NAMES = 32
_MAX_HINT = 256
_STAND_IN = "x"


@dataclass(frozen=True, slots=True)
class EntryRules:
    """What the service allows.

    Attributes:
        trust_domain: The own one.
        max_x509_ttl_s: The longest that an entry may ask for.
        max_jwt_ttl_s: Likewise.
    """

    trust_domain: str
    max_x509_ttl_s: int
    max_jwt_ttl_s: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry as somebody wrote it; nothing about it is known to be right.

    Attributes:
        parent_id: See Entry; may begin with "spiffe://{{trust_domain}}".
        spiffe_id: See WorkloadEntry; likewise.
        selectors: As "unix:uid:1000".
        x509_ttl_s: See WorkloadEntry.
        jwt_ttl_s: See WorkloadEntry.
        dns_names: See WorkloadEntry.
        hint: See WorkloadEntry.
        admin: See Entry.
        id: Of the entry that it changes; "" for a new one.
        origin: See Entry.
    """

    parent_id: str
    spiffe_id: str
    selectors: Sequence[str] = ()
    x509_ttl_s: int = 0
    jwt_ttl_s: int = 0
    dns_names: Sequence[str] = ()
    hint: str = ""
    admin: bool = False
    id: str = ""
    origin: str = API


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a draft: the field, and what to write."""

    field: str
    message: str


def server_id(trust_domain: str) -> str:
    """Give the service's own SPIFFE ID: the parent of an alias of nodes."""
    return f"spiffe://{trust_domain}/meshwarden/server"


def agent_spiffe_id(trust_domain: str, path: str) -> str:
    """Give an agent's SPIFFE ID, of its path "ATTESTOR/ID"; with "" what all of them begin with."""
    return f"spiffe://{trust_domain}/meshwarden/agent/{path}"


def agent_id_fault(text: str, trust_domain: str) -> str:
    """Say why a text is no agent's SPIFFE ID; "" for nothing."""
    prefix = agent_spiffe_id(trust_domain, "")
    try:
        spiffe_id.parse(text)
    except spiffe_id.InvalidSpiffeIdError as error:
        return f"{text[:200]!r} is no SPIFFE ID: {error}"
    # ATTESTOR/ID at the least.
    if not text.startswith(prefix) or "/" not in text.removeprefix(prefix):
        return f"{text[:200]!r} is no agent's; those begin with {prefix}ATTESTOR/"
    return ""


def check_draft(draft: Draft, rules: EntryRules) -> Entry | tuple[Fault, ...]:
    """Make an entry of a draft, or give everything that is wrong with it.

    What shows only beside other entries (a duplicate, an id that isn't there) is for the store.
    """
    faults: list[Fault] = []
    selectors = _selectors(draft.selectors, faults)
    identity = _with_domain(draft.spiffe_id, rules)
    parent = _with_domain(draft.parent_id, rules)
    own = [*templates.placeholders(identity)]
    faults += [Fault("parent_id", message) for message in _parent_faults(parent, identity, rules)]
    faults += [Fault("spiffe_id", message) for message in _id_faults(identity, rules)]
    faults += _dns_faults(draft.dns_names)
    workload_fills = any(not name.startswith(templates.NODE) for name in own)
    is_alias = parent == server_id(rules.trust_domain)
    if not draft.selectors and not workload_fills:
        faults.append(Fault("selectors", "none: it would be every workload's; give at least one"))
    if is_alias and (own or draft.dns_names or draft.admin):
        faults.append(
            Fault("parent_id", "an alias of nodes takes no template, no DNS name and no admin flag")
        )
    if draft.admin and own:
        faults.append(Fault("admin", "not with a template: name each administrator"))
    if len(draft.hint) > _MAX_HINT or not draft.hint.isprintable():
        faults.append(Fault("hint", f"at most {_MAX_HINT} characters, and none of control"))
    for field, value, most in (
        ("x509_ttl_s", draft.x509_ttl_s, rules.max_x509_ttl_s),
        ("jwt_ttl_s", draft.jwt_ttl_s, rules.max_jwt_ttl_s),
    ):
        if not 0 <= value <= most:
            faults.append(Fault(field, f"{value} is outside 0..{most} (0 is the default)"))
    if faults:
        return tuple(faults)
    workload = WorkloadEntry(
        id=draft.id,
        spiffe_id=identity,
        selectors=selectors,
        x509_ttl_s=draft.x509_ttl_s,
        jwt_ttl_s=draft.jwt_ttl_s,
        dns_names=tuple(draft.dns_names),
        hint=draft.hint,
    )
    return Entry(workload, parent, draft.admin, 0, draft.origin)


def _selectors(texts: Sequence[str], faults: list[Fault]) -> tuple[Selector, ...]:
    if len(texts) > _MAX_SELECTORS:
        faults.append(Fault("selectors", f"{len(texts)} of them; at most {_MAX_SELECTORS}"))
        return ()
    found = set()
    for text in texts:
        try:
            found.add(parse_selector(text))
        except InvalidSelectorError as error:
            faults.append(Fault("selectors", str(error)))
    return tuple(sorted(found))


def _with_domain(text: str, rules: EntryRules) -> str:
    """Write the trust domain out; it is the one placeholder that is filled for good."""
    name = templates.TRUST_DOMAIN
    filled = templates.fill(
        text, {name: frozenset({rules.trust_domain})}, templates.as_segment, name.__eq__
    )
    return text if isinstance(filled, templates.Unfilled) else filled


def _parsed(text: str, rules: EntryRules) -> SpiffeId | str:
    try:
        made = spiffe_id.parse(text)
    except spiffe_id.InvalidSpiffeIdError as error:
        return f"{text[:200]!r} is no SPIFFE ID: {error}"
    if made.trust_domain != rules.trust_domain:
        return f"its trust domain is {made.trust_domain!r}, and ours is {rules.trust_domain!r}"
    # X509-SVID section 2: only a trust domain's authority has no path.
    return made if made.path else "it has no path: it would be the trust domain itself"


def _parent_faults(parent: str, identity: str, rules: EntryRules) -> Iterator[str]:
    made = _parsed(parent, rules)
    if isinstance(made, str):
        yield made
        return
    if parent == identity:
        yield "it is its own parent"
    is_own = is_reserved(made) and parent != server_id(rules.trust_domain)
    if is_own and (fault := agent_id_fault(parent, rules.trust_domain)):
        yield f"{fault}, and {server_id(rules.trust_domain)} is for an alias of nodes"


def _id_faults(identity: str, rules: EntryRules) -> Iterator[str]:
    if fault := templates.grammar_fault(identity, "/"):
        yield fault
        return
    names = [*templates.placeholders(identity)]
    # A template is judged by what it makes of a harmless value; what it makes of others, when it is
    # filled.
    values = {name: frozenset({_STAND_IN}) for name in names}
    filled = templates.fill(identity, values, templates.as_segment)
    made = _parsed(filled if isinstance(filled, str) else identity, rules)
    if isinstance(made, str):
        yield made
    elif "{{" in identity.removeprefix("spiffe://").partition("/")[0]:
        yield "its trust domain can only be {{trust_domain}}, or ours in full"
    elif is_reserved(made):
        yield "IDs below /meshwarden are the service's own"


def _dns_faults(names: Sequence[str]) -> Iterator[Fault]:
    if len(names) > _MAX_DNS_NAMES:
        yield Fault("dns_names", f"{len(names)} of them; at most {_MAX_DNS_NAMES}")
        return
    if len(set(names)) != len(names):
        yield Fault("dns_names", "one stands twice")
    for name in names:
        if fault := templates.grammar_fault(name, "."):
            yield Fault("dns_names", f"{name[:80]!r}: {fault}")
            continue
        there = {each: frozenset({_STAND_IN}) for each in templates.placeholders(name)}
        filled = templates.fill(name, there, templates.as_label)
        if not templates.as_dns_name(filled if isinstance(filled, str) else name):
            yield Fault(
                "dns_names",
                f"{name[:80]!r} is no DNS name: lower-case labels of letters, digits and '-', no "
                "wildcard, no address, no dot at the end",
            )
