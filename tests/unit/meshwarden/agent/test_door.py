"""The agent's door: what it shows to whom, before it is known."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from typing_extensions import override

from ca.bundle import Bundle
from ca.join_token import SECRET_BYTES, TokenText
from ca.keys import KeyType, PublicKey, generate
from meshwarden import clock
from meshwarden.agent.door import TlsDoor, TlsDoorSettings
from meshwarden.agent.evidence import JoinToken
from meshwarden.agent.keep import Keep
from meshwarden.agent.renewer import LinkDownError
from meshwarden.agent.uplink import ServerAddress
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc
from tests.unit.meshwarden.agent.test_identities import certified
from tests.unit.meshwarden.agent.test_uplink import AGENT, SERVER, authority, own_identity

NEVER_NS = 2**62


class Another(agent_pb2_grpc.AttestationServicer):
    """A server that is one, though not the one that a token is for."""

    def __init__(
        self, root: bytes, svid: Callable[[bytes], pb.X509Svid], bundle: pb.Bundle | None
    ) -> None:
        self.root = root
        self.heard: list[pb.AttestRequest] = []
        self._svid = svid
        self._bundle = bundle

    @override
    async def GetBundle(self, request: Any, context: Any) -> pb.Bundle:
        del request, context
        return self.bundle()

    def bundle(self) -> pb.Bundle:
        """Give a bundle with which nothing is wrong."""
        return pb.Bundle(trust_domain="td.example", x509_authorities=[self.root])

    @override
    async def Attest(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.AttestReply]:
        self.heard.append(await anext(request_iterator))
        yield pb.AttestReply(
            svid=self._svid(self.heard[0].evidence.csr), bundle=self._bundle or self.bundle()
        )


def rubbish(_csr: bytes) -> pb.X509Svid:
    """Answer with no certificate."""
    return pb.X509Svid(spiffe_id=AGENT, chain=[b"rubbish"], not_after_ns=NEVER_NS)


def of_another_key(_csr: bytes) -> pb.X509Svid:
    """Answer with a certificate of the agent's that is not for its key."""
    chain = [certified(generate(KeyType.EC_P256).public_key(), AGENT)]
    return pb.X509Svid(spiffe_id=AGENT, chain=chain, not_after_ns=NEVER_NS)


def fit(csr: bytes, spiffe_id: str = AGENT) -> pb.X509Svid:
    """Answer with a certificate for that key."""
    key = x509.load_der_x509_csr(csr).public_key()
    assert isinstance(key, PublicKey)
    chain = [certified(key, spiffe_id)]
    return pb.X509Svid(spiffe_id=spiffe_id, chain=chain, not_after_ns=NEVER_NS)


def of_no_agent(csr: bytes) -> pb.X509Svid:
    """Answer with a certificate for that key, and a workload's name."""
    return fit(csr, "spiffe://td.example/web")


def under_rubbish(csr: bytes) -> pb.X509Svid:
    """Answer with a certificate for that key, under what is none."""
    svid = fit(csr)
    svid.chain.append(b"rubbish")
    return svid


