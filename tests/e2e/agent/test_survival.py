"""What workloads have outlives whatever dies: the agent, the service, the agent's certificate."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.e2e.support.agent import (
    SETTINGS,
    Agent,
    AgentPlace,
    create_entry,
    new_token,
    served,
)
from tests.e2e.support.instance import Instance, Place

POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}
SPKI = PublicFormat.SubjectPublicKeyInfo
OURS = f"unix:uid:{os.getuid()}"


@contextmanager
def world(
    new_folder: Callable[[], Path], **settings: object
) -> Iterator[tuple[Place, Instance, AgentPlace, Agent]]:
    """Run a service and an agent of the test's own."""
    folder = new_folder()
    place = Place(
        folder, POLICY, {**SETTINGS, "identity.key_file": str(folder / "sealing.key"), **settings}
    )
    with place.start() as instance:
        instance.wait_ready()
        where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
        with where.with_token(new_token(place)) as agent:
            agent.wait_ready()
            yield place, instance, where, agent


def certificate(where: AgentPlace) -> bytes:
    """Give what a workload is served first, over a connection of its own."""
    return served(where.socket).svids[0].x509_svid


def test_a_killed_agent_serves_the_same_again(new_folder: Callable[[], Path]) -> None:
    """Kill -9: the same SVIDs or fresh ones, never none, and never a wrong refusal."""
    with world(new_folder) as (place, instance, where, agent):
        create_entry(place, agent.agent_id, "web", OURS)
        before = certificate(where)
        wait_for(lambda: (where.folder / "state" / "identities").stat().st_size > 500)
        wrong: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    served(where.socket)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        wrong.append(f"{error.code()}: {error.details()}")

        asking = threading.Thread(target=ask)
        asking.start()
        agent.kill()
        for is_last in (False, False, True):
            with where.start() as heir:
                heir.wait_ready()
                assert certificate(where) == before
                if is_last:
                    stop.set()
                    asking.join()
                heir.kill()
            assert "attested" not in heir.said()
        assert wrong == []
        assert instance.said().count("PRIVATE KEY") == 0


def test_an_outage_takes_nothing_even_from_a_killed_agent(new_folder: Callable[[], Path]) -> None:
    """The service is gone, the agent is killed and started: the same SVID; then renewal goes on."""
    with world(new_folder) as (place, instance, where, agent):
        create_entry(place, agent.agent_id, "web", OURS, ttl_s=40)
        before = certificate(where)
        wait_for(lambda: (where.folder / "state" / "identities").stat().st_size > 500)
        instance.stop()
        wait_for(lambda: not agent.status()["connected"])
        assert certificate(where) == before
        agent.kill()
        with where.start() as heir:
            assert certificate(where) == before
            with place.start() as again:
                again.wait_ready()
                heir.wait_ready()
                wait_for(lambda: certificate(where) != before, within_s=40)


def test_an_agent_that_has_expired_attests_again_by_itself(
    new_folder: Callable[[], Path],
) -> None:
    """Promise 16: by its own key, with backoff, without a person or a new token."""
    with world(new_folder, **{"identity.nodes.ttl_s": 6}) as (place, instance, where, agent):
        create_entry(place, agent.agent_id, "web", OURS, ttl_s=6)
        first = certificate(where)
        name = agent.agent_id
        instance.stop()
        # Its workload's certificate as well, which may be the younger one: nobody gets it any more,
        # nor a refusal.
        for each in ("own_expires_ns", "next_expires_ns"):
            wait_for(lambda name=each: agent.status()[name] < time.time_ns())
        time.sleep(1)
        with pytest.raises(grpc.RpcError) as caught:
            served(where.socket, timeout_s=12)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with place.start() as again:
            again.wait_ready()
            agent.wait_ready()
            assert agent.agent_id == name
            assert certificate(where) != first
        assert "attested by expired_svid" in agent.said()


def test_an_agents_own_certificate_is_renewed(new_folder: Callable[[], Path]) -> None:
    """Around half-life, for a new key, kept with mode 0600; its workloads notice nothing."""
    with world(new_folder, **{"identity.nodes.ttl_s": 8}) as (place, _, where, agent):
        create_entry(place, agent.agent_id, "web", OURS)
        before = certificate(where)
        file = where.folder / "state" / "agent.pem"
        assert {each.stat().st_mode & 0o777 for each in file.parent.iterdir()} == {0o600}
        kept = [file.read_bytes()]
        for _ in range(2):
            wait_for(lambda: file.read_bytes() != kept[-1], within_s=15)
            kept.append(file.read_bytes())
        assert len(set(kept)) == 3
        keys = [x509.load_pem_x509_certificate(each).public_key() for each in kept]
        assert len({key.public_bytes(Encoding.DER, SPKI) for key in keys}) == 3
        wait_for(lambda: agent.status()["connected"])
        assert certificate(where) == before
        assert "attested" in agent.said()
        assert agent.said().count("attested by") == 1


def test_control_killed_again_and_again_takes_nothing(new_folder: Callable[[], Path]) -> None:
    """The front stays, control dies: streams end, the agent is back within seconds each time."""
    with world(new_folder) as (place, instance, where, agent):
        create_entry(place, agent.agent_id, "web", OURS, ttl_s=8)
        certificate(where)
        for _ in range(3):
            sessions = agent.status()["since_ns"]
            os.kill(instance.control, signal.SIGKILL)
            wait_for(lambda: agent.status()["since_ns"] > sessions, within_s=30)  # noqa: B023
            agent.wait_ready()
            reply = served(where.socket)
            leaf = x509.load_der_x509_certificate(reply.svids[0].x509_svid[: _first(reply)])
            assert leaf.not_valid_after_utc.timestamp() > time.time()  # noqa: TID251


def _first(reply: object) -> int:
    """Length of the first certificate in a chain."""
    data = reply.svids[0].x509_svid  # type: ignore[attr-defined]
    return 4 + int.from_bytes(data[2:4])


def wait_for(condition: Callable[[], object], within_s: float = 20) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: It takes too long.
    """
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.05)
