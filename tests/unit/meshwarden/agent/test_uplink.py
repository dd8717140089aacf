"""The way to the server carries nothing to or from whoever has not proved to be the server."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from typing_extensions import override

from ca.keys import KeyType, generate
from ca.spiffe_id import parse
from deploy.demo.certificates import Credential
from meshwarden import clock
from meshwarden.agent.door import CHANNEL_OPTIONS, TlsDoor, TlsDoorSettings
from meshwarden.agent.evidence import JoinToken
from meshwarden.agent.keep import Keep, OwnIdentity
from meshwarden.agent.renewer import LinkDownError, Order, Signed, request_for_key
from meshwarden.agent.uplink import ServerAddress, Uplink, tls_context
from protos.meshwarden.v1 import agent_pb2 as pb
from protos.meshwarden.v1 import agent_pb2_grpc
from tests.e2e.support.certificates import CarelessAuthority
from tests.fakes.signer import FakeSigner

SERVER = "spiffe://td.example/meshwarden/server"
HELLO = b"hello"
AGENT = "spiffe://td.example/meshwarden/agent/a/1"


def authority(folder: Path) -> CarelessAuthority:
    """Make an authority."""
    return CarelessAuthority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - dates of certificates


@contextlib.contextmanager
def serving(*turns: tuple[Credential, bytes]) -> Iterator[int]:
    """Serve each connection in turn by a certificate; what is said first comes with the handshake.

    By TLS 1.2, where the server's last word of the handshake and its first one after may be read
    at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            for credential, words in turns:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(10)
                        _speak(connection, credential, words)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listener.getsockname()[1])
    thread.join()


