"""One service with TLS of its own, and one agent that attested to it, for all of a file."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.agent import SETTINGS, Agent, AgentPlace, create_entry, new_token
from tests.e2e.support.instance import Place

POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}


@pytest.fixture(scope="module")
def place(new_folder: Callable[[], Path]) -> Iterator[Place]:
    """Run a service that issues identities."""
    folder = new_folder()
    made = Place(folder, POLICY, {**SETTINGS, "identity.key_file": str(folder / "sealing.key")})
    with made.start() as instance:
        instance.wait_ready()
        yield made


@pytest.fixture
def agent_place(new_folder: Callable[[], Path], place: Place) -> AgentPlace:
    """Choose a place for an agent of the test's own."""
    return AgentPlace(new_folder(), f"127.0.0.1:{place.port}")


@pytest.fixture(scope="module")
def agent(new_folder: Callable[[], Path], place: Place) -> Iterator[Agent]:
    """Run an agent with one entry for processes of our user, of a short life."""
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    with where.with_token(new_token(place)) as running:
        running.wait_ready()
        create_entry(place, running.agent_id, "web", f"unix:uid:{os.getuid()}", ttl_s=6)
        yield running
