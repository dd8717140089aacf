"""What an agent tells of itself: counted where it happens, in few series, on a careful port."""

import asyncio
import contextlib
import http.client
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from ca.selectors import Selector
from meshwarden import clock, metrics
from meshwarden.agent import metrics_port
from meshwarden.agent.keep import Keep
from meshwarden.agent.link import Link
from meshwarden.agent.local_door import LocalDoor
from meshwarden.agent.metrics import CONTENT_TYPE, AgentMetrics, Parts
from meshwarden.agent.metrics_port import MetricsPort, open_port
from meshwarden.settings import Address
from meshwarden.supervisor.lifecycle import RuntimeDirError
from protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DiscoveryRequest,
)
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc
from tests.e2e.support.service import service_port
from tests.fakes.endpoint import HEADER, Endpoint, endpoint, own_entry
from tests.unit.meshwarden.sds.test_streams import ask

Stub = workload_pb2_grpc.SpiffeWorkloadAPIStub
Samples = Mapping[str, float]


def parts_of(served: Endpoint, folder: Path) -> Parts:
    """Put an agent together that has not reached anybody."""
    door = LocalDoor(folder / "nobody.sock", "td.example")
    link = Link(door, served.identities, Keep(folder), clock.now_ns, random.random)
    return Parts(
        door, link, served.identities, served.renewer, served.tokens, served.api, served.relay
    )


def samples(text: str) -> Samples:
    """Read what was exposed: `name{label="value"}` to its number, but for the process' own."""
    return {
        each.name + "".join(f"{{{key}={value}}}" for key, value in sorted(each.labels.items())): (
            each.value
        )
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name.startswith("meshwarden_")
    }


def run(short: Path, test: Callable[[Endpoint, Callable[[], Samples]], Awaitable[None]]) -> None:
    """Run a test on an endpoint of its own; it can look at its metrics."""

    async def in_loop() -> None:
        async with asyncio.timeout(30), endpoint(short, tokens_per_s=0.2) as served:
            told = AgentMetrics(parts_of(served, short))
            await test(served, lambda: samples(told.exposition().decode()))

    asyncio.run(in_loop())


async def until(is_so: Callable[[], bool]) -> None:
    """Let others run until it is so."""
    while not is_so():
        await asyncio.sleep(0.01)


async def refused(call: Awaitable[object]) -> None:
    """Await a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError):
        await call


def test_what_is_not_known_yet_has_no_sample(short: Path) -> None:
    """A time of zero would be an alarm; a count of zero is one, so that it can grow."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        told = look()
        for name in ("certificate_not_after_timestamp_seconds", "agent_entries", "agent_synced"):
            assert not [each for each in told if each.startswith(f"meshwarden_{name}")]
        assert told["meshwarden_agent_connected"] == 0
        assert told["meshwarden_agent_refusals_total{reason=no_identity}"] == 0
        assert told["meshwarden_agent_orders_total{kind=jwt}{outcome=signed}"] == 0
        served.know(own_entry())
        await until(lambda: bool(served.identities.svids))
        told = look()
        ends_s = [each.not_after_ns / 1e9 for each in served.identities.svids.values()]
        name = "meshwarden_certificate_not_after_timestamp_seconds{kind=workload}"
        assert told[name] == pytest.approx(min(ends_s))
        assert told["meshwarden_agent_entries"] == 1
        assert told["meshwarden_agent_svids{kind=x509}"] == 1

    run(short, story)


def test_one_name_means_one_thing_in_the_service_and_its_agents(short: Path) -> None:
    """The same type, words and labels, so that one rule of alerts serves both."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        del look
        served.know(own_entry())
        await until(lambda: bool(served.identities.svids))
        (theirs,) = metrics.NOT_AFTER.describe()
        metrics.NOT_AFTER.labels("root")
        told = {each.name: each for each in AgentMetrics(parts_of(served, short)).collect()}
        ours = told[theirs.name]
        assert (ours.type, ours.documentation) == (theirs.type, theirs.documentation)
        (sample,) = ours.samples
        (family,) = metrics.NOT_AFTER.collect()
        assert sample.labels.keys() == family.samples[0].labels.keys()
        assert {each.name for each in REGISTRY.collect()} & told.keys() == {theirs.name}

    run(short, story)


def test_orders_are_counted_by_what_became_of_them(short: Path) -> None:
    """Certificates and tokens apart."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        def outcomes(kind: str) -> Samples:
            begin = f"meshwarden_agent_orders_total{{kind={kind}}}"
            found = {name: number for name, number in look().items() if name.startswith(begin)}
            return {
                name.rpartition("=")[2][:-1]: number for name, number in found.items() if number
            }

        async def token(audience: str) -> None:
            request = pb.JWTSVIDRequest(audience=[audience])
            await Stub(channel).FetchJWTSVID(request, metadata=HEADER)

        async with served.channel() as channel:
            served.know(own_entry())
            await until(lambda: bool(served.identities.svids))
            await token("a")
            await token("a")
            assert (outcomes("x509"), outcomes("jwt")) == ({"signed": 1}, {"signed": 1})
            served.signer.refusal = "no"
            served.know(own_entry(), own_entry("zoo"))
            await until(lambda: bool(served.identities.refusals))
            await refused(token("b"))
            served.signer.refusal, served.signer.is_down = "", True
            served.know(own_entry(), own_entry("ant"))
            await until(lambda: "failed" in outcomes("x509"))
            assert outcomes("x509") == {"signed": 1, "refused": 1, "failed": 1}
            assert outcomes("jwt") == {"signed": 1, "refused": 1}
            told = look()
            assert told["meshwarden_agent_svids{kind=jwt}"] == 1
            assert told["meshwarden_agent_refusals_total{reason=not_signed}"] == 1

    run(short, story)


