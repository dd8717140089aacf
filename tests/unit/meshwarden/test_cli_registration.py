"""`meshwarden entry`, `agent` and `token` on a real Registration service."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app
from meshwarden.control.access import AccessInterceptor, LocalGate
from meshwarden.files import RuntimeDir
from protos.meshwarden.v1 import registration_pb2, registration_pb2_grpc
from tests.servers.identity import IdentityServer, identity_server

DAY_NS = 86_400 * 10**9
Command = Callable[..., Awaitable[Result]]
Story = Callable[[IdentityServer, Command], Awaitable[None]]


def run(folder: Path, story: Story) -> None:
    """Run one story, with a way to run commands against its service."""
    runtime = RuntimeDir(folder)
    settings = {"MESHWARDEN_RUNTIME__RUNTIME_DIR": str(folder), "MESHWARDEN_CONFIG": ""}

    async def command(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, words, env=settings)

    async def within_time() -> None:
        async with asyncio.timeout(60), identity_server(folder) as server:
            admin = grpc.aio.server(interceptors=[AccessInterceptor(LocalGate())])
            registration_pb2_grpc.add_RegistrationServicer_to_server(
                server.nodes.registration, admin
            )
            admin.add_insecure_port(f"unix:{runtime.admin_socket}")
            await admin.start()
            runtime.supervisor_socket.touch()  # What commands look for first.
            try:
                await story(server, command)
            finally:
                await admin.stop(None)

    asyncio.run(within_time())


def unboxed(result: Result) -> str:
    """What went wrong, out of its box."""
    return " ".join(result.output.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


async def agents(server: IdentityServer) -> set[str]:
    """Which agents there are, by the last part of their names."""
    reply = await server.registration.ListAgents(registration_pb2.ListAgentsRequest())
    return {each.spiffe_id.rpartition("/")[2] for each in reply.agents}


def test_agents_are_pruned_by_how_long_ago_they_expired(tmp_path: Path) -> None:
    """Asked first; the banned stay; and it is on record who did it."""

    async def story(server: IdentityServer, command: Command) -> None:
        await server.new_agent(agent_path="old")
        banned = await server.new_agent(agent_path="banned")
        ban = registration_pb2.EvictAgentRequest(spiffe_id=banned.spiffe_id, ban=True)
        await server.registration.EvictAgent(ban)
        server.clock.ahead_ns = 3 * DAY_NS
        await server.new_agent(agent_path="new")

        assert (
            "0 agents forgotten" in (await command("agent", "prune", "--expired-for", "3d")).output
        )
        asked = await command("agent", "prune", "--expired-for", "2d")
        assert (asked.exit_code, "give --yes" in asked.output) == (2, True)
        assert "Forget 1 agent that expired 2 d 0 h ago or more?" in asked.output
        dry = await command("agent", "prune", "--expired-for", "2d", "--dry-run", "-o", "json")
        assert json.loads(dry.output) == {"forgotten": 1, "dry_run": True}
        assert await agents(server) == {"old", "banned", "new"}

        done = await command("agent", "prune", "--expired-for", "2d", "--yes")
        assert (done.exit_code, done.output) == (0, "1 agent forgotten\n")
        assert await agents(server) == {"banned", "new"}
        (told,) = [each for each in await server.audited() if each[1] == "agent.forget"]
        assert told[0].startswith("local:")
        assert re.fullmatch(r"1, expired 2 d 0 h ago or more: spiffe://.*/old", told[3])

    run(tmp_path, story)


@pytest.mark.parametrize("duration", ["3", "-1d", "1w"])
def test_what_is_no_duration_prunes_nothing(tmp_path: Path, duration: str) -> None:
    """Nor is it asked for."""

    async def story(server: IdentityServer, command: Command) -> None:
        done = await command("agent", "prune", "--expired-for", duration, "--yes")
        assert (done.exit_code, "such as 30m" in unboxed(done)) == (2, True)
        assert [each[1] for each in await server.audited()] == []

    run(tmp_path, story)
