"""A stop in order: readiness down, listeners closed, what is in flight finished, nothing left."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from grpc_health.v1 import health_pb2

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.processes.conftest import NewPlace
from tests.e2e.processes.test_survival import shared_memory
from tests.e2e.support.clients import CHECK, channel_to
from tests.e2e.support.instance import Instance
from tests.e2e.support.load import direct_load
from tests.fakes.envoy import check_request

WATCH = "/grpc.health.v1.Health/Watch"


def test_a_stop_turns_readiness_down_then_answers_what_is_in_flight_then_ends(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """A request whose body comes slowly is begun before the stop and answered in its course."""
    instance = run(new_place({"server.drain_s": 5})).wait_ready()
    memory = shared_memory(instance.place.run_dir)
    port = instance.place.port
    with (
        closing(HalfCheck(port)) as slow,
        channel_to(port) as channel,
    ):
        watch = channel.unary_stream(WATCH, None, None)(b"", timeout=30)
        seen = (health_pb2.HealthCheckResponse.FromString(each).status for each in watch)
        kinds = health_pb2.HealthCheckResponse.ServingStatus
        assert next(seen) == kinds.SERVING

        instance.send_signal(signal.SIGTERM)

        assert next(seen) == kinds.NOT_SERVING
        watch.cancel()
        instance.wait_for(lambda: not accepts(port))
        assert instance.code is None, "it ended with a request in flight"
        assert slow.finish() == 0
    assert instance.ended() == 0
    said = instance.said()
    assert "is killed" not in said
    assert "Traceback" not in said
    assert "Error" not in said
    assert not list(instance.place.run_dir.glob("*.sock"))
    assert not list(instance.place.run_dir.glob("hr_*"))
    assert not [path for path in memory if path.exists()]


def test_requests_that_go_on_past_the_drain_time_hold_no_stop_up(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """A caller that never finishes is cut off after `server.drain_s`."""
    instance = run(new_place({"server.drain_s": 1})).wait_ready()
    with closing(HalfCheck(instance.place.port)):
        instance.send_signal(signal.SIGTERM)
        begun_s = time.monotonic()
        assert instance.ended() == 0
        assert 1 <= time.monotonic() - begun_s < 6


def test_a_second_interrupt_ends_at_once(new_place: NewPlace, run: Callable[..., Instance]) -> None:
    """Whoever presses Ctrl-C twice means it."""
    instance = run(new_place({"server.drain_s": 60})).wait_ready()
    memory = shared_memory(instance.place.run_dir)
    with closing(HalfCheck(instance.place.port)):
        instance.send_signal(signal.SIGINT)
        instance.wait_for(lambda: "stopping: finishing" in instance.said())
        instance.send_signal(signal.SIGINT)
        assert instance.ended(within_s=3) == 0
    assert not list(instance.place.run_dir.glob("*.sock"))
    assert not [path for path in memory if path.exists()]


def test_a_stop_during_the_start_leaves_nothing_behind(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Fronts that are not ready yet are simply ended."""
    place = new_place({"server.fronts": 2})
    instance = run(place)
    instance.wait_for(lambda: list(place.run_dir.glob("hr_*")))
    memory = shared_memory(place.run_dir)
    instance.send_signal(signal.SIGTERM)
    assert instance.ended() == 0
    assert not [path for path in memory if path.exists()]
    assert "could not be asked" not in instance.said()


def test_a_stop_in_the_middle_of_a_hot_restart_fails_no_request_that_was_begun(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """The old process finishes its own, the heir its own, and both end."""
    instance = run(new_place({"server.drain_s": 5})).wait_ready()
    front = instance.front()
    with closing(HalfCheck(instance.place.port)) as old:
        ask_and_leave(instance.place.run_dir / "supervisor.sock", "restart_fronts")
        instance.wait_for(lambda: heir_of(instance, front))
        with closing(HalfCheck(instance.place.port)) as new:
            instance.send_signal(signal.SIGTERM)
            instance.wait_for(lambda: not accepts(instance.place.port))
            assert (old.finish(), new.finish()) == (0, 0)
    assert instance.ended() == 0


def test_calls_begun_before_a_stop_are_all_answered(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Under load, a stop's only failures are connections that never came to be.

    Refused once the listener is gone; reset where the kernel had taken one that nobody accepted.
    """
    instance = run(new_place({"server.fronts": 2})).wait_ready()
    with direct_load([instance.place.port], rate=300, callers=4) as load:
        instance.wait_for(lambda: load.answered > 100)
        instance.send_signal(signal.SIGTERM)
        assert instance.ended() == 0
    assert all("connections to all backends failing" in each for each in load.failures), (
        load.failures
    )


class HalfCheck:
    """A Check over HTTP/1.1 of which all but the last byte has been sent."""

    def __init__(self, port: int) -> None:
        message = check_request("/public/a").SerializeToString()
        body = b"\0" + len(message).to_bytes(4, "big") + message
        self._last = body[-1:]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.putrequest("POST", CHECK)
        self._connection.putheader("content-type", "application/grpc")
        self._connection.putheader("te", "trailers")
        self._connection.putheader("content-length", str(len(body)))
        self._connection.endheaders(body[:-1])

    def finish(self) -> int:
        """Send the last byte; give the verdict's gRPC code."""
        self._connection.send(self._last)
        answer = self._connection.getresponse().read()
        return CheckResponse.FromString(answer[5:]).status.code

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def accepts(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def heir_of(instance: Instance, front: int) -> bool:
    """Whether another process is ready in the place of a front."""
    told = instance.status()["processes"]
    return any(each["kind"] == "front" and each["pid"] != front and each["ready"] for each in told)


def ask_and_leave(path: Path, op: str) -> None:
    """Tell the supervisor something and don't wait for its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps({"op": op}).encode() + b"\n")