def test_refusals_are_counted_by_reason(short: Path) -> None:
    """Each once; what is answered is none."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        served.know(own_entry())
        async with served.channel() as channel, served.channel(served.inner) as around:
            stub = Stub(channel)
            jwt = pb.JWTSVIDRequest
            await stub.FetchJWTSVID(jwt(audience=["a"]), metadata=HEADER)
            await refused(stub.FetchJWTSVID(jwt(audience=["a"])))
            await refused(stub.FetchJWTSVID(jwt(), metadata=HEADER))
            theirs = jwt(audience=["a"], spiffe_id="spiffe://td.example/admin")
            await refused(stub.FetchJWTSVID(theirs, metadata=HEADER))
            await stub.FetchJWTSVID(jwt(audience=["b"]), metadata=HEADER)
            await refused(stub.FetchJWTSVID(jwt(audience=["c"]), metadata=HEADER))
            token = pb.ValidateJWTSVIDRequest(audience="a", svid="rubbish")
            await refused(stub.ValidateJWTSVID(token, metadata=HEADER))
            await refused(Stub(around).FetchJWTSVID(jwt(audience=["a"]), metadata=HEADER))
            served.know(replace(own_entry(), selectors=(Selector("unix", "path:/no"),)))
            await refused(stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER).read())
        begin = "meshwarden_agent_refusals_total{reason="
        told = {name.removeprefix(begin)[:-1]: number for name, number in look().items()}
        assert {name for name, number in told.items() if number == 1 and "{" not in name} >= {
            "bad_request", "bad_token", "no_header", "no_identity", "not_theirs",
            "too_many_tokens", "unknown_caller",
        }  # fmt: skip

    run(short, story)


def test_envoys_are_refused_by_the_same_reasons(short: Path) -> None:
    """In each form of SDS; who gets a secret counts as nothing."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        served.know(own_entry())
        foreign = "spiffe://td.example/admin"
        async with served.channel() as channel:
            stub = SecretDiscoveryServiceStub(channel)
            await stub.FetchSecrets(ask("default"))
            await refused(stub.FetchSecrets(ask("default", foreign)))
            await refused(stub.FetchSecrets(DiscoveryRequest(type_url="x")))
            for stream, wrong in (
                (stub.StreamSecrets, ask(foreign)),
                (stub.StreamSecrets, DiscoveryRequest(type_url="x")),
                (stub.DeltaSecrets, DeltaDiscoveryRequest(resource_names_subscribe=[foreign])),
                (stub.DeltaSecrets, DeltaDiscoveryRequest(type_url="x")),
            ):
                call = stream()
                await call.write(wrong)
                await refused(call.read())
            served.know(replace(own_entry(), selectors=(Selector("unix", "path:/no"),)))
            await refused(stub.FetchSecrets(ask("default")))
        begin = "meshwarden_agent_refusals_total{reason="
        counted = {
            name.removeprefix(begin)[:-1]: number
            for name, number in look().items()
            if name.startswith(begin) and number
        }
        assert counted == {"not_theirs": 3, "bad_request": 3, "no_identity": 1}

    run(short, story)


