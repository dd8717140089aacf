"""Bytes that no good Envoy sends, straight to the public port: judged closed, and nobody harmed."""

import random
import threading
from collections.abc import Iterator

import grpc
import pytest

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.service import Service
from tests.fakes.envoy import check_request

KIB = 1024
SEED = 20_260_101


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    """Connect to the service's own port."""
    with channel_to(service.port) as connected:
        yield connected


def check(channel: grpc.Channel, message: bytes) -> CheckResponse:
    """Ask; give the answer."""
    return CheckResponse.FromString(call(channel, CHECK, message))


def good() -> CheckRequest:
    """Make a request that a rule allows."""
    return check_request("/public/a", extensions={"service": "catalog"})


def with_path(octets: bytes) -> bytes:
    """Serialize a request whose path is these bytes, whether or not they are text."""
    stand_in = b"A" * len(octets)
    message = good()
    message.attributes.request.http.path = stand_in.decode()
    del message.attributes.request.http.headers[":path"]
    return message.SerializeToString().replace(stand_in, octets)


def outcome_of(channel: grpc.Channel, message: bytes) -> grpc.StatusCode:
    """Ask; give the RPC's status."""
    try:
        call(channel, CHECK, message)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def verdict_of(answer: CheckResponse) -> str:
    """Give what the dynamic metadata says."""
    return answer.dynamic_metadata.fields["meshwarden"].struct_value.fields["verdict"].string_value


def test_a_good_request_is_allowed_here(channel: grpc.Channel) -> None:
    """Or the rest would prove nothing."""
    answer = check(channel, good().SerializeToString())
    assert answer.status.code == 0
    assert answer.HasField("ok_response")
    assert verdict_of(answer) == "allow"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        CheckRequest(attributes={}).SerializeToString(),
        CheckRequest(attributes={"request": {}}).SerializeToString(),
        CheckRequest(attributes={"request": {"http": {}}}).SerializeToString(),
        CheckRequest(attributes={"source": {"principal": "x"}}).SerializeToString(),
    ],
    ids=["nothing", "attributes", "request", "http", "source"],
)
def test_an_empty_check_request_is_judged_closed(channel: grpc.Channel, message: bytes) -> None:
    """Nothing is asked, so nothing is allowed; yet the answer is a verdict."""
    answer = check(channel, message)
    assert answer.status.code == 7
    assert answer.denied_response.status.code == 403
    assert verdict_of(answer) == "deny"


@pytest.mark.parametrize(
    "garbage",
    [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"{}"],
)
def test_bytes_that_are_no_check_request_are_an_invalid_argument(
    channel: grpc.Channel, garbage: bytes
) -> None:
    """Who sends them is no Envoy, and no HTTP caller can make one do it."""
    assert outcome_of(channel, garbage) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "octets",
    [
        b"/public/\x00".ljust(64 * KIB, b"a"),
        b"/public/\xff\xfe".ljust(64 * KIB, b"a"),
        b"/public/\xed\xa0\x80".ljust(64 * KIB, b"\x00"),
        b"\x00" * (64 * KIB),
        b"/public/".ljust(64 * KIB, b"%"),
        b"/public" + b"/.." * (21 * KIB),
    ],
    ids=["nul", "not-utf8", "surrogate-and-nul", "only-nul", "percents", "dots"],
)
def test_an_odd_path_of_64_kib_is_judged_closed(channel: grpc.Channel, octets: bytes) -> None:
    """A 4xx verdict, never an RPC error."""
    answer = check(channel, with_path(octets))
    assert answer.HasField("denied_response")
    assert 400 <= answer.denied_response.status.code < 500


@pytest.mark.parametrize("filling", [b"a", b"/"])
def test_an_honest_path_of_64_kib_is_allowed(channel: grpc.Channel, filling: bytes) -> None:
    """Length alone is no offence, nor is a slash too many."""
    answer = check(channel, with_path(b"/public/".ljust(64 * KIB, filling)))
    assert answer.HasField("ok_response")


def test_ten_thousand_headers_are_judged(channel: grpc.Channel) -> None:
    """In both forms, by the one header that the rule names."""
    many = {f"x-{number}": "v" * 50 for number in range(10_000)}
    asked = check_request(
        "/by-header", headers={**many, "x-env": "prod"}, extensions={"service": "catalog"}
    )
    assert check(channel, asked.SerializeToString()).HasField("ok_response")
    raw = [(name, value.encode()) for name, value in many.items()]
    asked = check_request(
        "/by-header", raw_headers=[*raw, ("x-env", b"prod")], extensions={"service": "catalog"}
    )
    assert check(channel, asked.SerializeToString()).HasField("ok_response")


def test_a_request_larger_than_we_take_is_judged_closed(channel: grpc.Channel) -> None:
    """A sidecar set to send larger bodies must not become a door: 413, not an RPC error."""
    asked = good()
    asked.attributes.request.http.body = "x" * (17 * KIB * KIB)
    answer = check(channel, asked.SerializeToString())
    assert answer.denied_response.status.code == 413


def test_other_requests_are_unharmed_meanwhile(service: Service, channel: grpc.Channel) -> None:
    """While odd bytes of all kinds arrive, each good request is answered, and in time."""
    stop = threading.Event()
    outcomes: list[grpc.StatusCode] = []

    def send_odd_ones() -> None:
        choose = random.Random(SEED)
        whole = good().SerializeToString()
        with channel_to(service.port) as other:
            while not stop.is_set():
                size = choose.choice((1, 10, 1000, 100_000))
                odd = choose.choice(
                    (
                        choose.randbytes(size),
                        whole[: choose.randrange(len(whole))],
                        with_path(b"/public/" + choose.randbytes(size)),
                        b"",
                    )
                )
                outcomes.append(outcome_of(other, odd))

    before = service.metric("meshwarden_check_errors_total", code="INTERNAL")
    threads = [threading.Thread(target=send_odd_ones) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            answer = call(channel, CHECK, good().SerializeToString(), timeout=5)
            assert CheckResponse.FromString(answer).HasField("ok_response")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(outcomes) > 100
    assert set(outcomes) <= {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    assert service.metric("meshwarden_check_errors_total", code="INTERNAL") == before
    service.check()
