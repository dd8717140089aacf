"""Two replicas over a real PostgreSQL: what one is told, the other one obeys."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from deploy.demo.processes import free_ports
from meshwarden.settings import Identity
from protos.meshwarden.v1 import agent_pb2, registration_pb2
from tests.servers.identity import TRUST_DOMAIN, Caller, IdentityServer, identity_server
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

pytestmark = pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
WITHIN_S = 5
Story = Callable[[IdentityServer, IdentityServer], Awaitable[None]]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgresql]:
    """Run a PostgreSQL."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold what seals the keys of the one authority that all tests share."""
    return tmp_path_factory.mktemp("keys")


def run(database: Postgresql, keys: Path, folder: Path, story: Story) -> None:
    """Run a story on two replicas."""
    identity = Identity(trust_domain=TRUST_DOMAIN, key_file=keys / "sealing.key")

    async def within_time() -> None:
        for name in ("a", "b"):
            (folder / name).mkdir()
        async with (
            asyncio.timeout(90),
            identity_server(folder / "a", database.url, identity) as one,
            identity_server(folder / "b", database.url, identity) as other,
        ):
            await story(one, other)

    asyncio.run(within_time())


def entries_of(server: IdentityServer, agent: Caller) -> "grpc.aio.UnaryStreamCall":
    """Follow entries."""
    return server.agents.Entries(agent_pb2.EntriesRequest(), metadata=agent.metadata)


def test_a_change_at_one_reaches_the_streams_of_the_other(
    database: Postgresql, keys: Path, tmp_path: Path
) -> None:
    """Entries, and the ban that ends the stream; an agent of one is an agent of both at once."""

    async def story(one: IdentityServer, other: IdentityServer) -> None:
        agent = await one.new_agent()
        stream = entries_of(other, agent)
        await stream.read()
        began_s = time.monotonic()
        entry = await one.put(parent_id=agent.spiffe_id)
        reply = await stream.read()
        assert [each.id for each in reply.changed] == [entry.workload.id]
        await one.registration.EvictAgent(
            registration_pb2.EvictAgentRequest(spiffe_id=agent.spiffe_id, ban=True)
        )
        with pytest.raises(grpc.aio.AioRpcError, match="banned"):
            await stream.read()
        assert time.monotonic() - began_s < 2 * WITHIN_S

    run(database, keys, tmp_path, story)


def test_of_many_that_race_with_one_token_one_gets_in(
    database: Postgresql, keys: Path, tmp_path: Path
) -> None:
    """The database makes the others wait, and look again."""

    async def story(one: IdentityServer, other: IdentityServer) -> None:
        payload = (await one.new_token()).token.encode()
        results = await asyncio.gather(
            *(each.attest("join_token", payload) for each in [one, other] * 5),
            return_exceptions=True,
        )
        assert sum(isinstance(each, Caller) for each in results) == 1
        refused = [each for each in results if isinstance(each, grpc.aio.AioRpcError)]
        assert {each.code() for each in refused} == {grpc.StatusCode.PERMISSION_DENIED}

    run(database, keys, tmp_path, story)


def test_a_database_that_was_away_costs_nothing_but_the_time(
    database: Postgresql, keys: Path, tmp_path: Path
) -> None:
    """Streams stay, writing is refused as UNAVAILABLE, and what changes afterwards arrives."""

    async def story(one: IdentityServer, other: IdentityServer) -> None:
        agent = await one.new_agent()
        stream = entries_of(other, agent)
        await stream.read()
        payload = (await one.new_token()).token.encode()
        database.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one.put(parent_id=agent.spiffe_id)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one.attest("join_token", payload)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        database.start()
        await one.attest("join_token", payload)
        entry = await one.put(parent_id=agent.spiffe_id)
        async with asyncio.timeout(2 * WITHIN_S):
            reply = await stream.read()
        assert [each.id for each in reply.changed] == [entry.workload.id]

    run(database, keys, tmp_path, story)
