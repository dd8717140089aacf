"""Control's servers keep their connections: one carries all of a front's streams."""

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from typing_extensions import override

from meshwarden.control import servers
from protos.meshwarden.v1 import agent_pb2, agent_pb2_grpc

# A front's pings come every 30 s; here each stands for one.
PINGS = (
    ("grpc.keepalive_time_ms", 500),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


class Quiet(agent_pb2_grpc.AgentServicer):
    """Has nothing to say."""

    @override
    async def Entries(self, request: agent_pb2.EntriesRequest, context: Any) -> Any:
        """Say nothing, for ever."""
        del request, context
        await asyncio.Event().wait()


@pytest.mark.parametrize("options", [servers.AGENTS_OPTIONS, servers.CONTROL_OPTIONS])
def test_a_front_that_looks_whether_control_lives_loses_no_quiet_stream(
    tmp_path: Path, options: tuple[tuple[str, int], ...]
) -> None:
    """After some pings without data gRPC closes a connection, with every agent's stream on it."""

    async def story() -> None:
        server = grpc.aio.server(options=options)
        agent_pb2_grpc.add_AgentServicer_to_server(Quiet(), server)
        server.add_insecure_port(f"unix:{tmp_path}/s")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s", PINGS) as channel:
            call = agent_pb2_grpc.AgentStub(channel).Entries(agent_pb2.EntriesRequest())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call.read(), 4)
        await server.stop(0)

    asyncio.run(story())
