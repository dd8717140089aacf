"""A service is renewed under load, and nobody notices: promise 12."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.instance import Instance
from tests.e2e.support.load import Load, direct_load, sidecar_load
from tests.e2e.support.mesh import Identities
from tests.e2e.support.sidecar import Inbound, Sidecar
from tests.e2e.support.upstream import Upstream

RATE = 120


@pytest.fixture
def loaded(
    new_folder: Callable[[], Path], identities: Identities, upstream: Upstream
) -> Callable[..., object]:
    """Give a context of two loads on some replicas: through a sidecar, and straight."""

    @contextmanager
    def load(*ports: int) -> Iterator[tuple[Load, Load]]:
        inbound = Inbound("loaded", ports[0], replica_ports=ports[1:])
        with Sidecar(
            new_folder(), identities.authority, identities.catalog, upstream, [inbound]
        ) as sidecar:
            sidecar.wait_ready()
            port = sidecar.port("loaded")
            with (
                sidecar_load(port, identities.authority, identities.web, RATE) as relayed,
                direct_load(ports, RATE) as direct,
            ):
                wait_for_calls(relayed, direct)
                yield relayed, direct
                wait_for_calls(relayed, direct)

    return load


def wait_for_calls(*loads: Load, calls: int = 60) -> None:
    """Wait until each load has had some more calls answered, or has failed."""
    for load in loads:
        enough = load.answered + calls
        deadline_s = time.monotonic() + 30
        while load.answered < enough and not load.failures:
            assert time.monotonic() < deadline_s, "the load stands still"
            time.sleep(0.02)


def test_fronts_renewed_by_hot_restart_fail_no_request(
    new_place: NewPlace, run: Callable[..., Instance], loaded: Callable[..., object]
) -> None:
    """`restart fronts` while sidecars and direct clients call: 0 failures, and new processes."""
    instance = run(new_place({"server.fronts": 2})).wait_ready()
    before = instance.pids("front")
    with loaded(instance.place.port) as (relayed, direct):
        done = instance.place.command("restart", "fronts")
    assert done.returncode == 0, done.stderr
    assert (relayed.failures, direct.failures) == ([], [])
    after = instance.pids("front")
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert instance.metric("meshwarden_process_restarts_total", kind="front") == 0
    answered = relayed.answered + direct.answered
    instance.wait_for(lambda: checks(instance) >= answered)


def test_replicas_stopped_and_started_one_after_the_other_fail_no_request(
    new_place: NewPlace, run: Callable[..., Instance], loaded: Callable[..., object]
) -> None:
    """SIGTERM, wait for the end, start, wait until ready, for each of two replicas."""
    places = [new_place(), new_place()]
    replicas = [run(place).wait_ready() for place in places]
    with loaded(*(place.port for place in places)) as (relayed, direct):
        for place, replica in zip(places, replicas, strict=True):
            replica.stop()
            assert replica.ended() == 0
            wait_for_calls(relayed, direct)
            run(place).wait_ready()
            wait_for_calls(relayed, direct)
    assert (relayed.failures, direct.failures) == ([], [])


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_many_rolling_restarts_of_both_kinds_fail_no_request(
    new_place: NewPlace, run: Callable[..., Instance], loaded: Callable[..., object]
) -> None:
    """The two tests above for some minutes, at the same time."""
    places = [new_place({"server.fronts": 2}), new_place({"server.fronts": 2})]
    replicas = [run(place).wait_ready() for place in places]
    with loaded(*(place.port for place in places)) as (relayed, direct):
        for _ in range(6):
            for index, place in enumerate(places):
                assert place.command("restart", "fronts").returncode == 0
                replicas[index].stop()
                assert replicas[index].ended() == 0
                wait_for_calls(relayed, direct)
                replicas[index] = run(place).wait_ready()
    assert (relayed.failures, direct.failures) == ([], [])


def checks(instance: Instance) -> float:
    """How many checks the instance has answered, by all fronts that it ever had."""
    return sum(
        instance.metric("meshwarden_checks_total", verdict=verdict) for verdict in ("allow", "deny")
    )