def _speak(connection: socket.socket, credential: Credential, words: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(credential.certificate, credential.key)
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(heard, said, server_side=True)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            if said.pending:
                connection.sendall(said.read())
            heard.write(connection.recv(65_536))
        else:
            break
    tls.write(words)
    connection.sendall(said.read())
    connection.recv(65_536)


async def carried(folder: Path, port: int, root: Path, trust_domain: str = "") -> tuple[bytes, str]:
    """Give the first bytes that come through the way to a server, and the fault that it tells."""
    way = Uplink(
        folder / "x.up",
        ServerAddress("localhost", port),
        lambda: tls_context([root.read_text()]),
        trust_domain,
    )
    await way.open()
    try:
        reader, writer = await asyncio.open_unix_connection(way.path)
        async with asyncio.timeout(10):
            data = await reader.read(100)
        writer.close()
    finally:
        await way.close()
    return data, way.fault


def test_what_another_server_said_is_never_taken_for_the_servers(
    short: Path, tmp_path: Path
) -> None:
    """The first connection showed another name: it is made anew, and nothing of it goes on."""
    signer = authority(tmp_path)
    other = signer.issue_odd("other", [], ["other.example"])
    real = signer.issue_odd("real", [], ["localhost"])
    with serving((other, b"of somebody else "), (real, b"of the server")) as port:
        data, _ = asyncio.run(carried(short, port, signer.certificate))
    assert data == b"of the server"


@pytest.mark.parametrize(("known", "data"), [("", HELLO), ("td.example", HELLO), ("b.org", b"")])
def test_a_server_is_of_the_agents_own_trust_domain(
    short: Path, tmp_path: Path, known: str, data: bytes
) -> None:
    """One root may stand above the authorities of several: each one's server is its own alone."""
    signer = authority(tmp_path)
    server = signer.issue_odd("server", [SERVER], ["localhost"])
    with serving((server, HELLO)) as port:
        came, fault = asyncio.run(carried(short, port, signer.certificate, known))
    assert came == data
    assert ("trust domain b.org" in fault) is (data == b"")


def test_a_server_in_plain_text_is_called_what_it_is(short: Path, tmp_path: Path) -> None:
    """As every service is where nobody has set that up yet: OpenSSL speaks of a wrong version."""

    async def story() -> str:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            return (await carried(short, port, authority(tmp_path).certificate))[1]
        finally:
            await server.stop(None)

    assert "speaks no TLS there" in asyncio.run(story())


def test_where_nobody_listens_the_address_is_told(short: Path, tmp_path: Path) -> None:
    """Else gRPC would tell the name of our own socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    _, fault = asyncio.run(carried(short, port, authority(tmp_path).certificate))
    assert fault.startswith(f"localhost:{port}: ")


def test_a_connection_that_ended_is_told_until_there_is_another(
    short: Path, tmp_path: Path
) -> None:
    """A server that stops is not a server that refuses."""
    signer = authority(tmp_path)
    server = signer.issue_odd("server", [SERVER], ["localhost"])

    async def story(port: int) -> str:
        way = Uplink(
            short / "x.up",
            ServerAddress("localhost", port),
            lambda: tls_context([signer.certificate.read_text()]),
        )
        await way.open()
        try:
            reader, writer = await asyncio.open_unix_connection(way.path)
            async with asyncio.timeout(10):
                assert await reader.read(100) == HELLO
                assert not way.fault
                writer.write(b"bye")  # The server has then heard enough.
                assert not await reader.read(100)
            writer.close()
        finally:
            await way.close()
        return way.fault.removeprefix(f"localhost:{port}: ")

    with serving((server, HELLO)) as port:
        assert asyncio.run(story(port)) == "the connection ended"


def test_without_an_authority_there_is_no_way() -> None:
    """Nothing to verify by is never the same as nothing to verify."""
    with pytest.raises(ValueError, match="nothing is known to prove the server by"):
        tls_context([])


class Impostor(agent_pb2_grpc.AgentServicer):
    """Somebody else at the server's address, who counts what he is asked."""

    def __init__(self) -> None:
        self.heard = 0

    @override
    def Entries(self, request: Any, context: Any) -> Iterator[pb.EntriesReply]:
        del request, context
        self.heard += 1
        yield pb.EntriesReply(whole=True)


def test_a_new_channel_pays_for_no_failure_of_the_last_one(short: Path) -> None:
    """By the same socket: who was believed a moment ago isn't told that nobody is there."""
    target = f"unix:{short / 'agent.up'}"

    async def asked(channel: grpc.aio.Channel) -> Any:
        return await agent_pb2_grpc.AgentStub(channel).Entries(pb.EntriesRequest()).read()

    async def story() -> bool:
        server = grpc.aio.server()
        agent_pb2_grpc.add_AgentServicer_to_server(Impostor(), server)
        async with (
            grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as last,
            grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as new,
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await asked(last)
            server.add_insecure_port(target)
            await server.start()
            try:
                return bool((await asked(new)).whole)
            finally:
                await server.stop(0)

    assert asyncio.run(story())


def own_identity() -> OwnIdentity:
    """Give what an agent has that was attested an hour ago."""
    key = generate(KeyType.EC_P256)
    order = Order("", request_for_key(key, parse(AGENT)), ())
    (made,) = asyncio.run(FakeSigner(clock.now_ns).sign([order]))
    assert isinstance(made, Signed)
    return OwnIdentity(AGENT, made.chain, key, made.not_after_ns)


def test_an_agent_whose_bundle_is_lost_speaks_to_nobody_that_it_can_not_know(
    short: Path, tmp_path: Path
) -> None:
    """Its own certificate is still good; that of whoever is at the address proves nothing."""
    impostor = authority(tmp_path / "impostor").issue_odd("x", [SERVER], ["localhost"])
    own = own_identity()

    async def story() -> None:
        server, taken = grpc.aio.server(), Impostor()
        agent_pb2_grpc.add_AgentServicer_to_server(taken, server)
        pair = (impostor.key.read_bytes(), impostor.certificate.read_bytes())
        port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        keep = Keep(short)
        keep.save_identity(own)
        given = TlsDoorSettings(
            ServerAddress("localhost", port),
            trust_bundle=None,
            insecure=False,
            evidence=JoinToken(),
            sockets=short,
        )
        door = TlsDoor(given, keep, clock.now_ns, lambda: 0.5)
        try:
            channel = await door.enter()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await agent_pb2_grpc.AgentStub(channel).Entries(pb.EntriesRequest()).read()
            await channel.close(None)
        finally:
            await door.close()
            await server.stop(0)
            assert not taken.heard

    with pytest.raises(LinkDownError, match="nothing is known to prove the server by"):
        asyncio.run(story())
