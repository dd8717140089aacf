"""A shadow policy through the whole service: followed, counted, recorded, never obeyed."""

import json
from collections.abc import Callable
from pathlib import Path

import grpc

from deploy.demo.processes import wait_until
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from tests.e2e.support.service import Service

OPEN = "p, *, shop, GET, /open, allow\n"


def test_a_candidate_is_judged_beside_the_policy_and_never_obeyed(
    new_folder: Callable[[], Path],
) -> None:
    """An edit of it is followed as well; what it would have denied is told."""
    folder = new_folder()
    candidate = folder / "candidate"
    candidate.mkdir()
    (candidate / "policy.csv").write_text(OPEN)
    request = CheckRequest()
    request.attributes.request.http.method = "GET"
    request.attributes.request.http.path = "/open"
    request.attributes.context_extensions["service"] = "shop"
    settings = {"policy.shadow": str(candidate)}
    with (
        Service(folder, {"policy.csv": OPEN}, settings) as service,
        grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel,
    ):
        service.wait_ready()
        stub = AuthorizationStub(channel)

        def outcome(name: str) -> float:
            assert stub.Check(request, timeout=5).status.code == 0
            return service.metric("meshwarden_shadow_checks_total", outcome=name)

        wait_until(lambda: outcome("same") > 0, [service], 10)
        (candidate / "policy.csv").write_text(OPEN + "p, *, shop, GET, /open, deny\n")
        wait_until(lambda: outcome("would_deny") > 0, [service], 10)

        def is_recorded() -> bool:
            log = folder / "state" / "decisions.jsonl"
            entries = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
            return any(
                entry["verdict"] == "would_deny" and entry["rule_line"] == 2 for entry in entries
            )

        wait_until(is_recorded, [service], 10)
