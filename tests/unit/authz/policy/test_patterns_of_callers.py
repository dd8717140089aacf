"""Patterns that a request brings itself, where a condition lets it."""

from time import perf_counter

import pytest

from authz.check import CheckService
from authz.decision import CheckSettings
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_policy

FUNCTIONS = ("keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("pattern", ["a" * 60_000, "/*" * 30_000, "{" * 60_000, ":" * 60_000])
def test_a_pattern_as_long_as_a_header_is_refused_and_holds_nobody_up(
    function: str, pattern: str
) -> None:
    """A rule that would allow doesn't; one that would deny does. It took a front 40 s."""
    condition = f"{function}(request.path, request.headers['x-key'])"
    request = check_request("/a", headers={"x-key": pattern}).SerializeToString()
    for effect, others in (("allow", ()), ("deny", ("p, *, *, GET, /a, allow",))):
        service: CheckService[object] = CheckService(CheckSettings(), lambda: "id")
        service.policy = mesh_policy(f'p, *, *, GET, /a, {effect}, "{condition}"', *others)
        started_s = perf_counter()
        assert CheckResponse.FromString(service.answer(request, 1)).status.code != 0
        assert perf_counter() - started_s < 1
