"""Rules filed by their fields, so that a request meets only the few that it could match.

A node files rules by one field: by value in a dict. A leaf is a short list of rules in the order
in which they decide, or the rule itself where there is one, as in most places: with many rules a
decision costs what it has to fetch from memory, and a list is two more things to fetch. A leaf
becomes a node once it is too long and its rules differ in some field that no node above has asked.
A search takes, for each field, the values that the request could match, and goes down only there.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from typing import Any

from authz.policy.rules import Rule

__all__ = ["Leaf", "Node", "Tree"]

# Trying a rule costs about a fifth of going down a node.
_MAX_LEAF = 6

Leaf = list[Rule] | Rule


class Node:
    """Rules filed by one field.

    Attributes:
        probe: Which of the request's sets of values to go by.
        field: The place of the field in a rule.
        children: By the field's value, as the rule has it.
    """

    __slots__ = ("children", "field", "probe")

    def __init__(self, probe: int, field: int) -> None:
        self.probe = probe
        self.field = field
        self.children: dict[str, Node | Leaf] = {}


class Tree:
    """The rules of one effect, filed for one branch of a matcher.

    Attributes:
        root: Where a search starts.
        order: (probe, field) pairs, the most telling first.
        arranged: Whether the order is known to suit the rules.
        size: How many rules there are.
    """

    __slots__ = ("arranged", "order", "root", "size")

    def __init__(self, order: Sequence[tuple[int, int]]) -> None:
        self.root: Node | Leaf = []
        self.order = tuple(order)
        self.arranged = False
        self.size = 0

    def clear(self, order: Sequence[tuple[int, int]], *, arranged: bool) -> None:
        """Drop every rule, to file by another order from now on."""
        self.root = []
        self.order = tuple(order)
        self.arranged = arranged
        self.size = 0

    def add(self, rule: Rule) -> None:
        """File one rule. Cost: O(fields), but for a leaf of rules that no field tells apart."""
        self.size += 1
        above: Node | None = None
        place = self.root
        asked = 0
        while type(place) is Node:
            above = place
            asked |= 1 << place.probe
            key = rule.values[place.field]
            child = place.children.get(key)
            if child is None:
                place.children[key] = rule
                return
            place = child
        leaf: list[Rule]
        if type(place) is Rule:
            leaf = [place]
            self._put(above, rule, leaf)
        else:
            leaf = place  # type: ignore[assignment]  # no Node and no Rule
        if leaf and rule.rank < leaf[-1].rank:
            insort(leaf, rule, key=_rank)
        else:
            leaf.append(rule)
        # Longer than that by more than one: it was found before that nothing tells its rules apart.
        if len(leaf) == _MAX_LEAF + 1 or (
            len(leaf) > _MAX_LEAF and self._differs(leaf, rule, asked)
        ):
            split = self._split(leaf, asked)
            if split is not None:
                self._put(above, rule, split)

    def remove(self, rule: Rule) -> None:
        """Take one rule out."""
        self.size -= 1
        above: Node | None = None
        place = self.root
        while type(place) is Node:
            above = place
            place = place.children[rule.values[place.field]]
        if isinstance(place, list):
            place.remove(rule)
            if place or above is None:
                return
        if above is None:
            self.root = []
        else:
            del above.children[rule.values[above.field]]

    def _put(self, above: Node | None, rule: Rule, place: "Node | Leaf") -> None:
        """Let a place stand where a rule is filed below a node, or as the root."""
        if above is None:
            self.root = place
        else:
            above.children[rule.values[above.field]] = place

    def _differs(self, leaf: Sequence[Rule], rule: Rule, asked: int) -> bool:
        other = leaf[0] if leaf[0] is not rule else leaf[-1]
        return any(
            rule.values[field] != other.values[field]
            for probe, field in self.order
            if not asked >> probe & 1
        )

    def _split(self, leaf: Sequence[Rule], asked: int) -> Node | None:
        """File a leaf by the first field, of those not asked yet, that tells its rules apart."""
        for probe, field in self.order:
            if asked >> probe & 1:
                continue
            first = leaf[0].values[field]
            # What tells the most apart comes first of all, though the first few rules be alike in
            # it.
            if all(rule.values[field] == first for rule in leaf) and (asked or not self.arranged):
                continue
            filed: dict[str, list[Rule]] = {}
            for rule in leaf:
                filed.setdefault(rule.values[field], []).append(rule)
            node = Node(probe, field)
            for key, rules in filed.items():
                child: Node | Leaf = rules[0] if len(rules) == 1 else rules
                if len(rules) > _MAX_LEAF:
                    child = self._split(rules, asked | 1 << probe) or rules
                node.children[key] = child
            return node
        return None

    def rules(self) -> Iterator[Rule]:
        """Every rule, in no particular order."""
        places: list[Node | Leaf] = [self.root]
        for place in places:
            if type(place) is Node:
                places.extend(place.children.values())
            elif isinstance(place, list):
                yield from place
            else:
                yield place  # type: ignore[misc]  # no Node and no list


def _rank(rule: Rule) -> Any:
    return rule.rank
