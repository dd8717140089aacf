"""The port's own certificate as fronts get it: sent by SDS, kept in files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from cryptography import x509
from google.protobuf import json_format

from meshwarden import clock
from meshwarden.control.identity import serving as serving_module
from meshwarden.control.identity.issuer import Limits
from meshwarden.control.identity.serving import Serving
from meshwarden.files import CLIENTS_SDS, SERVER_SDS, RuntimeDir
from protos.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from tests.unit.ca.makings import SECOND
from tests.unit.meshwarden.identity.test_issuer import World
from tests.unit.meshwarden.sds.test_streams import ask, unpacked

if TYPE_CHECKING:
    # Declared for types alone: both kinds of channel make the one class.
    from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceAsyncStub as Stub
else:
    Stub = SecretDiscoveryServiceStub


class Ticking(World):
    """A world where time goes by.

    Attributes:
        slept_ns: How much of it went by while nothing ran.
    """

    slept_ns = 0

    @property
    def now_ns(self) -> int:  # type: ignore[override]
        """The time."""
        return self._begun_ns + int(clock.monotonic_s() * SECOND) + self.slept_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        self._begun_ns = now_ns - int(clock.monotonic_s() * SECOND)


class Control:
    """What keeps a certificate fresh, over a real connection.

    Attributes:
        running: Its task.
        serves: What does.
    """

    running: asyncio.Task[None]
    serves: Serving

    def __init__(self, folder: Path, ttl_s: int = 2) -> None:
        self.runtime = RuntimeDir(folder)
        # With 2 s, renewed after three eighths of one to two seconds each time.
        self.world = Ticking(limits=Limits(x509_ttl_s=ttl_s))

    @contextlib.asynccontextmanager
    async def serving(self, *names: str) -> AsyncIterator[Stub]:
        """Serve, by names; gives a stub of a client."""
        socket = self.runtime.internal_socket
        serving = self.serves = Serving(
            self.world.issuer,
            names,
            self.runtime,
            now_ns=lambda: self.world.now_ns,
            draw=lambda: 0.0,
        )
        server = grpc.aio.server()
        serving.serve_on(server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        self.running = asyncio.create_task(serving.run())
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            try:
                yield SecretDiscoveryServiceStub(channel)
            finally:
                self.running.cancel()
                await asyncio.gather(self.running, return_exceptions=True)
                await server.stop(None)

    def kept(self, name: str) -> Secret:
        """What a front would read that starts without control."""
        response = json_format.Parse(self.runtime.secret(name).read_text(), DiscoveryResponse())
        return unpacked_one(response, name)


def unpacked_one(response: DiscoveryResponse, name: str) -> Secret:
    """The one secret of a response."""
    (resource,) = response.resources
    secret = Secret()
    assert resource.Unpack(secret)
    assert secret.name == name
    return secret


def leaf_of(secret: Secret) -> x509.Certificate:
    """The certificate of a secret."""
    return x509.load_pem_x509_certificate(secret.tls_certificate.certificate_chain.inline_bytes)


def run(folder: Path, story: Callable[[Control], Awaitable[None]], ttl_s: int = 2) -> None:
    """Tell a story of a control whose authorities are open."""

    async def told() -> None:
        async with asyncio.timeout(20):
            control = Control(folder, ttl_s)
            await control.world.issuer.start()
            await story(control)

    asyncio.run(told())


def test_each_renewal_is_sent_and_kept(tmp_path: Path) -> None:
    """The same to both, and the key is its certificate's; the file is the owner's alone."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            call = stub.StreamSecrets()
            await call.write(ask(SERVER_SDS))
            serials = set()
            for _ in range(3):
                reply = await call.read()
                assert isinstance(reply, DiscoveryResponse)
                secret = unpacked_one(reply, SERVER_SDS)
                serials.add(leaf_of(secret).serial_number)
                await call.write(ask(SERVER_SDS, nonce=reply.nonce))
            assert len(serials) == 3
            while control.kept(SERVER_SDS) != secret:
                secret = unpacked(await call.read())[SERVER_SDS]
        assert control.runtime.secret(SERVER_SDS).stat().st_mode & 0o777 == 0o600

    run(tmp_path, story)


