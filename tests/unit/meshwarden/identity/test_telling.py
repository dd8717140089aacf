"""What status says of a trust domain: of a real control's parts, as they change."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from ca.expiry import in_use
from meshwarden import status
from meshwarden.settings import Identity
from protos.meshwarden.v1 import registration_pb2
from tests.servers.identity import TRUST_DOMAIN, identity_server


async def until(folder: Path, is_so: Callable[[status.IdentityState], object]) -> None:
    """Wait until the file says so."""
    async with asyncio.timeout(10):
        while not ((state := status.read_identity(folder)) and is_so(state)):
            await asyncio.sleep(0.05)


def test_entries_and_agents_are_counted_and_what_ends_first_is_named(tmp_path: Path) -> None:
    """An agent whose certificate has ended, or that is banned, counts no more."""

    async def story() -> None:
        async with identity_server(tmp_path) as server:
            await until(tmp_path, lambda state: state.trust_domain == TRUST_DOMAIN)
            agent, other = await server.new_agent(), await server.new_agent()
            await server.put(parent_id=agent.spiffe_id)
            await until(tmp_path, lambda state: (state.entries, state.agents) == (1, 2))
            await server.registration.EvictAgent(
                registration_pb2.EvictAgentRequest(spiffe_id=other.spiffe_id, ban=True)
            )
            await until(tmp_path, lambda state: state.agents == 1)
            state = status.read_identity(tmp_path)
            assert state is not None
            signing = server.opened.issuer.current.signing
            used = in_use(signing.authorities, signing.signer_id)
            first_ns = min(each.not_after_ns for each in used)
            assert (state.waits, state.first_ends_ns) == ("", first_ns)
            assert state.first_name in {each.name for each in used if each.not_after_ns == first_ns}
            server.clock.ahead_ns = 2 * 3600 * 10**9
            await until(tmp_path, lambda state: state.agents == 0)

    asyncio.run(story())


def test_an_authority_without_a_certificate_says_what_it_waits_for(tmp_path: Path) -> None:
    """And names nothing that ends."""
    settings = Identity(trust_domain=TRUST_DOMAIN, key_file=tmp_path / "sealing.key", ca="offline")

    async def story() -> None:
        async with identity_server(tmp_path, identity=settings):
            await until(tmp_path, lambda state: "meshwarden ca csr" in state.waits)
            state = status.read_identity(tmp_path)
            assert state is not None
            assert (state.first_name, state.first_ends_ns) == ("", 0)

    asyncio.run(story())