def test_streams_are_those_that_go_on(short: Path) -> None:
    """Whichever of the API's three it is; one that is over counts no more."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        served.know(own_entry())
        name = "meshwarden_agent_streams{api=workload}"
        async with served.channel() as channel:
            stub = Stub(channel)
            calls = [
                stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER),
                stub.FetchX509Bundles(pb.X509BundlesRequest(), metadata=HEADER),
                stub.FetchJWTBundles(pb.JWTBundlesRequest(), metadata=HEADER),
            ]
            for call in calls:
                await call.read()
            assert look()[name] == 3
            assert look()["meshwarden_agent_connections"] == 1
            for call in calls:
                call.cancel()
            await until(lambda: look()[name] == 0)

    run(short, story)


def test_no_caller_makes_a_series(short: Path) -> None:
    """Promise 23: whatever is asked, however often; and no text of theirs is in it."""

    async def story(served: Endpoint, look: Callable[[], Samples]) -> None:
        served.know(*(own_entry(f"own-{number}") for number in range(20)))
        before = look().keys() | {
            "meshwarden_certificate_not_after_timestamp_seconds{kind=workload}"
        }
        async with served.channel() as channel:
            for number in range(40):
                for spiffe_id in ("", f"spiffe://td.example/own-{number}", f"rubbish-{number}"):
                    request = pb.JWTSVIDRequest(audience=[f"for-{number}"], spiffe_id=spiffe_id)
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await Stub(channel).FetchJWTSVID(request, metadata=HEADER)
        assert look().keys() == before
        text = AgentMetrics(parts_of(served, short)).exposition().decode()
        for theirs in ("own-", "for-", "rubbish", "td.example", "spiffe:", str(short)):
            assert theirs not in text

    run(short, story)


class Port:
    """A port that is served, and who asks it from other threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.asked = 0

    def exposition(self) -> bytes:
        """Give another body each time."""
        self.asked += 1
        return f"meshwarden_asked {self.asked}\n".encode()

    def ask(self, method: str, path: str) -> tuple[int, bytes, str]:
        """Ask as a collector does; give the status, the body and its type."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=10)
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.read(), reply.getheader("content-type", "")

    def send(self, data: bytes) -> bytes:
        """Send bytes; give all that comes back."""
        with self.connect() as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection((self.address.host, self.address.port), timeout=10)


def on_port(story: Callable[[Port], Awaitable[None]]) -> None:
    """Run a test on a port of its own."""

    async def in_loop() -> None:
        port = Port(Address("127.0.0.1", service_port()))
        made = MetricsPort(port.exposition, CONTENT_TYPE)
        serving = asyncio.create_task(made.serve(open_port(port.address)))
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await story(port)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(in_loop())


def test_a_collector_gets_what_holds_now() -> None:
    """By GET; HEAD has no body, and nothing else is there."""

    async def story(port: Port) -> None:
        ask = asyncio.to_thread
        assert await ask(port.ask, "GET", "/metrics") == (
            200,
            b"meshwarden_asked 1\n",
            CONTENT_TYPE,
        )
        status, body, _ = await ask(port.ask, "GET", "/metrics?name[]=x")
        assert (status, body) == (200, b"meshwarden_asked 2\n")
        assert (await ask(port.ask, "HEAD", "/metrics"))[:2] == (200, b"")
        assert (await ask(port.ask, "GET", "/healthz"))[:2] == (200, b"ok\n")
        assert (await ask(port.ask, "GET", "/"))[0] == 404
        assert (await ask(port.ask, "POST", "/metrics"))[0] == 405

    on_port(story)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 10_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"z" * 5000 + b" HTTP/1.1\r\n\r\n", b"404"),
        (b"GET http://h/metrics HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_what_is_no_request_is_told_so(sent: bytes, status: bytes) -> None:
    """And the next one is served."""

    async def story(port: Port) -> None:
        assert (await asyncio.to_thread(port.send, sent)).startswith(b"HTTP/1.1 " + status)
        assert (await asyncio.to_thread(port.ask, "GET", "/healthz"))[0] == 200

    on_port(story)


def test_who_holds_connections_holds_few_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing is closed in time; beyond sixteen the oldest is, for who comes then."""
    monkeypatch.setattr(metrics_port, "_TIMEOUT_S", 1.0)

    async def story(port: Port) -> None:
        begun_s = clock.monotonic_s()
        oldest, *others = [await asyncio.to_thread(port.connect) for _ in range(16)]
        assert (await asyncio.to_thread(port.ask, "GET", "/healthz"))[0] == 200
        with oldest:
            assert await asyncio.to_thread(oldest.recv, 1) == b""
        assert clock.monotonic_s() - begun_s < 0.9
        for connection in others:
            with connection:
                assert await asyncio.to_thread(connection.recv, 1) == b""
        assert clock.monotonic_s() - begun_s >= 0.9
        assert (await asyncio.to_thread(port.ask, "GET", "/healthz"))[0] == 200

    on_port(story)


def test_a_port_that_is_taken_fails_the_start() -> None:
    """With the setting's name."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(RuntimeDirError, match=r"agent\.metrics: .*can't be bound: Address alr"):
            open_port(address)
