"""Policies: a fixed answer, and the real engine with a few lines of the mesh model."""

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

import authz.policy
from authz.attributes import MESH_BINDING, Binding, reader
from authz.check import ActivePolicy
from authz.policy.decision import Decision
from authz.policy.rules import PolicyText, Row, Rule
from authz.policy.snapshot import EngineOptions, RequestValues, Snapshot, Terms

__all__ = ["RULE", "FixedSnapshot", "fixed", "mesh_policy", "mesh_text"]

MESH_MODEL = Path(authz.policy.__file__).with_name("mesh.conf")
RULE = Rule(1, "p", ("*", "*", "*", "/**", "allow"), "policy.csv", 12, "allow")


class FixedSnapshot(Snapshot):
    """Decides by the function it is given."""

    def __init__(self, decide: Callable[[RequestValues], Decision]) -> None:
        self._decide = decide
        self.digest = "f" * 64
        self.request_fields = tuple(MESH_BINDING)
        self.rule_count = 1
        self.secret_columns = {}

    @override
    def decide(self, request: RequestValues, terms: Terms = Terms()) -> Decision:  # noqa: B008
        """Answer what the function does."""
        return self._decide(request)


def fixed(decide: Callable[[RequestValues], Decision]) -> ActivePolicy:
    """Make a policy of a function."""
    snapshot = FixedSnapshot(decide)
    return ActivePolicy(snapshot, Binding(snapshot.request_fields, {}))


def mesh_text(*lines: str) -> PolicyText:
    """Write a policy of the mesh model from lines such as "p, *, *, GET, /a, allow".

    What follows the sixth comma is the condition, commas included.
    """
    rows = []
    for number, line in enumerate(lines, 1):
        ptype, *values = [value.strip() for value in line.split(",", 6)]
        rows.append(Row(ptype, tuple(values), "policy.csv", number))
    return PolicyText(MESH_MODEL.read_text(), tuple(rows))


def mesh_policy(*lines: str) -> ActivePolicy:
    """Build a policy of the mesh model from lines such as "p, *, *, GET, /a, allow"."""
    snapshot = Snapshot.build(mesh_text(*lines), None, EngineOptions(attribute=reader))
    return ActivePolicy(snapshot, Binding(snapshot.request_fields, {}))
