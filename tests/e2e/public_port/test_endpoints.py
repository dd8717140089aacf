"""Health, readiness and metrics, over gRPC and HTTP on the one port."""

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.support.clients import CHECK, call, channel_to, send
from tests.e2e.support.service import Service
from tests.fakes.envoy import check_request

AUTHORIZATION = "envoy.service.auth.v3.Authorization"


@pytest.mark.parametrize("name", ["", AUTHORIZATION])
def test_grpc_health_knows_the_server_and_check(service: Service, name: str) -> None:
    """As load balancers and Kubernetes ask."""
    with channel_to(service.port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_grpc_health_does_not_know_what_is_not_here(service: Service) -> None:
    """NOT_FOUND, as the protocol says."""
    with channel_to(service.port) as channel, pytest.raises(grpc.RpcError) as unknown:
        health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="nobody"), timeout=10
        )
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("which", ["service", "tls_service"])
def test_http_answers_on_the_same_port(
    request: pytest.FixtureRequest, which: str, path: str
) -> None:
    """Over plain text and over TLS."""
    running: Service = request.getfixturevalue(which)
    status, body = running.get(path)
    assert status == 200
    assert body


@pytest.mark.parametrize(
    "path", ["/", "/healthz/x", "/metricsx", "/debug/pprof", "/stats", "/quitquitquit"]
)
def test_nothing_else_is_there(service: Service, path: str) -> None:
    """Envoy's admin interface least of all."""
    for method in ("GET", "POST"):
        assert send(service.port, method, path, body=b"").status == 404


def test_metrics_count_every_verdict(service: Service) -> None:
    """By verdict and HTTP status, and how long they took."""
    asked = {
        ("allow", "200"): check_request("/public/a", extensions={"service": "catalog"}),
        ("deny", "403"): check_request("/nowhere", extensions={"service": "catalog"}),
    }
    before = {
        key: service.metric("meshwarden_checks_total", verdict=key[0], status=key[1])
        for key in asked
    }
    timed_before = service.metric("meshwarden_check_seconds_count")
    with channel_to(service.port) as channel:
        for message in asked.values():
            for _ in range(5):
                CheckResponse.FromString(call(channel, CHECK, message.SerializeToString()))
    for verdict, status in asked:
        now = service.metric("meshwarden_checks_total", verdict=verdict, status=status)
        assert now == before[verdict, status] + 5
    assert service.metric("meshwarden_check_seconds_count") == timed_before + 10
    assert service.metric("meshwarden_policy_rules") > 10
    assert b"principal" not in service.get("/metrics")[1], "a label has no bounds"
