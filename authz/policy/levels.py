"""How deep in the roles a subject stands, for the subject-priority effect."""

from collections.abc import Mapping

from authz.policy.errors import ExpressionError
from authz.policy.roles import Roles

__all__ = ["subject_levels"]


def subject_levels(roles: Mapping[str, Roles]) -> dict[tuple[str, str], int]:
    """The level of every name in `g`, by (domain, name); 0 is who nobody inherits from.

    Casbin takes names away level by level: first those that are nobody's role, then those that are
    nobody's role among what is left. The smaller level decides first.

    Raises:
        ExpressionError: Roles go in a circle.
    """
    parents: dict[tuple[str, str], set[tuple[str, str]]] = {}
    children: dict[tuple[str, str], int] = {}
    for member, role, domain in roles["g"].links() if "g" in roles else ():
        child, parent = (domain, member), (domain, role)
        parents.setdefault(child, set()).add(parent)
        parents.setdefault(parent, set())
    for above in parents.values():
        for parent in above:
            children[parent] = children.get(parent, 0) + 1
    levels: dict[tuple[str, str], int] = {}
    level = 0
    now = [name for name in parents if name not in children]
    while now:
        following: list[tuple[str, str]] = []
        for name in now:
            levels[name] = level
            for parent in parents[name]:
                children[parent] -= 1
                if not children[parent]:
                    following.append(parent)
        now = following
        level += 1
    if len(levels) < len(parents):
        circle = sorted(name for _, name in parents.keys() - levels.keys())
        raise ExpressionError(f"roles go in a circle: {', '.join(circle[:5])}")
    return levels
