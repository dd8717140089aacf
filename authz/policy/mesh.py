"""The built-in model, and the policy of those who have none yet."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files

from authz.policy.rules import PolicyText

__all__ = ["MESH", "NO_MODEL", "empty_policy", "mesh_model"]

MESH = "mesh"
"""The name of the built-in model, in config files and messages."""

NO_MODEL = "no model yet"
"""The name of the model of an empty policy, where the built-in one doesn't fit."""

_MESH_FIELDS = frozenset({"who", "user", "service", "method", "path", "attributes"})


@cache
def mesh_model() -> str:
    """The text of the built-in model, which comes with this package."""
    return files(__package__).joinpath("mesh.conf").read_text(encoding="utf-8")


def empty_policy(bound: Collection[str] = ()) -> PolicyText:
    """A policy without rules, which denies every request: what is in force before there is any.

    Args:
        bound: Request fields that the settings bind to attributes. Where those aren't the built-in
            model's own, a model of somebody's own is to come, and this one has the same fields.
    """
    if _MESH_FIELDS.issuperset(bound):
        return PolicyText(mesh_model(), ())
    fields = ", ".join(bound)
    # Not by the fields: without rules Casbin asks the matcher about one of empty values, which a
    # request of empty values would meet.
    return PolicyText(
        f"[request_definition]\nr = {fields}\n[policy_definition]\np = {fields}\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = false\n",
        (),
        NO_MODEL,
    )