def entered(  # noqa: PLR0913, PLR0917 - what such a visit is made of
    short: Path,
    tmp_path: Path,
    server_id: str,
    token: str,
    late_ns: int = 0,
    svid: Callable[[bytes], pb.X509Svid] = rubbish,
    bundle: pb.Bundle | None = None,
) -> tuple[str, list[pb.AttestRequest]]:
    """Go to a server under an authority that was known before; give the fault, and what it heard.

    Args:
        short: The agent's folder.
        tmp_path: Holds the server's certificate.
        server_id: Its SPIFFE ID.
        token: The agent's join token; "" for none.
        late_ns: How much later the agent's clock is.
        svid: What the server answers to a request.
        bundle: What it answers beside that; None for the right one.
    """
    known = authority(tmp_path / "known")
    shown = known.issue_odd("x", [server_id], ["localhost"])
    root = ssl.PEM_cert_to_DER_cert(known.certificate.read_text())

    async def story() -> tuple[str, list[pb.AttestRequest]]:
        server, taken = grpc.aio.server(), Another(root, svid, bundle)
        agent_pb2_grpc.add_AttestationServicer_to_server(taken, server)
        pair = (shown.key.read_bytes(), shown.certificate.read_bytes())
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        keep = Keep(short)
        known_before = (Bundle("td.example", (root,), b'{"keys":[]}', 1, 60),)
        keep.save_bundles(known_before)
        given = TlsDoorSettings(
            ServerAddress("localhost", port),
            trust_bundle=None,
            insecure=False,
            evidence=JoinToken(token),
            sockets=short,
        )
        door = TlsDoor(given, keep, lambda: clock.now_ns() + late_ns, lambda: 0.5)
        try:
            with pytest.raises(LinkDownError) as caught:
                await door.enter()
        finally:
            await door.close()
            await server.stop(0)
        assert keep.load_bundles() == known_before
        return str(caught.value), taken.heard

    return asyncio.run(story())


@pytest.mark.parametrize("authorities", ["", "1" * 64])
def test_a_token_for_other_authorities_goes_to_no_server_that_was_known_before(
    short: Path, tmp_path: Path, authorities: str
) -> None:
    """What is kept of an earlier life must not outvote a token; without a hash it has to do."""
    token = TokenText(b"s" * SECRET_BYTES, authorities).reveal()
    fault, heard = entered(short, tmp_path, SERVER, token)
    assert bool(heard) is (not authorities)
    assert ("was not sent" if authorities else "no certificate of an agent") in fault


@pytest.mark.parametrize("domain", ["td.example", "other.example"])
def test_who_was_an_agent_says_so_to_the_server_of_its_own_trust_domain_alone(
    short: Path, tmp_path: Path, domain: str
) -> None:
    """A root may stand above the authorities of several."""
    Keep(short).save_identity(own_identity())
    server_id = f"spiffe://{domain}/meshwarden/server"
    fault, heard = entered(short, tmp_path, server_id, "", late_ns=7200 * 10**9)
    assert bool(heard) is (domain == "td.example")
    if not heard:
        assert "no server of the trust domain td.example" in fault


@pytest.mark.parametrize("svid", [of_another_key, of_no_agent])
def test_an_agent_takes_no_certificate_that_is_not_its_own(
    short: Path, tmp_path: Path, svid: Callable[[bytes], pb.X509Svid]
) -> None:
    """Of another key, or a workload's; nothing of it is kept."""
    fault, heard = entered(short, tmp_path, SERVER, TokenText(b"s" * 32).reveal(), svid=svid)
    assert heard
    assert "for another key, or for no agent" in fault
    assert Keep(short).load_identity() is None


@pytest.mark.parametrize(
    ("svid", "bundle", "told"),
    [
        (under_rubbish, None, "no certificate of an agent"),
        (fit, pb.Bundle(trust_domain="td.example"), "no bundle of the agent's trust domain"),
        (
            fit,
            pb.Bundle(trust_domain="td.example", x509_authorities=[b"rubbish"]),
            "bundle holds what is no certificate",
        ),
        (
            fit,
            pb.Bundle(
                trust_domain="other.example",
                x509_authorities=[certified(generate(KeyType.EC_P256).public_key(), SERVER)],
            ),
            "no bundle of the agent's trust domain",
        ),
    ],
)
def test_of_an_answer_that_is_no_good_nothing_is_kept(
    short: Path,
    tmp_path: Path,
    svid: Callable[[bytes], pb.X509Svid],
    bundle: pb.Bundle | None,
    told: str,
) -> None:
    """Least of all a bundle in place of the one that the server is known by."""
    token = TokenText(b"s" * 32).reveal()
    fault, heard = entered(short, tmp_path, SERVER, token, svid=svid, bundle=bundle)
    assert heard
    assert told in fault
    assert Keep(short).load_identity() is None
