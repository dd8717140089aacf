"""The parts of the Check benchmark that need no server."""

import json
import subprocess
import sys

import pytest

from benchmarks import policies
from benchmarks.requests import MESSAGE_BYTES, check_request, framed
from benchmarks.servers import parse_verdicts
from tests.fakes.policy import mesh_policy


def rows(policy: str) -> list[str]:
    """The lines of a policy that are rows."""
    return [line for line in policy.splitlines() if line]


def test_the_request_has_the_size_that_figures_are_compared_at() -> None:
    """466 bytes, and five more in a gRPC frame."""
    body = framed(check_request())
    assert len(body) == MESSAGE_BYTES + 5
    assert body[:5] == b"\0" + MESSAGE_BYTES.to_bytes(4, "big")


def test_a_policy_has_as_many_rules_as_it_says() -> None:
    """Roles come on top."""
    for count in (10, 11, 1_000):
        lines = rows(policies.shop(count))
        assert sum(line.startswith("p,") for line in lines) == count


@pytest.mark.parametrize("policy", [policies.at_once(), policies.shop(10), policies.shop(1_000)])
def test_every_policy_is_accepted_as_it_stands(policy: str) -> None:
    """Whatever is measured is a policy that a user could have."""
    active = mesh_policy(*rows(policy))
    assert active.snapshot.rule_count == sum(line.startswith("p,") for line in rows(policy))


def test_verdicts_are_added_up_over_statuses() -> None:
    """As /metrics tells them."""
    metrics = (
        "# TYPE meshwarden_checks_total counter\n"
        'meshwarden_checks_total{status="200",verdict="allow"} 1.25e+06\n'
        'meshwarden_checks_total{status="401",verdict="deny"} 2.0\n'
        'meshwarden_checks_total{status="403",verdict="deny"} 3.0\n'
    )
    assert parse_verdicts(metrics) == {"allow": 1_250_000, "deny": 5}


@pytest.mark.nightly
@pytest.mark.timeout(180)
@pytest.mark.requires_debian_package("nghttp2-client", command="h2load")
def test_a_quick_run_prints_a_line_of_json_for_each_scenario() -> None:
    """With real servers, under real load; figures are not judged here."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.check", "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["scenario"] for line in lines]
    assert {"check/constant", "check/10", "check/10+tls", "check/latency-2000"} <= set(names)
    assert len(names) == len(set(names))
    for line in lines:
        assert list(line) == ["scenario", "value", "unit", "baseline", "ratio"]
        assert line["value"] > 0
        assert line["ratio"] > 0