def test_what_was_cleaned_away_is_kept_again_by_the_next_renewal(tmp_path: Path) -> None:
    """Authorities too, which hardly ever change: a front needs both to start without control."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            sent = unpacked(await stub.FetchSecrets(ask(CLIENTS_SDS)))
            for name in (SERVER_SDS, CLIENTS_SDS):
                control.runtime.secret(name).unlink()
            while not control.runtime.secret(CLIENTS_SDS).exists():
                await asyncio.sleep(0.01)
            assert control.kept(CLIENTS_SDS) == sent[CLIENTS_SDS]
            assert leaf_of(control.kept(SERVER_SDS)).serial_number

    run(tmp_path, story)


def test_clients_authorities_are_sent_when_they_change(tmp_path: Path) -> None:
    """Not with each renewal of the certificate."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            call = stub.StreamSecrets()
            await call.write(ask(CLIENTS_SDS))
            reply = await call.read()
            assert isinstance(reply, DiscoveryResponse)
            told = unpacked_one(reply, CLIENTS_SDS).validation_context.trusted_ca.inline_bytes
            assert told == control.world.issuer.bundle().to_pem().encode()
            await call.write(ask(CLIENTS_SDS, nonce=reply.nonce))
            newer = asyncio.ensure_future(call.read())
            certificates = stub.StreamSecrets()
            await certificates.write(ask(SERVER_SDS))
            for _ in range(3):
                await certificates.read()
            assert not newer.done()
            newer.cancel()

    run(tmp_path, story)


def test_a_refusal_is_logged_and_the_next_one_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An Envoy goes on with what it has meanwhile."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            call = stub.StreamSecrets()
            await call.write(ask(SERVER_SDS))
            first = await call.read()
            assert isinstance(first, DiscoveryResponse)
            await call.write(ask(SERVER_SDS, nonce=first.nonce, refused="no such key type"))
            second = await call.read()
            assert unpacked(second).keys() == {SERVER_SDS}
            assert second.nonce != first.nonce

    run(tmp_path, story)
    assert "an Envoy refused server: no such key type" in caplog.text
    assert "PRIVATE" not in caplog.text


