"""Clients that know nothing of us find their way: grpcurl by reflection, h2load, grpcio."""

import json
import re
import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from tests.e2e.support.clients import CHECK, channel_to
from tests.e2e.support.service import Service
from tests.fakes.envoy import check_request

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
TIMEOUT_S = 60
CHECKS = 5_000
ALLOWED = check_request("/public/a", extensions={"service": "catalog"})
DENIED = check_request("/nowhere", extensions={"service": "catalog"})


def run(*command: object) -> str:
    """Run a program to its end; give its output."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Building takes longer than a test may.
@pytest.mark.timeout(400)
def test_grpcurl_lists_and_describes_unaided(grpcurl: Path, service: Service) -> None:
    """By reflection: no .proto file of ours, no option."""
    address = f"127.0.0.1:{service.port}"
    listed = run(grpcurl, "-plaintext", address, "list").split()
    assert {AUTHORIZATION, "grpc.health.v1.Health", "meshwarden.v1.Identity"} <= {*listed}
    described = run(grpcurl, "-plaintext", address, "describe", AUTHORIZATION)
    assert "rpc Check ( .envoy.service.auth.v3.CheckRequest )" in described
    message = run(grpcurl, "-plaintext", address, "describe", "envoy.service.auth.v3.CheckRequest")
    assert "attributes = 1" in message


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("asked", "verdict"), [(ALLOWED, "allow"), (DENIED, "deny")])
def test_grpcurl_checks(grpcurl: Path, service: Service, asked: CheckRequest, verdict: str) -> None:
    """A CheckRequest as JSON in, a CheckResponse as JSON out."""
    text = json.dumps(MessageToDict(asked))
    address = f"127.0.0.1:{service.port}"
    reply = json.loads(run(grpcurl, "-plaintext", "-d", text, address, f"{AUTHORIZATION}/Check"))
    assert reply["dynamic_metadata"]["meshwarden"]["verdict"] == verdict


@pytest.mark.timeout(400)
def test_grpcurl_reads_health_and_identity(grpcurl: Path, service: Service) -> None:
    """What the front answers and what control answers, behind one address."""
    address = f"127.0.0.1:{service.port}"
    health = run(grpcurl, "-plaintext", address, "grpc.health.v1.Health/Check")
    assert json.loads(health) == {"status": "SERVING"}
    who = run(grpcurl, "-plaintext", address, "meshwarden.v1.Identity/WhoAmI")
    assert json.loads(who) == {"source_ip": "127.0.0.1"}


@pytest.mark.requires_debian_package("nghttp2-client", command="h2load")
def test_h2load_gets_an_answer_to_every_check(service: Service, tmp_path: Path) -> None:
    """Eight connections with many streams each; the metrics count what it counts."""
    message = ALLOWED.SerializeToString()
    body = tmp_path / "check"
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    before = service.metric("meshwarden_checks_total", verdict="allow")
    said = run(
        *("h2load", "-n", CHECKS, "-c", 8, "-m", 32, "-d", body),
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
        f"http://127.0.0.1:{service.port}{CHECK}",
    )
    assert re.search(rf"{CHECKS} succeeded, 0 failed, 0 errored, 0 timeout", said), said
    assert re.search(rf"{CHECKS} 2xx, 0 3xx, 0 4xx, 0 5xx", said), said
    assert service.metric("meshwarden_checks_total", verdict="allow") == before + CHECKS


def test_grpcio_checks(service: Service) -> None:
    """Blocking and asyncio clients, many calls on one channel."""
    with channel_to(service.port) as channel:
        stub = AuthorizationStub(channel)
        waiting = [stub.Check.future(ALLOWED, timeout=TIMEOUT_S) for _ in range(200)]
        answers: list[CheckResponse] = [each.result() for each in waiting]
    assert all(answer.HasField("ok_response") for answer in answers)
    ids = {
        answer.dynamic_metadata.fields["meshwarden"].struct_value.fields["id"].string_value
        for answer in answers
    }
    assert len(ids) == len(answers)


def test_grpcio_checks_compressed(service: Service) -> None:
    """A client may compress what it sends."""
    with channel_to(service.port) as channel:
        answer = AuthorizationStub(channel).Check(
            ALLOWED, timeout=TIMEOUT_S, compression=grpc.Compression.Gzip
        )
    assert answer.HasField("ok_response")
