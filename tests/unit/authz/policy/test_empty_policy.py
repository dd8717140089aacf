"""What is in force before there is a policy: nothing is allowed, whatever the settings bind."""

import pytest

from authz.policy.mesh import MESH, NO_MODEL, empty_policy
from authz.policy.snapshot import Snapshot


@pytest.mark.parametrize("bound", [(), ("who", "path"), ("sub",), ("sub", "obj", "act")])
def test_an_empty_policy_denies_every_request(bound: tuple[str, ...]) -> None:
    """It builds with the fields that are bound, so that the service starts."""
    snapshot = Snapshot.build(empty_policy(bound))
    assert set(bound) <= set(snapshot.request_fields)
    assert not snapshot.decide(["" for _ in snapshot.request_fields]).allowed


def test_only_where_the_built_in_model_does_not_fit_there_is_none() -> None:
    """Commands then ask for the model by name."""
    assert empty_policy(["who"]).model_file == MESH
    assert empty_policy(["who", "sub"]).model_file == NO_MODEL
