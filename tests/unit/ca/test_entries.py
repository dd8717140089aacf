"""Entries: what may be registered, who gets which, and how a set is told from another."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.entries import Entry, Match, Miss, WorkloadEntry, match, needed, set_digest, why_none
from ca.entry_draft import Draft, EntryRules, check_draft
from ca.selectors import InvalidSelectorError, Selector, parse_selector

RULES = EntryRules("mesh.example", max_x509_ttl_s=86_400, max_jwt_ttl_s=3_600)
AGENT = "spiffe://mesh.example/meshwarden/agent/join_token/a1"
WEB = "spiffe://mesh.example/ns/shop/sa/web"
SERVER = "spiffe://mesh.example/meshwarden/server"


def draft(**changes: object) -> Draft:
    """A good one, but for the changes."""
    fields: dict[str, object] = {"parent_id": AGENT, "spiffe_id": WEB, "selectors": ["unix:uid:7"]}
    return Draft(**{**fields, **changes})  # type: ignore[arg-type]


def accepted(**changes: object) -> Entry:
    """The entry that a good draft makes."""
    made = check_draft(draft(**changes), RULES)
    assert isinstance(made, Entry), made
    return made


def faults(**changes: object) -> list[str]:
    """What is wrong with a bad one."""
    made = check_draft(draft(**changes), RULES)
    assert isinstance(made, tuple), made
    return [f"{each.field}: {each.message}" for each in made]


def test_an_entry_has_its_selectors_sorted_and_each_once() -> None:
    """However they were written, it is the same entry."""
    made = accepted(selectors=["unix:uid:7", "k8s:ns:shop", "unix:uid:7"])
    assert made.workload.selectors == (Selector("k8s", "ns:shop"), Selector("unix", "uid:7"))


def test_the_trust_domain_is_filled_in_for_good() -> None:
    """In the ID and in the parent."""
    made = accepted(
        parent_id="spiffe://{{trust_domain}}/nodes/a", spiffe_id="spiffe://{{ trust_domain }}/web"
    )
    assert (made.parent_id, made.workload.spiffe_id) == (
        "spiffe://mesh.example/nodes/a",
        "spiffe://mesh.example/web",
    )


PARTS = st.sampled_from(["ns", "sa", "ns:a", "sa:b", "ns:b", "label:app:web", "label:app", "uid:1"])
FOUND = st.frozensets(st.builds(Selector, st.sampled_from(["k8s", "unix"]), PARTS), max_size=8)
TEXTS = st.sampled_from(
    ["spiffe://td/web", "spiffe://td/{{k8s.ns}}/{{k8s.sa}}", "spiffe://td/{{k8s.label.app}}"]
)


@given(FOUND, FOUND, TEXTS, st.lists(st.sampled_from(["{{k8s.sa}}.svc", "{{unix.ns}}"])))
def test_what_is_needed_of_the_selectors_says_the_same_as_all_of_them(
    found: frozenset[Selector], asked: frozenset[Selector], text: str, names: list[str]
) -> None:
    """The identity, the DNS names, or why there is none."""
    entry = WorkloadEntry("e", text, tuple(sorted(asked)), dns_names=tuple(names))
    few = needed(entry, found)
    assert few <= found
    assert match(entry, few) == match(entry, found)


def test_of_thousands_of_groups_the_one_that_is_asked_for_is_needed() -> None:
    """And whatever fills a template, also where it is too much."""
    groups = frozenset(Selector("unix", f"supplementary_gid:{n}") for n in range(3_000))
    seven = Selector("unix", "supplementary_gid:7")
    assert needed(WorkloadEntry("e", WEB, (seven,)), groups) == {seven}
    template = WorkloadEntry("e", "spiffe://td/{{unix.supplementary_gid}}", ())
    assert needed(template, groups | {Selector("unix", "uid:1")}) == groups


def test_a_template_of_the_workloads_own_selectors_needs_no_other_selector() -> None:
    """Its placeholders say what has to be there."""
    assert accepted(spiffe_id="spiffe://mesh.example/ns/{{k8s.ns}}", selectors=[])


def test_an_alias_of_nodes_has_the_service_as_its_parent() -> None:
    """Its selectors are those of nodes."""
    assert (
        accepted(parent_id=SERVER, spiffe_id="spiffe://mesh.example/nodes/all").parent_id == SERVER
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"spiffe_id": "spiffe://other.example/web"}, "spiffe_id: its trust domain is"),
        ({"spiffe_id": "spiffe://MESH.example/web"}, "spiffe_id: "),
        ({"spiffe_id": "spiffe://mesh.example/a//b"}, "empty segment"),
        ({"spiffe_id": "spiffe://mesh.example/a/../b"}, "'..'"),
        ({"spiffe_id": "spiffe://mesh.example"}, "no path"),
        ({"spiffe_id": "spiffe://mesh.example/meshwarden"}, "service's own"),
        ({"spiffe_id": "spiffe://mesh.example/meshwarden/agent/x509pop/1"}, "service's own"),
        ({"spiffe_id": "spiffe://{{k8s.ns}}/web"}, "spiffe_id: "),
        ({"spiffe_id": "spiffe://mesh.example/{{k8s.ns}}{{k8s.sa}}"}, "side by side"),
        (
            {"spiffe_id": "spiffe://mesh.example/{{node.rack}}", "selectors": []},
            "names no selector",
        ),
        ({"spiffe_id": "spiffe://mesh.example/{{node.a.b}}", "selectors": []}, "selectors: none"),
        ({"selectors": []}, "selectors: none"),
        ({"selectors": ["unix"]}, "KIND:VALUE"),
        ({"selectors": ["Unix:uid:1"]}, "kind of selector"),
        ({"selectors": ["unix: uid"]}, "space"),
        ({"selectors": ["unix:a\nb"]}, "control"),
        ({"selectors": [f"unix:uid:{n}" for n in range(33)]}, "at most 32"),
        ({"parent_id": ""}, "parent_id: "),
        ({"parent_id": WEB}, "own parent"),
        (
            {"parent_id": "spiffe://other.example/meshwarden/agent/a/b"},
            "parent_id: its trust domain",
        ),
        ({"parent_id": "spiffe://mesh.example/meshwarden/agent/a"}, "no agent's"),
        ({"parent_id": "spiffe://mesh.example/meshwarden/x"}, "no agent's"),
        ({"parent_id": SERVER, "admin": True}, "alias of nodes takes no"),
        ({"x509_ttl_s": 86_401}, "outside 0..86400"),
        ({"x509_ttl_s": -1}, "outside"),
        ({"jwt_ttl_s": 3_601}, "jwt_ttl_s"),
        ({"hint": "a\nb"}, "hint"),
        ({"hint": "h" * 257}, "hint"),
        ({"admin": True, "spiffe_id": "spiffe://mesh.example/{{k8s.ns}}"}, "admin"),
        ({"dns_names": ["web", "web"]}, "twice"),
        ({"dns_names": [f"h{n}" for n in range(33)]}, "at most 32"),
    ],
)
def test_a_draft_with_a_fault_makes_no_entry(changes: dict[str, object], why: str) -> None:
    """And is told which."""
    assert any(why in each for each in faults(**changes))


@pytest.mark.parametrize(
    "name",
    ["Web", "*.web", "web.", ".web", "a..b", "10.0.0.1", "::1", "1.2.3", "a_b", "-a", "a b", "",
     "a" * 64, ".".join(["a" * 60] * 5), "wéb", "web\n", "{{k8s.ns}}{{k8s.sa}}", "{{k8s.ns"],
)  # fmt: skip
def test_what_is_no_dns_name_is_refused(name: str) -> None:
    """No wildcard, no address, one spelling."""
    assert any("dns_names" in each for each in faults(dns_names=[name]))


@pytest.mark.parametrize("name", ["web", "web.shop.svc.cluster.local", "3com.example", "x-1.y"])
def test_a_dns_name_is_taken_as_it_is(name: str) -> None:
    """Lower-case labels."""
    assert accepted(dns_names=[name]).workload.dns_names == (name,)


def test_every_fault_is_told_at_once() -> None:
    """Nobody has to mend one after the other."""
    assert len(faults(spiffe_id="x", selectors=["y"], hint="\n", x509_ttl_s=-1)) == 4


def test_an_entry_matches_when_all_its_selectors_were_found() -> None:
    """More may be found than it asks for."""
    entry = accepted(selectors=["unix:uid:7", "unix:gid:8"]).workload
    found = frozenset(map(parse_selector, ["unix:uid:7", "unix:gid:8", "unix:user:www"]))
    assert isinstance(match(entry, found), Match)
    missed = match(entry, frozenset(map(parse_selector, ["unix:uid:7"])))
    assert missed == Miss("not found: unix:gid:8", (Selector("unix", "gid:8"),))


def test_no_identity_is_explained_by_what_was_found_and_the_nearest_entry() -> None:
    """One selector short comes before two."""
    near = WorkloadEntry("e1", WEB, tuple(map(parse_selector, ["unix:gid:1", "unix:uid:7"])))
    far = WorkloadEntry("e2", f"{WEB}2", tuple(map(parse_selector, ["unix:gid:1", "unix:uid:9"])))
    told = why_none([far, near], frozenset({Selector("unix", "uid:7")}))
    assert "selectors found: unix:uid:7" in told
    assert told.index("e1") < told.index("e2")
    assert "not found: unix:gid:1" in told
    assert "no entry at all" in why_none([], frozenset())


def test_a_sets_digest_does_not_depend_on_its_order_and_changes_with_anything_in_it() -> None:
    """Server and agent compare nothing else."""
    entries = [
        WorkloadEntry(f"e{n}", f"{WEB}{n}", (Selector("unix", f"uid:{n}"),)) for n in range(9)
    ]
    shuffled = random.Random(1).sample(entries, 9)
    assert set_digest(entries) == set_digest(shuffled)
    seen = {set_digest(entries), set_digest(entries[1:]), set_digest([])}
    for change in (
        {"spiffe_id": WEB}, {"selectors": ()}, {"x509_ttl_s": 1}, {"jwt_ttl_s": 1},
        {"dns_names": ("a",)}, {"hint": "a"}, {"version": 1}, {"id": "e00"},
    ):  # fmt: skip
        fields = {name: getattr(entries[0], name) for name in WorkloadEntry.__slots__}
        seen.add(set_digest([WorkloadEntry(**{**fields, **change}), *entries[1:]]))
    assert len(seen) == 3 + 8


def test_what_stands_in_one_field_never_counts_as_another() -> None:
    """Lengths are in the digest."""
    one = WorkloadEntry("e", "a", (), dns_names=("b", "c"), hint="d")
    other = WorkloadEntry("e", "a", (), dns_names=("b",), hint="c")
    assert set_digest([one]) != set_digest([other])


@given(st.text(max_size=60))
def test_any_text_is_a_selector_that_is_written_back_the_same_or_none(text: str) -> None:
    """One spelling."""
    try:
        made = parse_selector(text)
    except InvalidSelectorError:
        return
    assert str(made) == text


@given(
    st.builds(
        Draft,
        parent_id=st.text(max_size=30) | st.just(AGENT),
        spiffe_id=st.text(max_size=30).map("spiffe://mesh.example/{}".format),
        selectors=st.lists(st.text(max_size=10), max_size=3),
        dns_names=st.lists(st.text(max_size=10), max_size=3),
        hint=st.text(max_size=5),
        x509_ttl_s=st.integers(),
    )
)
def test_any_draft_makes_an_entry_or_is_told_why_not(drafted: Draft) -> None:
    """Accepted, or faults, and nothing else."""
    made = check_draft(drafted, RULES)
    assert isinstance(made, Entry) or all(each.message for each in made)