def test_a_control_that_can_issue_nothing_sends_what_was_kept(tmp_path: Path) -> None:
    """Its database is away; a front that starts meanwhile opens its port all the same."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            before = await stub.FetchSecrets(ask(SERVER_SDS, CLIENTS_SDS))
        control.world.log.is_down = True
        kept = {name: control.kept(name) for name in (SERVER_SDS, CLIENTS_SDS)}
        async with control.serving() as stub:
            again = await stub.FetchSecrets(ask(SERVER_SDS, CLIENTS_SDS))
            assert unpacked(again) == kept
            assert unpacked(again).keys() == unpacked(before).keys()
            control.world.log.is_down = False
            call = stub.StreamSecrets()
            await call.write(ask(SERVER_SDS))
            while unpacked(await call.read())[SERVER_SDS] == kept[SERVER_SDS]:
                pass

    run(tmp_path, story)


def test_what_was_kept_is_sent_where_the_database_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody knows whether it will; the order that waits is taken when it does."""
    monkeypatch.setattr(serving_module, "_PATIENCE_S", 0.1)

    async def story(control: Control) -> None:
        async with control.serving():
            await control.serves.ready.wait()
        kept = control.kept(SERVER_SDS)
        control.world.log.gate.clear()
        async with control.serving() as stub:
            sent = unpacked(await stub.FetchSecrets(ask(SERVER_SDS)))
            assert sent == {SERVER_SDS: kept}
            control.world.log.gate.set()
            while unpacked(await stub.FetchSecrets(ask(SERVER_SDS)))[SERVER_SDS] == kept:
                pass

    run(tmp_path, story, ttl_s=3600)


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"resources": [{"@type": "x"}]}'])
def test_what_is_no_kept_secret_is_sent_to_nobody(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients wait for one that is issued."""

    async def story(control: Control) -> None:
        control.world.log.is_down = True
        control.runtime.secret(SERVER_SDS).write_text(text)
        async with control.serving() as stub:
            call = stub.StreamSecrets()
            await call.write(ask(SERVER_SDS))
            reading = asyncio.ensure_future(call.read())
            while "is not what was kept there" not in caplog.text:
                await asyncio.sleep(0.01)
            assert not reading.done()
            control.world.log.is_down = False
            reply = await reading
            assert leaf_of(unpacked(reply)[SERVER_SDS]).serial_number

    run(tmp_path, story)


def test_a_machine_that_slept_renews_when_it_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock that sleeps count on stood still meanwhile."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            first = await stub.FetchSecrets(ask(SERVER_SDS))
            control.world.slept_ns += 3000 * SECOND
            while await stub.FetchSecrets(ask(SERVER_SDS)) == first:
                pass

    run(tmp_path, story, ttl_s=3600)


def test_what_could_not_be_kept_is_kept_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A front that watches the file must not wait for the next renewal, after which it expires."""
    monkeypatch.setattr(serving_module, "_LOOK_S", 0.05)

    async def story(control: Control) -> None:
        full = control.runtime.path.rename(tmp_path / "away")
        control.runtime.path.touch()
        control.runtime.internal_socket = tmp_path / "s"
        async with control.serving() as stub:
            sent = await stub.FetchSecrets(ask(SERVER_SDS, CLIENTS_SDS))
            assert "server.secret.json can't be written: " in caplog.text
            control.runtime.path.unlink()
            full.rename(control.runtime.path)
            while not control.runtime.secret(CLIENTS_SDS).exists():
                await asyncio.sleep(0.01)
            for name, secret in unpacked(sent).items():
                assert control.kept(name) == secret
        assert caplog.text.count("server.secret.json can't be written: ") == 1

    (tmp_path / "run").mkdir()
    run(tmp_path / "run", story, ttl_s=3600)


def test_what_is_in_force_is_told_with_its_times(tmp_path: Path) -> None:
    """Issued or kept: so expiry is seen, and a transport that reads no files has it too."""

    async def story(control: Control) -> None:
        async with control.serving():
            await control.serves.ready.wait()
            issued = control.serves
        control.world.log.is_down = True
        async with control.serving():
            await control.serves.ready.wait()
            assert (control.serves.pem, control.serves.roots_pem) == (
                issued.pem,
                issued.roots_pem,
            )
            assert control.serves.in_use() == issued.in_use()
            (known,) = issued.in_use()
            leaf = leaf_of(control.kept(SERVER_SDS))
            assert known.kind == "serving"
            assert known.not_after_ns == leaf.not_valid_after_utc.timestamp() * SECOND

    run(tmp_path, story, ttl_s=3600)


def test_a_certificate_that_has_no_name_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents know the service by its SPIFFE ID, most others by a name."""

    async def story(control: Control) -> None:
        async with control.serving("mesh.example"):
            await control.serves.ready.wait()
        assert "server.names" not in caplog.text
        async with control.serving():
            await control.serves.ready.wait()
        assert caplog.text.count("set server.names") == 1

    run(tmp_path, story, ttl_s=3600)


def test_streams_end_with_control(tmp_path: Path) -> None:
    """A stop waits for none of them."""

    async def story(control: Control) -> None:
        async with control.serving() as stub:
            call = stub.StreamSecrets()
            await call.write(ask(SERVER_SDS))
            await call.read()
            control.running.cancel()
            while await call.read() is not grpc.aio.EOF:
                pass
            assert await call.code() is grpc.StatusCode.OK

    run(tmp_path, story)
