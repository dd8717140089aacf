"""One workload that has tokens signed without end takes them from no other."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo.processes import wait_until
from tests.e2e.support.agent import (
    Agent,
    AgentPlace,
    create_entry,
    new_token,
    served,
    served_to,
    served_token,
)
from tests.e2e.support.instance import Place

GREEDY, MODEST = "spiffe://td.example/greedy", "spiffe://td.example/modest"
NOBODY = 65_534
AT_ONCE = 3
TOLD_S = 10.0


@pytest.fixture
def agent(agent_place: AgentPlace, place: Place) -> Iterator[Agent]:
    """Run an agent that has few tokens signed, with two entries for our user."""
    per_s = {"MESHWARDEN_AGENT__TOKENS_PER_S": str(AT_ONCE / 10)}
    token = agent_place.folder / "token"
    token.write_text(new_token(place))
    token.chmod(0o600)
    with agent_place.start("--join-token-file", str(token), environ=per_s) as running:
        running.wait_ready()
        for name in ("greedy", "modest"):
            create_entry(place, running.agent_id, name, f"unix:uid:{os.getuid()}")
        wait_until(lambda: running.status()["entries"] == 2, [running], TOLD_S)
        yield running


def use_up(socket: Path) -> tuple[int, grpc.RpcError]:
    """Ask for ever other audiences; give how many tokens there were, and what ended it."""
    for number in range(20):
        try:
            served_token(socket, f"audience-{number}", GREEDY)
        except grpc.RpcError as error:
            return number, error
    raise AssertionError("nothing stopped it")


def test_a_greedy_workload_is_told_to_wait_and_another_entry_is_not(
    agent: Agent, place: Place
) -> None:
    """The ledger grows by what was signed only; tokens that are kept and certificates go on."""
    socket = agent.place.socket
    given, error = use_up(socket)
    assert AT_ONCE <= given < AT_ONCE + 3
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"{GREEDY} has had too many tokens signed: try again in " in error.details()
    assert served_token(socket, "audience-0", GREEDY).svids[0].spiffe_id == GREEDY
    assert served_token(socket, "other", MODEST).svids[0].spiffe_id == MODEST
    assert {each.spiffe_id for each in served(socket).svids} == {GREEDY, MODEST}
    issued = json.loads(place.command("ca", "issued", GREEDY, "-o", "json").stdout)
    assert len([each for each in issued if each["kind"] == "jwt"]) == given


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a workload as another user")
def test_another_user_of_the_machine_is_not_slowed_down(agent: Agent, place: Place) -> None:
    """Neither at his first token, nor later."""
    create_entry(place, agent.agent_id, "other", f"unix:uid:{NOBODY}")
    wait_until(lambda: agent.status()["entries"] == 3, [agent], TOLD_S)
    use_up(agent.place.socket)
    for audience in ("a", "b"):
        told = served_to(agent.place.socket, NOBODY, audience)
        assert told["ids"] == ["spiffe://td.example/other"], told
