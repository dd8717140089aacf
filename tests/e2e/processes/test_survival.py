"""What dies is started again, and meanwhile the others do their work."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from meshwarden.files import RuntimeDir
from meshwarden.supervisor.hot_restart import remove_leftovers
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.instance import Instance, is_alive
from tests.e2e.support.load import sidecar_load
from tests.e2e.support.mesh import Identities
from tests.e2e.support.sidecar import Inbound, Sidecar
from tests.e2e.support.upstream import Upstream
from tests.fakes.envoy import check_request

HEALTH = "/grpc.health.v1.Health/Check"
WHO_AM_I = "/meshwarden.v1.Identity/WhoAmI"


def status_of(channel: grpc.Channel, path: str) -> int:
    """Ask Check about a path; give the gRPC code of the verdict, 0 or 7."""
    answer = CheckResponse.FromString(call(channel, CHECK, check_request(path).SerializeToString()))
    return answer.status.code


def is_serving(channel: grpc.Channel) -> bool:
    """Ask for the health of Check."""
    question = health_pb2.HealthCheckRequest(service="envoy.service.auth.v3.Authorization")
    answer = health_pb2.HealthCheckResponse.FromString(
        call(channel, HEALTH, question.SerializeToString())
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.ServingStatus.SERVING)


@pytest.fixture
def instance(new_place: NewPlace, run: Callable[..., Instance]) -> Instance:
    """Run one instance with two fronts."""
    return run(new_place({"server.fronts": 2})).wait_ready()


@pytest.fixture
def channel(instance: Instance) -> Iterator[grpc.Channel]:
    """Open a channel to it."""
    with channel_to(instance.place.port) as channel:
        yield channel


def frozen(pid: int) -> None:
    """Keep a process from doing anything, its death included in what others see."""
    os.kill(pid, signal.SIGSTOP)


def test_control_dies_and_checks_are_answered_as_before(
    instance: Instance, channel: grpc.Channel
) -> None:
    """Verdicts and health come from the front; control is another process soon after."""
    before = instance.control
    os.kill(before, signal.SIGKILL)
    seen = set()

    def is_back() -> bool:
        verdicts = status_of(channel, "/public/a"), status_of(channel, "/x")
        seen.add((is_serving(channel), *verdicts))
        return instance.pids("control").get("control", before) != before

    instance.wait_for(is_back)
    assert seen == {(True, 0, 7)}
    instance.wait_for(lambda: instance.status()["ready"])
    instance.wait_for(
        lambda: instance.metric("meshwarden_process_restarts_total", kind="control") == 1
    )
    call(channel, WHO_AM_I, wait_for_ready=True)


def test_a_front_starts_while_control_is_away_and_decides_by_the_published_policy(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """The only front is killed while control hangs; its successor needs no source either."""
    instance = run(new_place()).wait_ready()
    control, front = instance.control, instance.front()
    frozen(control)
    (instance.place.policy / "policy.csv").unlink()
    os.kill(front, signal.SIGKILL)
    instance.wait_for(lambda: instance.pids("front").get("front-0", front) != front)
    try:
        with channel_to(instance.place.port) as channel:
            instance.wait_for(instance.answers)
            assert is_serving(channel)
            assert (status_of(channel, "/public/a"), status_of(channel, "/x")) == (0, 7)
    finally:
        os.kill(control, signal.SIGCONT)


def test_a_killed_front_fails_no_request_of_a_sidecar_that_retries(
    instance: Instance,
    new_folder: Callable[[], Path],
    identities: Identities,
    upstream: Upstream,
) -> None:
    """The retry policy is README's; each front is killed twice under load."""
    inbound = Inbound("retries", instance.place.port)
    with Sidecar(
        new_folder(), identities.authority, identities.catalog, upstream, [inbound]
    ) as sidecar:
        sidecar.wait_ready()
        port = sidecar.port("retries")
        with sidecar_load(port, identities.authority, identities.web, rate=150) as load:
            for index in (0, 1, 0, 1):
                enough = load.answered + 100
                instance.wait_for(lambda enough=enough: load.answered >= enough)
                front = instance.front(index)
                os.kill(front, signal.SIGKILL)
                instance.wait_for(
                    lambda front=front: (
                        front not in instance.pids("front").values() and instance.status()["ready"]
                    )
                )
    assert load.failures == []
    assert instance.metric("meshwarden_process_restarts_total", kind="front") == 4


def test_a_front_that_keeps_dying_is_started_ever_more_slowly(
    instance: Instance,
) -> None:
    """Three quick deaths: each pause is twice the one before, up to the limit of the settings."""
    for _ in range(3):
        front = instance.front()
        os.kill(front, signal.SIGKILL)
        instance.wait_for(lambda front=front: instance.pids("front").get("front-0", front) != front)
    lines = [line for line in instance.said().splitlines() if "starting it again" in line]
    assert [line.rpartition(" in ")[2] for line in lines] == ["0.1 s", "0.2 s", "0.4 s"]


def test_a_front_that_can_not_be_renewed_goes_on_and_the_reason_is_told(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Here its heir finds no settings; once it does, the renewal succeeds."""
    instance = run(new_place()).wait_ready()
    front = instance.front()
    settings = instance.place.run_dir / "settings.json"
    settings.rename(settings.with_name("hidden"))
    refused = instance.place.command("restart", "fronts")
    assert refused.returncode == 2
    assert "a front could not be renewed: its rehearsal ended (1)" in refused.stderr
    assert instance.front() == front
    with channel_to(instance.place.port) as channel:
        assert status_of(channel, "/public/a") == 0
        settings.with_name("hidden").rename(settings)
        done = instance.place.command("restart", "fronts")
        assert done.returncode == 0, done.stderr
        assert status_of(channel, "/public/a") == 0
    assert instance.front() != front


def test_no_child_outlives_a_killed_supervisor(instance: Instance) -> None:
    """The kernel sees to it."""
    children = [*instance.pids("front").values(), instance.control]
    os.kill(instance.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 2
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline_s, "a child goes on without its supervisor"
        time.sleep(0.02)
    remove_leftovers(RuntimeDir(instance.place.run_dir))  # No next start will do it here.


def test_a_start_after_a_kill_finds_its_place_free_and_removes_what_was_left(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Locks die with their process; shared memory of dead fronts does not."""
    place = new_place()
    killed = run(place).wait_ready()
    memory = shared_memory(place.run_dir)
    assert memory, "where Envoy keeps it has changed"
    os.kill(killed.pid, signal.SIGKILL)
    killed.ended()
    again = run(place).wait_ready()
    assert not [path for path in memory if path.exists()]
    assert again.status()["policy"]["restored"] is False


def shared_memory(run_dir: Path) -> list[Path]:
    """Give the files that the fronts of a place have in shared memory."""
    stems = {int(path.name.rpartition("_")[2]) // 10 for path in run_dir.glob("hr_*")}
    names = (Path("/dev/shm") / f"envoy_shared_memory_{stem}0" for stem in stems)
    return [path for path in names if path.exists()]
