"""What a running agent's /metrics show: of itself, the service, workloads and who was refused."""

import os
import queue
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.demo.processes import wait_until
from meshwarden import clock
from protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc
from tests.e2e.support.agent import (
    HEADER,
    Agent,
    AgentPlace,
    create_entry,
    new_token,
    served,
    served_to,
    served_token,
)
from tests.e2e.support.clients import send
from tests.e2e.support.instance import Place
from tests.e2e.support.service import service_port

NOBODY = 65_534
TOLD_S = 10.0
NOT_AFTER = "certificate_not_after_timestamp_seconds"


@pytest.fixture
def port() -> int:
    """Choose where metrics are."""
    return service_port()


@pytest.fixture
def agent(agent_place: AgentPlace, place: Place, port: int) -> Iterator[Agent]:
    """Run an agent with metrics and one entry for our user."""
    made = agent_place.with_token(new_token(place), "--metrics", f"127.0.0.1:{port}")
    with made as running:
        running.wait_ready()
        create_entry(place, running.agent_id, "web", f"unix:uid:{os.getuid()}")
        wait_until(lambda: running.status()["entries"] == 1, [running], TOLD_S)
        yield running


def look(port: int) -> Mapping[str, float]:
    """Collect: the name without its beginning, and labels' values, to the number."""
    answer = send(port, path="/metrics")
    assert answer.status == 200
    return {
        " ".join((each.name.removeprefix("meshwarden_"), *each.labels.values())): each.value
        for family in text_string_to_metric_families(answer.body.decode())
        for each in family.samples
    }


def test_an_operator_sees_expiry_orders_and_the_connection(
    agent: Agent, place: Place, port: int
) -> None:
    """And within a moment that the service doesn't know the agent any more."""
    served(agent.place.socket)
    served_token(agent.place.socket, "shop")
    told = look(port)
    assert told[f"{NOT_AFTER} agent"] * 1e9 == pytest.approx(agent.status()["own_expires_ns"])
    assert clock.now_ns() < told[f"{NOT_AFTER} workload"] * 1e9
    assert told["agent_connected"] == 1
    assert 0 <= clock.now_ns() / 1e9 - told["agent_synced_timestamp_seconds"] < 60
    assert told["agent_entries"] == 1
    assert (told["agent_svids x509"], told["agent_svids jwt"]) == (1, 1)
    assert told["agent_orders_total x509 signed"] == 1
    assert told["agent_orders_total jwt signed"] == 1
    assert told["process_open_fds"] > 0
    synced = told["agent_synced_timestamp_seconds"]
    assert place.command("agent", "evict", agent.agent_id, "--yes").returncode == 0
    wait_until(lambda: look(port)["agent_connected"] == 0, [agent], TOLD_S)
    assert look(port)["agent_synced_timestamp_seconds"] == synced
    assert look(port)["agent_svids x509"] == 1


def test_streams_of_both_apis_are_counted_while_they_last(agent: Agent, port: int) -> None:
    """A workload's, and an Envoy's."""
    asked: queue.SimpleQueue[DiscoveryRequest | None] = queue.SimpleQueue()
    asked.put(DiscoveryRequest(resource_names=["default"]))
    options = (("grpc.default_authority", "localhost"),)
    with grpc.insecure_channel(f"unix:{agent.place.socket}", options=options) as channel:
        stub: Any = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
        secrets: Any = SecretDiscoveryServiceStub(channel)
        x509 = stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER)
        sds = secrets.StreamSecrets(iter(asked.get, None))
        next(x509)
        next(sds)
        told = look(port)
        assert (told["agent_streams workload"], told["agent_streams sds"]) == (1, 1)
        assert told["agent_connections"] == 1
        x509.cancel()
        asked.put(None)
    over = {"agent_streams workload", "agent_streams sds", "agent_connections"}
    wait_until(lambda: not any(look(port)[name] for name in over), [agent], TOLD_S)


def test_refusals_are_counted_by_reason_and_name_nobody(agent: Agent, port: int) -> None:
    """What a caller wrote is in no label."""
    for spiffe_id in ("rubbish-1", "spiffe://td.example/admin"):
        with pytest.raises(grpc.RpcError):
            served_token(agent.place.socket, "shop", spiffe_id)
    told = look(port)
    assert told["agent_refusals_total bad_request"] == 1
    assert told["agent_refusals_total not_theirs"] == 1
    if os.geteuid() == 0:
        assert served_to(agent.place.socket, NOBODY)["code"] == "PERMISSION_DENIED"
        assert look(port)["agent_refusals_total no_identity"] == 1
    text = send(port, path="/metrics").body.decode()
    assert "metrics are served on" in agent.said()
    for theirs in ("rubbish", "td.example", agent.agent_id, "PRIVATE", str(agent.place.folder)):
        assert theirs not in text


def test_health_is_served_beside_them_and_nothing_else_is(agent: Agent, port: int) -> None:
    """200 for as long as the agent runs."""
    assert (send(port, path="/healthz").status, send(port, path="/healthz").body) == (200, b"ok\n")
    assert send(port, path="/").status == 404
    assert agent.status()["connected"]


def test_without_the_setting_there_is_no_port(agent_place: AgentPlace, place: Place) -> None:
    """And with one that is taken the start fails, and says which setting it was."""
    token = new_token(place)
    with agent_place.with_token(token) as running:
        running.wait_ready()
    assert "metrics are served" not in running.said()
    with agent_place.with_token(token, "--metrics", f"127.0.0.1:{place.port}") as running:
        assert running.ended() == 2
    assert (
        f"agent.metrics: 127.0.0.1:{place.port} can't be bound: Address already" in running.said()
    )
