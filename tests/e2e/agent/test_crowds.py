"""Very many streams, and readers that don't read: the agent stays as small as it was."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio

from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc
from tests.e2e.support.agent import HEADER, Agent, AgentPlace, served

STREAMS = 500
ROOM_KIB = 40 * 1024  # 80 KiB a stream, gRPC's own state in it.
QUIET_KIB = 8 * 1024


def memory_kib(agent: Agent) -> int:
    """Give the agent's resident memory."""
    for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no such process")


def test_many_streams_of_one_workload_share_one_certificate(agent: Agent) -> None:
    """500 streams see the same renewals; memory doesn't grow with the renewals."""
    served(agent.place.socket)
    before = memory_kib(agent)

    async def story() -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))
        channels = [
            grpc.aio.insecure_channel(f"unix:{agent.place.socket}", options=options)
            for _ in range(5)
        ]
        calls: list[Any] = [
            workload_pb2_grpc.SpiffeWorkloadAPIStub(channels[index % 5]).FetchX509SVID(
                pb.X509SVIDRequest(), metadata=HEADER
            )
            for index in range(STREAMS)
        ]
        first = [await call.read() for call in calls]
        with_streams = memory_kib(agent)
        assert with_streams - before < ROOM_KIB
        latest = first
        for _ in range(3):
            latest = await asyncio.gather(*(call.read() for call in calls))
        # All of a round got one certificate with one key.
        assert len({reply.svids[0].x509_svid for reply in latest}) == 1
        assert latest[0].svids[0].x509_svid != first[0].svids[0].x509_svid
        assert memory_kib(agent) - with_streams < QUIET_KIB
        for channel in channels:
            await channel.close()

    asyncio.run(story())


def test_streams_that_nobody_reads_hold_nothing_more(agent: Agent) -> None:
    """200 streams are opened and left alone through renewals: what they miss is not kept."""
    served(agent.place.socket)

    async def story() -> None:
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.default_authority", "localhost"),
            # As little as HTTP/2 allows to be sent unasked.
            ("grpc.http2.lookahead_bytes", 1024),
        )
        async with grpc.aio.insecure_channel(
            f"unix:{agent.place.socket}", options=options
        ) as channel:
            stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
            calls = [stub.FetchX509SVID(pb.X509SVIDRequest(), metadata=HEADER) for _ in range(200)]
            await asyncio.gather(*(call.initial_metadata() for call in calls))
            await asyncio.sleep(1)
            before = memory_kib(agent)
            await asyncio.sleep(9)  # Three renewals or more.
            assert memory_kib(agent) - before < QUIET_KIB
            for call in calls:
                call.cancel()

    asyncio.run(story())
    # Others are served as ever.
    started = time.monotonic()
    served(agent.place.socket)
    assert time.monotonic() - started < 5


def test_garbage_on_the_socket_harms_nobody(agent: Agent, new_folder: Callable[[], Path]) -> None:
    """Bytes that are no HTTP/2, connections that say nothing, and many of them."""
    del new_folder
    idle = []
    for index in range(300):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.fspath(agent.place.socket))
        if index % 2:
            connection.sendall(os.urandom(2000))
        idle.append(connection)
    assert served(agent.place.socket).svids
    for connection in idle:
        connection.close()
    assert isinstance(agent.place, AgentPlace)
    assert agent.status()["connected"]
