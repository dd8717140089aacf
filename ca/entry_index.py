"""Which entries are which agent's, kept so that an answer costs little however many there are."""

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ca import templates
from ca.entries import Entry, WorkloadEntry, set_digest
from ca.entry_draft import server_id
from ca.selectors import Selector

__all__ = ["AgentEntries", "EntryIndex"]


class AgentEntries:
    """The entries of an agent, as they were at one time; agents with the same ones share it.

    Attributes:
        entries: By id.
        digest: Of all of them.
    """

    __slots__ = ("__weakref__", "digest", "entries")

    def __init__(self, entries: Mapping[str, WorkloadEntry]) -> None:
        self.entries = entries
        self.digest = set_digest(entries.values())


class EntryIndex:
    """All entries, by parent.

    Args:
        trust_domain: The own one.
    """

    def __init__(self, trust_domain: str) -> None:
        self._server_id = server_id(trust_domain)
        self._all: dict[str, Entry] = {}
        self._groups: dict[str, dict[str, WorkloadEntry]] = {}
        # Counted up with each change of a group: what was made of it before is then made anew.
        self._generations: dict[str, int] = {}
        # Aliases by one selector of theirs: a node is asked only about those it may be.
        self._aliases: dict[Selector, dict[str, Entry]] = {}
        self._made: weakref.WeakValueDictionary[object, AgentEntries] = (
            weakref.WeakValueDictionary()
        )

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._all)

    def get(self, entry_id: str) -> Entry | None:
        """Give one entry."""
        return self._all.get(entry_id)

    def all(self) -> Iterable[Entry]:
        """Give every entry, in no order."""
        return self._all.values()

    def put(self, entry: Entry) -> None:
        """Add an entry, or take it in place of the one with its id."""
        self.remove(entry.workload.id)
        self._all[entry.workload.id] = entry
        self._touch(entry.parent_id)
        self._groups.setdefault(entry.parent_id, {})[entry.workload.id] = entry.workload
        if entry.parent_id == self._server_id:
            first = entry.workload.selectors[0]
            self._aliases.setdefault(first, {})[entry.workload.id] = entry

    def remove(self, entry_id: str) -> None:
        """Take an entry out; one that isn't there is out already."""
        entry = self._all.pop(entry_id, None)
        if entry is None:
            return
        self._touch(entry.parent_id)
        _drop(self._groups, entry.parent_id, entry_id)
        if entry.parent_id == self._server_id:
            _drop(self._aliases, entry.workload.selectors[0], entry_id)

    def clear(self) -> None:
        """Take every entry out."""
        for entry_id in [*self._all]:
            self.remove(entry_id)

    def for_agent(self, agent_id: str, selectors: frozenset[Selector]) -> AgentEntries:
        """Give the entries that an agent may issue for.

        Cost: O(its node's selectors and the aliases they are in) where nothing of it changed.

        Returns:
            The same object as long as nothing of it changed.
        """
        parents = [each for each in self._parents(agent_id, selectors) if each in self._groups]
        key: object = tuple((each, self._generations[each]) for each in parents)
        made = self._made.get(key) or self._made.get((key, selectors))
        if made is not None:
            return made
        entries: dict[str, WorkloadEntry] = {}
        for parent in parents:
            entries.update(self._groups[parent])
        if any(_asks_node(each) for each in entries.values()):
            # Filled from this node: only nodes with the same selectors share it.
            key = (key, selectors)
            entries = dict(_filled(entries, selectors))
        made = AgentEntries(entries)
        self._made[key] = made
        return made

    def _parents(self, agent_id: str, selectors: frozenset[Selector]) -> list[str]:
        aliases = {
            alias.workload.spiffe_id
            for selector in selectors
            for alias in self._aliases.get(selector, {}).values()
            if selectors.issuperset(alias.workload.selectors)
        }
        return [agent_id, *sorted(aliases)]

    def _touch(self, parent_id: str) -> None:
        self._generations[parent_id] = self._generations.get(parent_id, 0) + 1


def _drop(groups: dict[Selector, dict[str, Entry]] | dict[str, dict[str, WorkloadEntry]],
          group: object, member: str) -> None:  # fmt: skip
    members = groups[group]  # type: ignore[index]
    del members[member]
    if not members:
        del groups[group]  # type: ignore[arg-type]


def _asks_node(entry: WorkloadEntry) -> bool:
    return any(
        name.startswith(templates.NODE)
        for text in (entry.spiffe_id, *entry.dns_names)
        for name in templates.placeholders(text)
    )


def _filled(
    entries: Mapping[str, WorkloadEntry], selectors: frozenset[Selector]
) -> Iterable[tuple[str, WorkloadEntry]]:
    """Fill what the node fills; an entry that its selectors don't fill is not this node's."""
    values = templates.values_of(selectors, templates.NODE)

    def is_nodes(name: str) -> bool:
        return name.startswith(templates.NODE)

    for entry_id, entry in entries.items():
        identity = templates.fill(entry.spiffe_id, values, templates.as_segment, is_nodes)
        names = [
            templates.fill(each, values, templates.as_label, is_nodes) for each in entry.dns_names
        ]
        if not any(isinstance(each, templates.Unfilled) for each in (identity, *names)):
            yield (
                entry_id,
                replace(entry, spiffe_id=str(identity), dns_names=tuple(map(str, names))),
            )
