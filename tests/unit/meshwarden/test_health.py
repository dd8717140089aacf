"""Readiness: one word of truth, and whoever waits for it to change hears of every change."""

import asyncio
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2

from meshwarden.follower import PolicyState
from meshwarden.health import SERVED, Health, health_reply

KINDS = health_pb2.HealthCheckResponse.ServingStatus


class World:
    """What health is read from."""

    def __init__(self, folder: Path, max_stale_s: float = 0.0) -> None:
        self.state = PolicyState(digest="d")
        self.marker = folder / "draining"
        self.stale_s = 0.0
        self.health = Health(lambda: self.state, self.marker, lambda: self.stale_s, max_stale_s)

    def trouble(self) -> str:
        """Look."""
        self.health.refresh()
        return self.health.trouble


def test_nobody_is_ready_before_the_first_look(tmp_path: Path) -> None:
    """The port may not be open yet."""
    assert World(tmp_path).health.trouble == "starting"


def test_ready_is_a_policy_in_force_and_nobody_who_stops_us(tmp_path: Path) -> None:
    """Each lack is named."""
    world = World(tmp_path)
    assert world.trouble() == ""
    world.state = PolicyState()
    assert world.trouble() == "no policy in force"
    world.marker.touch()
    assert world.trouble() == "draining"


@pytest.mark.parametrize(
    ("limit_s", "stale_s", "is_ready"),
    [(0, 10_000, True), (60, 60, True), (60, 61, False)],
)
def test_a_policy_counts_as_too_old_past_the_limit_only(
    limit_s: float,
    stale_s: float,
    is_ready: bool,  # noqa: FBT001 - a table's column
    tmp_path: Path,
) -> None:
    """0 is no limit."""
    world = World(tmp_path, max_stale_s=limit_s)
    world.stale_s = stale_s
    assert (world.trouble() == "") is is_ready


def test_a_fault_of_a_newer_policy_takes_no_readiness_away(tmp_path: Path) -> None:
    """The last good one decides."""
    world = World(tmp_path)
    world.state = PolicyState(digest="d", error="policy.csv:1: x")
    assert world.trouble() == ""


def test_a_change_between_a_look_and_a_wait_is_not_missed(tmp_path: Path) -> None:
    """The event is taken first, then the look."""
    world = World(tmp_path)

    async def scenario() -> None:
        changed = world.health.changed
        assert world.trouble() == ""
        await asyncio.wait_for(changed.wait(), 1)
        unchanged = world.health.changed
        world.health.refresh()
        assert not unchanged.is_set()

    asyncio.run(scenario())


@pytest.mark.parametrize("service", SERVED)
def test_the_protocol_says_serving_or_not(service: str, tmp_path: Path) -> None:
    """For the server as a whole and for Check."""
    world = World(tmp_path)
    for trouble, status in (("", KINDS.SERVING), ("draining", KINDS.NOT_SERVING)):
        world.health.trouble = trouble
        reply = health_pb2.HealthCheckResponse.FromString(
            health_reply(service, world.health) or b""
        )
        assert reply.status == status


def test_a_service_that_is_not_here_has_no_health(tmp_path: Path) -> None:
    """Each transport says so in its way."""
    assert health_reply("no.such.Service", World(tmp_path).health) is None
