"""Small policies for the engine's unit tests."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from authz.policy.csv_rows import parse_csv
from authz.policy.mesh import MESH, mesh_model
from authz.policy.snapshot import EngineOptions, PolicyText, Snapshot

__all__ = ["ALLOW", "BOTH", "NOT_DENY", "PRIORITY", "SUBJECT", "built", "mesh", "model"]

ALLOW = "some(where (p.eft == allow))"
NOT_DENY = "!some(where (p.eft == deny))"
BOTH = f"{ALLOW} && {NOT_DENY}"
PRIORITY = "priority(p.eft) || deny"
SUBJECT = "subjectPriority(p.eft) || deny"


def model(
    matcher: str,
    *,
    request: str = "sub, obj, act",
    policy: str = "sub, obj, act",
    effect: str = ALLOW,
    roles: str = "",
) -> str:
    """The text of a model with one definition of each kind."""
    return f"""
[request_definition]
r = {request}
[policy_definition]
p = {policy}
[role_definition]
{roles}
[policy_effect]
e = {effect}
[matchers]
m = {matcher}
"""


def built(text: str, csv: str, **options: Any) -> Snapshot:
    """A Snapshot of a model and the CSV of its policy."""
    rows, faults = parse_csv(csv, "policy.csv")
    assert not faults
    return Snapshot.build(
        PolicyText(text, tuple(rows), "model.conf"),
        options=EngineOptions(**options),
    )


def mesh(csv: str, **options: Any) -> Snapshot:
    """A Snapshot of the built-in model."""
    rows, faults = parse_csv(csv, "policy.csv")
    assert not faults
    return Snapshot.build(
        PolicyText(mesh_model(), tuple(rows), MESH),
        options=EngineOptions(**options),
    )


Values = Mapping[str, Any]
NOON = datetime(2026, 6, 1, 12)  # noqa: DTZ001 - Casbin's times are local and bare
