"""Who has which role, as trees: a role, its members, and theirs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from authz.policy.rules import Row

__all__ = ["RoleNode", "role_trees", "roles_above"]

# Deeper chains are nobody's roles; recursion stays far from Python's limit.
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class RoleNode:
    """A name in a tree.

    Attributes:
        name: A role or a member.
        branches: What hangs on it.
        is_cycle: Whether it stands above itself, so that it ends here.
        is_told: Whether its branches are drawn elsewhere already.
        is_cut: Whether it is too deep to go on.
    """

    name: str
    branches: "tuple[RoleNode, ...]" = ()
    is_cycle: bool = False
    is_told: bool = False
    is_cut: bool = False


def role_trees(links: Iterable[Row], root: str = "") -> tuple[RoleNode, ...]:
    """Draw roles with their members below them.

    Args:
        links: Rows that give roles, all of one type and of one domain.
        root: Begin with this role; "" is every role that no other one has, and one of each cycle.
    """
    below = _index((row.values[1], row.values[0]) for row in links)
    drawing = _Drawing(below)
    if root:
        return (drawing.node(root, ()),)
    members = {each for several in below.values() for each in several}
    trees = [drawing.node(role, ()) for role in below if role not in members]
    # What is left hangs in circles that nothing leads into.
    return (*trees, *(drawing.node(name, ()) for name in below if name not in drawing.told))


def roles_above(links: Iterable[Row], member: str) -> RoleNode:
    """Draw a member with its roles below it, and the roles of those."""
    above = _index((row.values[0], row.values[1]) for row in links)
    return _Drawing(above).node(member, ())


def _index(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for one, other in pairs:
        found.setdefault(one, {})[other] = None
    return {name: list(several) for name, several in found.items()}


class _Drawing:
    """Remembers what is drawn, so that a name with many roles is drawn whole only once."""

    def __init__(self, edges: Mapping[str, Sequence[str]]) -> None:
        self._edges = edges
        self.told: set[str] = set()

    def node(self, name: str, path: tuple[str, ...]) -> RoleNode:
        """One name with what hangs on it."""
        if name in path:
            return RoleNode(name, is_cycle=True)
        further = self._edges.get(name, ())
        if not further:
            return RoleNode(name)
        if name in self.told:
            return RoleNode(name, is_told=True)
        if len(path) >= _MAX_DEPTH:
            return RoleNode(name, is_cut=True)
        self.told.add(name)
        return RoleNode(name, tuple(self.node(each, (*path, name)) for each in further))
