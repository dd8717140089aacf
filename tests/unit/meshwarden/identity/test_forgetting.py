"""Agents that expired long ago, forgotten by the service itself."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from meshwarden.control.identity import forgetting
from protos.meshwarden.v1 import registration_pb2
from tests.servers.identity import IdentityServer, identity_server

DAY_NS = 86_400 * 10**9
DENIED = grpc.StatusCode.PERMISSION_DENIED


def run(folder: Path, story: Callable[[IdentityServer], Awaitable[None]], **nodes: Any) -> None:
    """Run one story against servers of its own."""

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder, **nodes) as server:
            await story(server)

    asyncio.run(within_time())


async def names(server: IdentityServer) -> set[str]:
    """Which agents there are."""
    reply = await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
    return {each.spiffe_id for each in reply.agents}


def test_an_agent_is_forgotten_so_many_days_after_it_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no sooner; from then on it comes back only as at first."""
    monkeypatch.setattr(forgetting, "_LOOK_S", 0.05)

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        server.clock.ahead_ns = 2 * DAY_NS
        fresh = await server.new_agent()
        server.clock.ahead_ns = 2 * DAY_NS + DAY_NS // 24 - 10**10
        store, now_ns = server.nodes.registry.store, server.clock.now_ns
        await forgetting.Forgetting(store, 2, now_ns).look()
        assert await names(server) == {agent.spiffe_id, fresh.spiffe_id}
        server.clock.ahead_ns += 10**10
        while agent.spiffe_id in await names(server):
            await asyncio.sleep(0.02)
        assert await names(server) == {fresh.spiffe_id}
        chain = b"".join(agent.chain)
        with pytest.raises(grpc.aio.AioRpcError, match="there is no agent") as caught:
            await server.attest("expired_svid", chain, answer_key=agent.key)
        assert caught.value.code() is DENIED
        told = [each for each in await server.audited() if each[1] == "agent.forget"]
        detail = f"1, expired 2 d 0 h ago or more: {agent.spiffe_id}"
        assert told == [("service", "agent.forget", "done", detail)]

    run(tmp_path, story, forget_agents_days=2)


def test_a_clock_that_is_still_to_be_set_has_nobody_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a machine that boots in another year."""
    monkeypatch.setattr(forgetting, "_LOOK_S", 0.5)

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        server.clock.ahead_ns = 400 * DAY_NS
        store, now_ns = server.nodes.registry.store, server.clock.now_ns
        running = asyncio.create_task(forgetting.Forgetting(store, 2, now_ns).run())
        await asyncio.sleep(0.1)
        server.clock.ahead_ns = 0
        while "the clock was set by -" not in caplog.text:
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await names(server) == {agent.spiffe_id}

    run(tmp_path, story, forget_agents_days=0)


def test_with_zero_days_no_agent_is_ever_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago it expired."""
    monkeypatch.setattr(forgetting, "_LOOK_S", 0.05)

    async def story(server: IdentityServer) -> None:
        agent = await server.new_agent()
        server.clock.ahead_ns = 4_000 * DAY_NS
        await asyncio.sleep(0.5)
        assert await names(server) == {agent.spiffe_id}

    run(tmp_path, story, forget_agents_days=0)
