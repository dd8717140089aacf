"""The agent's door: what it shows to whom, before it is known."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from typing_extensions import override

from ca.bundle import Bundle
from ca.join_token import SECRET_BYTES, TokenText
from meshwarden import clock
from meshwarden.agent.door import TlsDoor, TlsDoorSettings
from meshwarden.agent.evidence import JoinToken
from meshwarden.agent.keep import Keep
from meshwarden.agent.renewer import LinkDownError
from meshwarden.agent.uplink import ServerAddress
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc
from tests.unit.meshwarden.agent.test_uplink import AGENT, SERVER, authority


class Another(agent_pb2_grpc.AttestationServicer):
    """A server that is one, though not the one that a token is for."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.heard: list[pb.AttestRequest] = []

    @override
    async def GetBundle(self, request: Any, context: Any) -> pb.Bundle:
        del request, context
        return pb.Bundle(trust_domain="td.example", x509_authorities=[self.root])

    @override
    async def Attest(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.AttestReply]:
        self.heard.append(await anext(request_iterator))
        yield pb.AttestReply(svid=pb.X509Svid(spiffe_id=AGENT, chain=[b"rubbish"]))


@pytest.mark.parametrize("authorities", ["", "1" * 64])
def test_a_token_for_other_authorities_goes_to_no_server_that_was_known_before(
    short: Path, tmp_path: Path, authorities: str
) -> None:
    """What is kept of an earlier life must not outvote a token; without a hash it has to do."""
    known = authority(tmp_path / "known")
    server_pair = known.issue_odd("x", [SERVER], ["localhost"])
    root = ssl.PEM_cert_to_DER_cert(known.certificate.read_text())

    async def story() -> list[pb.AttestRequest]:
        server, taken = grpc.aio.server(), Another(root)
        agent_pb2_grpc.add_AttestationServicer_to_server(taken, server)
        pair = (server_pair.key.read_bytes(), server_pair.certificate.read_bytes())
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        keep = Keep(short)
        keep.save_bundles((Bundle("td.example", (root,), b'{"keys":[]}', 1, 60),))
        given = TlsDoorSettings(
            ServerAddress("localhost", port),
            trust_bundle=None,
            insecure=False,
            evidence=JoinToken(TokenText(b"s" * SECRET_BYTES, authorities).reveal()),
            sockets=short,
        )
        door = TlsDoor(given, keep, clock.now_ns, lambda: 0.5)
        try:
            with pytest.raises(
                LinkDownError, match="was not sent" if authorities else "no certificate"
            ):
                await door.enter()
        finally:
            await door.close()
            await server.stop(0)
        return taken.heard

    assert bool(asyncio.run(story())) is (not authorities)
