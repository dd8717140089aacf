"""Without fronts, control answers the same by grpcio: same bytes, same health, same endpoints."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to, tls_channel
from tests.e2e.support.instance import Instance
from tests.e2e.support.mesh import Identities
from tests.fakes.envoy import WEB, certificate, check_request

HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
GRPCIO = {"server.transport": "grpcio"}
POLICY = {
    "policy.csv": """\
p, mesh.example/ns/shop/sa/web, catalog, GET|POST, /items/**, allow
p, *, *, GET, /public/**, allow
p, *, *, GET, /public/not/**, deny
p, role:clerk, *, GET, /orders, allow
g, user:https://issuer.example/bob, role:clerk
p, *, *, GET, /by-header, allow, request.headers['x-env'] == 'prod'
p, *, *, GET, /odd, allow, request.size > 'a'
"""
}
CATALOG = {"service": "catalog"}
# Each is one CheckRequest; what both transports answer must not differ in a byte but the id.
ASKED: dict[str, CheckRequest] = {
    "allowed by principal": check_request("/items/1", extensions=CATALOG),
    "another method": check_request("/items/1", method="DELETE", extensions=CATALOG),
    "another service": check_request("/items/1"),
    "no credential": check_request("/items/1", principal="", extensions=CATALOG),
    "another principal": check_request("/items/1", principal=WEB + "2", extensions=CATALOG),
    "a certificate": check_request(
        "/items/1", principal="", certificate=certificate(uris=(WEB,)), extensions=CATALOG
    ),
    "two identities": check_request(
        "/items/1", principal="", certificate=certificate(uris=(WEB, WEB + "2")), extensions=CATALOG
    ),
    "public": check_request("/public/a", principal=""),
    "an explicit deny": check_request("/public/not/a"),
    "a query": check_request("/public/a?x=%2F"),
    "an ambiguous path": check_request("/public//a"),
    "an encoded slash": check_request("/public/%2e%2e/a"),
    "a path of no form": check_request("*"),
    "an empty path": check_request(""),
    "a long path": check_request("/public/" + "a" * 60_000),
    "a token": check_request(
        "/orders", tokens={"jwt_payload": {"iss": "https://issuer.example", "sub": "bob"}}
    ),
    "a header": check_request("/by-header", headers={"x-env": "prod"}),
    "another header": check_request("/by-header", headers={"x-env": "test"}),
    "raw headers": check_request("/by-header", raw_headers=[("x-env", b"prod")]),
    "raw headers of no text": check_request("/by-header", raw_headers=[("x-env", b"\xff")]),
    "a condition that raises": check_request("/odd"),
    "an upper-case host": check_request("/public/a", host="CATALOG.shop:443"),
    "nothing at all": CheckRequest(),
}


@pytest.fixture(scope="module")
def both(new_place: NewPlace) -> Iterator[dict[str, Instance]]:
    """Run the same policy behind a front and by grpcio."""
    with ExitStack() as running:
        yield {
            transport: running.enter_context(
                new_place({"server.transport": transport}, POLICY).start()
            ).wait_ready()
            for transport in ("front", "grpcio")
        }


@pytest.fixture
def edge(both: dict[str, Instance]) -> Instance:
    """Give the one by grpcio."""
    return both["grpcio"]


def outcome(instance: Instance, message: bytes) -> bytes | tuple[object, str | None]:
    """Ask; give the answer without the decision's id, or the RPC error."""
    with channel_to(instance.place.port) as channel:
        try:
            reply = CheckResponse.FromString(call(channel, CHECK, message))
        except grpc.RpcError as error:
            return error.code(), error.details()
    told = reply.dynamic_metadata["meshwarden"]
    decision_id = told["id"]
    told["id"] = ""
    return reply.SerializeToString(deterministic=True).replace(decision_id.encode(), b"")


@pytest.mark.parametrize("asked", ASKED)
def test_both_transports_give_one_answer(asked: str, both: dict[str, Instance]) -> None:
    """Verdict, headers, body and metadata."""
    message = ASKED[asked].SerializeToString()
    assert outcome(both["grpcio"], message) == outcome(both["front"], message)


def test_both_transports_refuse_bytes_that_are_no_check_request(both: dict[str, Instance]) -> None:
    """In the same words."""
    told = {str(outcome(instance, b"\xff\xff\xff")) for instance in both.values()}
    assert len(told) == 1
    assert "INVALID_ARGUMENT" in told.pop()


def test_health_and_reflection_are_served(edge: Instance) -> None:
    """As through a front."""
    kinds = health_pb2.HealthCheckResponse.ServingStatus
    with channel_to(edge.place.port) as channel:
        for service in ("", "envoy.service.auth.v3.Authorization"):
            question = health_pb2.HealthCheckRequest(service=service).SerializeToString()
            answer = health_pb2.HealthCheckResponse.FromString(call(channel, HEALTH, question))
            assert answer.status == kinds.SERVING
        question = health_pb2.HealthCheckRequest(service="no.such").SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            call(channel, HEALTH, question)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watched = channel.unary_stream(WATCH, None, None)(b"", timeout=20)
        assert health_pb2.HealthCheckResponse.FromString(next(watched)).status == kinds.SERVING
        watched.cancel()

        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        reply = next(
            reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]))
        )
        names = {each.name for each in reply.list_services_response.service}
    assert "envoy.service.auth.v3.Authorization" in names


@pytest.mark.parametrize(
    "method",
    [
        "/meshwarden.v1.Admin/Status",
        "/meshwarden.v1.Admin/Reload",
        "/meshwarden.v1.Internal/Report",
        "/meshwarden.v1.Identity/WhoAmI",
        "/envoy.service.auth.v3.Authorization/Other",
    ],
)
def test_what_is_not_public_is_not_served(method: str, edge: Instance) -> None:
    """WhoAmI neither: it believes a header that only a front writes."""
    with channel_to(edge.place.port) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, method)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_http_endpoints_are_on_a_port_of_their_own(edge: Instance) -> None:
    """And nothing else is."""
    assert edge.get("/healthz") == (200, "ok\n")
    assert edge.get("/readyz") == (200, "ready\n")
    assert "meshwarden_policy_rules 6.0" in edge.get("/metrics")[1]
    assert edge.get("/envoy.service.auth.v3.Authorization/Check")[0] == 404


def test_decisions_are_recorded_and_counted(edge: Instance) -> None:
    """By control itself."""
    log = edge.place.state_dir / "decisions.jsonl"
    with channel_to(edge.place.port) as channel:
        call(channel, CHECK, check_request("/recorded").SerializeToString())
    edge.wait_for(lambda: log.exists() and '"path":"/recorded"' in log.read_text())
    assert '"front":"grpcio"' in log.read_text().splitlines()[-1]
    edge.wait_for(
        lambda: (
            edge.metric("meshwarden_decision_records_total", outcome="logged")
            == len(log.read_text().splitlines())
        )
    )


def test_a_policy_is_reloaded_and_its_fronts_are_none(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """`reload` waits for control; `restart fronts` has nothing to do."""
    instance = run(new_place(GRPCIO)).wait_ready()
    (instance.place.policy / "policy.csv").write_text("p, *, *, GET, /new, allow\n")
    assert instance.place.command("reload").returncode == 0
    with channel_to(instance.place.port) as channel:
        reply = CheckResponse.FromString(
            call(channel, CHECK, check_request("/new").SerializeToString())
        )
    assert reply.status.code == 0
    assert instance.place.command("restart", "fronts").returncode == 0


def test_a_stop_ends_control_in_order(new_place: NewPlace, run: Callable[..., Instance]) -> None:
    """Readiness goes first here too, and the log holds no trace of a fault."""
    instance = run(new_place(GRPCIO)).wait_ready()
    instance.wait_for(instance.answers)
    with channel_to(instance.place.port) as channel:
        watched = channel.unary_stream(WATCH, None, None)(b"", timeout=20)
        kinds = health_pb2.HealthCheckResponse.ServingStatus
        seen = (health_pb2.HealthCheckResponse.FromString(each).status for each in watched)
        assert next(seen) == kinds.SERVING
        instance.stop()
        assert next(seen) == kinds.NOT_SERVING
        watched.cancel()
    assert instance.ended() == 0
    said = instance.said()
    assert "Traceback" not in said
    assert "is killed" not in said


def test_tls_comes_from_the_same_files(
    new_place: NewPlace, run: Callable[..., Instance], identities: Identities
) -> None:
    """A client that trusts the authority gets through; one that speaks plain text does not."""
    tls = {
        "listen.tls.certificate": str(identities.catalog.certificate),
        "listen.tls.key": str(identities.catalog.key),
    }
    instance = run(new_place({**GRPCIO, **tls})).wait_ready()
    message = check_request("/public/a").SerializeToString()
    with tls_channel(instance.place.port, identities.authority, None) as channel:
        assert CheckResponse.FromString(call(channel, CHECK, message)).status.code == 0
    with channel_to(instance.place.port) as channel, pytest.raises(grpc.RpcError):
        call(channel, CHECK, message)


def test_it_is_warned_of_once_where_it_was_not_asked_for(both: dict[str, Instance]) -> None:
    """Asked for, it is no reason to warn."""
    assert "fronts can't run here" not in both["grpcio"].said()
