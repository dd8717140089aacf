"""Roles drawn as trees: each name whole once, circles ended, whatever the links."""

from authz.authoring.role_tree import RoleNode, role_trees, roles_above
from authz.policy.rules import Row


def links(*pairs: tuple[str, str]) -> list[Row]:
    """Rows that give roles: member, role."""
    return [Row("g", pair) for pair in pairs]


def names(node: RoleNode) -> list[str]:
    """Every name of a tree, from the top."""
    return [node.name, *(name for each in node.branches for name in names(each))]


def test_members_stand_below_their_roles() -> None:
    """A role that another one has stands below that."""
    (top,) = role_trees(links(("ann", "staff"), ("boss", "staff"), ("bob", "boss")))
    assert names(top) == ["staff", "ann", "boss", "bob"]


def test_a_role_that_two_others_have_is_drawn_whole_once() -> None:
    """Else a few dozen links could draw more lines than there are atoms."""
    pairs = [(f"r{n + 1}", f"r{n}{side}") for n in range(20) for side in "ab"]
    pairs += [(f"r{n}{side}", f"r{n}") for n in range(20) for side in "ab"]
    (top,) = role_trees(links(*pairs))
    assert len(names(top)) < 200
    again = top.branches[1].branches[0]
    assert (again.name, again.is_told, again.branches) == ("r1", True, ())


def test_a_circle_ends_where_it_begins_again() -> None:
    """Also one that nothing leads into, and a role that has itself."""
    trees = role_trees(links(("a", "b"), ("b", "a"), ("x", "x"), ("ann", "staff")))
    assert [names(each) for each in trees] == [["staff", "ann"], ["b", "a", "b"], ["x", "x"]]
    assert trees[1].branches[0].branches[0].is_cycle
    assert trees[2].branches[0].is_cycle


def test_a_chain_without_end_is_cut() -> None:
    """Nobody reads a thousand levels, and nothing overflows."""
    (top,) = role_trees(links(*[(f"r{n + 1}", f"r{n}") for n in range(1000)]), "r0")
    assert len(names(top)) == 51


def test_from_a_member_roles_stand_below_it() -> None:
    """What it has, and what follows from that."""
    node = roles_above(links(("ann", "boss"), ("boss", "staff"), ("bob", "staff")), "ann")
    assert names(node) == ["ann", "boss", "staff"]
