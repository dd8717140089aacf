"""A front takes on no more than it can answer in time, and says so early.

The calls are gRPC in HTTP/1.1, whose bytes a test can hold back as a slow client does.
"""

import asyncio
import http.client
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.support.clients import CHECK, send
from tests.e2e.support.front import BareFront
from tests.e2e.support.service import Service
from tests.fakes.envoy import check_request
from tests.fakes.front import SLOW_S

MAX_INFLIGHT = 8
RESOURCE_EXHAUSTED = "8"
GRPC = {"content-type": "application/grpc", "te": "trailers"}


@pytest.fixture(scope="module")
def service(new_folder: Callable[[], Path]) -> Iterator[Service]:
    """Run a service that answers few at once, and denies without a body."""
    policy = {"policy.csv": "p, *, *, GET, /public/**, allow\n"}
    settings = {"server.max_inflight": MAX_INFLIGHT, "check.denied.body": "none"}
    with Service(new_folder(), policy, settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def slow_front(new_folder: Callable[[], Path]) -> Iterator[BareFront]:
    """Run a front that can be held up."""
    with BareFront(new_folder(), "tests.fakes.front:app") as running:
        running.wait_ready()
        yield running


def framed(path: str = "/public/a", extensions: Mapping[str, str] | None = None) -> bytes:
    """Frame a CheckRequest for the wire."""
    message = check_request(path, extensions=extensions).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def test_a_call_within_its_deadline_is_answered(service: Service) -> None:
    """Or the next test would prove nothing."""
    for timeout in ("20S", "100m", "99999999n", "nonsense"):
        answer = send(
            service.port, "POST", CHECK, headers={**GRPC, "grpc-timeout": timeout}, body=framed()
        )
        assert CheckResponse.FromString(answer.body[5:]).HasField("ok_response"), timeout


def test_a_call_whose_deadline_passed_in_the_queue_is_refused(service: Service) -> None:
    """Nobody waits for its answer: the time is better spent on the next one."""
    before = service.metric("meshwarden_check_errors_total", code="RESOURCE_EXHAUSTED")
    for timeout in ("1n", "1u", "0m"):
        answer = send(
            service.port, "POST", CHECK, headers={**GRPC, "grpc-timeout": timeout}, body=framed()
        )
        assert answer.headers["grpc-status"] == RESOURCE_EXHAUSTED, timeout
        assert "deadline" in answer.headers["grpc-message"]
    after = service.metric("meshwarden_check_errors_total", code="RESOURCE_EXHAUSTED")
    assert after == before + 3


def test_a_call_that_waited_too_long_behind_others_is_refused(slow_front: BareFront) -> None:
    """The real thing: one check holds the front for a second, the next has half a second."""
    send(slow_front.port, "POST", CHECK, headers=GRPC, body=framed())
    held = http.client.HTTPConnection("127.0.0.1", slow_front.port, timeout=20)
    with closing(held):
        held.request("POST", CHECK, framed(extensions={"fault": "slow"}), GRPC)
        patience = {**GRPC, "grpc-timeout": f"{SLOW_S * 500:.0f}m"}
        refused = send(slow_front.port, "POST", CHECK, headers=patience, body=framed())
        answer = held.getresponse().read()
    assert CheckResponse.FromString(answer[5:]).HasField("ok_response")
    assert refused.headers["grpc-status"] == RESOURCE_EXHAUSTED


def test_callers_who_give_up_cost_a_patient_one_nothing(slow_front: BareFront) -> None:
    """A sidecar's checks share a connection, and a check that timed out is reset by it: hundreds at
    once look like an attack to Envoy, and used to end the connection for all.
    """
    slow = check_request("/public/a", extensions={"fault": "slow"}).SerializeToString()
    quick = check_request("/public/a").SerializeToString()

    async def ask_all() -> bytes:
        address = f"127.0.0.1:{slow_front.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            check = channel.unary_unary(CHECK, None, None)
            await check(quick, timeout=20)
            patient = check(slow, timeout=20)
            others = [check(quick, timeout=SLOW_S / 4) for _ in range(400)]
            outcomes = await asyncio.gather(*(other.code() for other in others))
            assert grpc.StatusCode.UNAVAILABLE not in outcomes
            answer: bytes = await patient
            return answer

    assert CheckResponse.FromString(asyncio.run(ask_all())).HasField("ok_response")


def test_a_caller_cannot_date_its_call_itself(service: Service) -> None:
    """When a call came in is the front's word: a header that says otherwise is overwritten."""
    for claimed in ("1", "99999999999999999", "nonsense", ""):
        headers = {**GRPC, "grpc-timeout": "10S", "x-meshwarden-received": claimed}
        answer = send(service.port, "POST", CHECK, headers=headers, body=framed())
        assert CheckResponse.FromString(answer.body[5:]).HasField("ok_response"), claimed


class SlowCall:
    """A Check whose body stops after some bytes until it is told to go on."""

    def __init__(self, port: int, sent_bytes: int = 20) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        body = framed()
        self._connection.putrequest("POST", CHECK)
        for name, value in {**GRPC, "content-length": str(len(body))}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders(body[:sent_bytes])
        self._rest = body[sent_bytes:]

    def finish(self) -> bytes:
        """Send the rest; give the answer's message."""
        self._connection.send(self._rest)
        return self.response().read()[5:]

    def response(self) -> http.client.HTTPResponse:
        """Wait for the answer's head."""
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def fill(service: Service, held: ExitStack, sent_bytes: int = 20) -> list[SlowCall]:
    """Hold as many calls as the service takes; wait until it counts them all."""
    calls = [
        held.enter_context(closing(SlowCall(service.port, sent_bytes))) for _ in range(MAX_INFLIGHT)
    ]
    while send(service.port, "POST", CHECK, headers=GRPC, body=framed()).body:
        pass
    return calls


def wait_for_a_place(service: Service) -> None:
    """Ask until a call is answered again."""
    deadline = time.monotonic() + 15
    while not send(service.port, "POST", CHECK, headers=GRPC, body=framed()).body:
        assert time.monotonic() < deadline, "no place was given back"
        time.sleep(0.05)


def test_over_the_limit_a_call_is_refused_at_once_and_the_others_are_answered(
    service: Service,
) -> None:
    """RESOURCE_EXHAUSTED, which a sidecar's retry or failure mode deals with."""
    with ExitStack() as held:
        calls = fill(service, held)
        refused = send(service.port, "POST", CHECK, headers=GRPC, body=framed())
        assert refused.headers["grpc-status"] == RESOURCE_EXHAUSTED
        assert "too many" in refused.headers["grpc-message"]
        # Health and metrics have no part in it.
        assert service.get("/readyz")[0] == 200
        for slow in calls:
            assert CheckResponse.FromString(slow.finish()).HasField("ok_response")
    answer = send(service.port, "POST", CHECK, headers=GRPC, body=framed())
    assert CheckResponse.FromString(answer.body[5:]).HasField("ok_response")


def test_callers_that_go_away_leave_their_places(service: Service) -> None:
    """Else a few broken connections would close the service for good."""
    with ExitStack() as held:
        fill(service, held)
    wait_for_a_place(service)


@pytest.mark.parametrize("sent_bytes", [0, 20])
def test_bodies_that_never_come_give_their_places_back(service: Service, sent_bytes: int) -> None:
    """Callers that stall for ever never close the service for long, before or in the body."""
    with ExitStack() as held:
        fill(service, held, sent_bytes)
        wait_for_a_place(service)


def test_a_denial_without_a_body_has_none(service: Service) -> None:
    """As the settings say; status and metadata are all there is."""
    answer = send(service.port, "POST", CHECK, headers=GRPC, body=framed("/private"))
    verdict = CheckResponse.FromString(answer.body[5:])
    assert verdict.denied_response.status.code == 403
    assert verdict.denied_response.body == ""


def test_half_a_connection_harms_nobody(service: Service) -> None:
    """Headers that never end, from many clients at once."""
    with ExitStack() as held:
        for _ in range(100):
            opened = held.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            opened.sendall(b"POST " + CHECK.encode() + b" HTTP/1.1\r\nhost: x\r\n")
        answer = send(service.port, "POST", CHECK, headers=GRPC, body=framed())
        assert CheckResponse.FromString(answer.body[5:]).HasField("ok_response")
