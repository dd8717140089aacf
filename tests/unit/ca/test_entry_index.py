"""Which entries are whose, against the plain definition, whatever is put in and taken out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.entries import Entry, Match, Miss, WorkloadEntry, match
from ca.entry_index import EntryIndex
from ca.selectors import Selector
from ca.spiffe_id import SpiffeId

TD = "td"
LONG = 1000
SERVER = f"spiffe://{TD}/meshwarden/server"
AGENTS = [f"spiffe://{TD}/meshwarden/agent/t/{name}" for name in "ab"]
ALIASES = [f"spiffe://{TD}/nodes/{name}" for name in "xy"]
NODE = [Selector("rack", value) for value in "123"]

aliases = st.builds(
    lambda name, alias, selectors: Entry(
        WorkloadEntry(name, alias, tuple(sorted(selectors))), SERVER
    ),
    st.sampled_from("pqrs"),
    st.sampled_from(ALIASES),
    st.sets(st.sampled_from(NODE), min_size=1),
)
plain = st.builds(
    lambda name, parent, hint: Entry(
        WorkloadEntry(name, f"spiffe://{TD}/{name}", (Selector("unix", "uid:1"),), hint=hint),
        parent,
    ),
    st.sampled_from("pqrstuvw"),
    st.sampled_from([*AGENTS, *ALIASES]),
    st.sampled_from(["", "h"]),
)
steps = st.lists(aliases | plain | st.sampled_from("pqrstuvw"), max_size=30)


@given(steps, st.sets(st.sampled_from(NODE)))
def test_an_agent_has_its_own_entries_and_those_of_the_aliases_of_its_node(
    taken: list[Entry | str], selectors: set[Selector]
) -> None:
    """After any changes, and as the same object while nothing of it changed."""
    index = EntryIndex(TD)
    there: dict[str, Entry] = {}
    found = frozenset(selectors)
    for step in taken:
        before = index.for_agent(AGENTS[0], found)
        if isinstance(step, str):
            index.remove(step)
            there.pop(step, None)
        else:
            index.put(step)
            there[step.workload.id] = step
        parents = {AGENTS[0]} | {
            each.workload.spiffe_id
            for each in there.values()
            if each.parent_id == SERVER and found.issuperset(each.workload.selectors)
        }
        wanted = {name: each.workload for name, each in there.items() if each.parent_id in parents}
        after = index.for_agent(AGENTS[0], found)
        assert after.entries == wanted
        if wanted == before.entries:
            assert after.digest == before.digest
        assert index.for_agent(AGENTS[0], found) is after
    assert len(index) == len(there)
    index.clear()
    assert not index.for_agent(AGENTS[0], found).entries


def test_agents_with_the_same_entries_share_them() -> None:
    """Thousands of nodes of one alias cost one set."""
    index = EntryIndex(TD)
    index.put(Entry(WorkloadEntry("p", ALIASES[0], (NODE[0],)), SERVER))
    index.put(Entry(WorkloadEntry("q", f"spiffe://{TD}/q", (NODE[1],)), ALIASES[0]))
    selectors = frozenset({NODE[0]})
    one, other = (index.for_agent(agent, selectors) for agent in AGENTS)
    assert one is other
    assert [*one.entries] == ["q"]


def test_what_a_node_does_not_fill_is_not_its_own() -> None:
    """Nodes that fill it differently get different entries."""
    index = EntryIndex(TD)
    template = f"spiffe://{TD}/{{{{node.rack.place}}}}/w"
    index.put(Entry(WorkloadEntry("q", template, (NODE[1],), dns_names=("{{node.rack.place}}",)),
                    AGENTS[0]))  # fmt: skip
    made = index.for_agent(AGENTS[0], frozenset({Selector("rack", "place:a")}))
    assert made.entries["q"].spiffe_id == f"spiffe://{TD}/a/w"
    assert made.entries["q"].dns_names == ("a",)
    assert not index.for_agent(AGENTS[0], frozenset()).entries
    both = frozenset({Selector("rack", "place:a"), Selector("rack", "place:b")})
    assert not index.for_agent(AGENTS[0], both).entries


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("meshwarden", Miss("the template makes spiffe://td/meshwarden/server, which is the")),
        ("x" * 1024, Miss("the template makes no SPIFFE ID: it is longer than")),
        ("shop", Match(SpiffeId("td", "/shop/server"), ())),
    ],
    ids=["the service's own", "too long", "another"],
)
def test_what_a_node_says_of_itself_makes_no_id_of_the_services(
    value: str, made: Match | Miss
) -> None:
    """Also where nothing is left for the workload to fill."""
    index = EntryIndex(TD)
    template = "spiffe://td/{{node.rack.n}}/server" + "/{{node.rack.n}}" * (len(value) > LONG)
    uid = Selector("unix", "uid:1")
    index.put(Entry(WorkloadEntry("p", template, (uid,)), AGENTS[0]))
    mine = index.for_agent(AGENTS[0], frozenset({Selector("rack", f"n:{value}")}))
    found = match(mine.entries["p"], frozenset({uid}))
    if isinstance(made, Miss):
        assert isinstance(found, Miss)
        assert found.reason.startswith(made.reason)
    else:
        assert found == made
