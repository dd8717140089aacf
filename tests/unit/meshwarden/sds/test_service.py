"""The secret discovery service over a real connection."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from meshwarden.agent.svids import WorkloadSvids
from meshwarden.sds.secrets import ROOT, WorkloadSecrets
from meshwarden.sds.service import SecretService
from protos.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DiscoveryRequest,
)
from protos.envoy.service.secret.v3.sds_pb2_grpc import (
    SecretDiscoveryServiceStub,
    add_SecretDiscoveryServiceServicer_to_server,
)
from tests.unit.meshwarden.sds.test_streams import API, BUNDLES, WEB, ask, svid, unpacked

if TYPE_CHECKING:
    # Declared for types alone: both kinds of channel make the one class.
    from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceAsyncStub as Stub
else:
    Stub = SecretDiscoveryServiceStub


class Feed:
    """What the workload gets, changed by the test; the newest only."""

    def __init__(self) -> None:
        self.view = WorkloadSvids((svid(WEB),), BUNDLES)
        self.readers = 0
        self.is_over = False
        self._changed = asyncio.Event()

    def change(self, view: WorkloadSvids) -> None:
        """Show another view."""
        self.view = view
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Have nothing any more."""
        self.is_over = True
        self._changed.set()

    async def views(self, _context: Any) -> AsyncGenerator[WorkloadSvids, None]:
        """Follow it."""
        self.readers += 1
        try:
            while not self.is_over:
                shown, changed = self.view, self._changed
                yield shown
                if self.view is shown:
                    await changed.wait()
        finally:
            self.readers -= 1


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Feed, Stub]]:
    """A server on a socket and a client of it."""
    feed, server = Feed(), grpc.aio.server()
    add_SecretDiscoveryServiceServicer_to_server(SecretService(feed.views, WorkloadSecrets), server)
    server.add_insecure_port(f"unix:{folder / 's'}")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder / 's'}") as channel:
        try:
            async with asyncio.timeout(20):
                yield feed, SecretDiscoveryServiceStub(channel)
        finally:
            await server.stop(None)


def run(folder: Path, story: Callable[[Feed, Stub], Awaitable[None]]) -> None:
    """Tell a story over a connection of its own."""

    async def told() -> None:
        async with serving(folder) as (feed, stub):
            await story(feed, stub)

    asyncio.run(told())


def test_a_renewed_certificate_is_pushed(tmp_path: Path) -> None:
    """By both forms, and nothing else is sent."""

    async def story(feed: Feed, stub: Stub) -> None:
        world, delta = stub.StreamSecrets(), stub.DeltaSecrets()
        await world.write(ask(WEB))
        await delta.write(DeltaDiscoveryRequest(resource_names_subscribe=[WEB]))
        first, second = await world.read(), await delta.read()
        await world.write(ask(WEB, nonce=first.nonce))
        feed.change(WorkloadSvids((svid(WEB, 2),), BUNDLES))
        for call, before in ((world, first), (delta, second)):
            reply = await call.read()
            chain = unpacked(reply)[WEB].tls_certificate.certificate_chain
            assert chain != unpacked(before)[WEB].tls_certificate.certificate_chain
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF

    run(tmp_path, story)


def test_a_name_that_is_not_there_ends_the_stream_with_the_reason(tmp_path: Path) -> None:
    """Envoy logs it, and asks again."""

    async def story(_feed: Feed, stub: Stub) -> None:
        call = stub.StreamSecrets()
        await call.write(ask("spiffe://td.example/nobody"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert WEB in (caught.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.FetchSecrets(ask("nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    run(tmp_path, story)


def test_a_stream_goes_on_where_something_that_it_asks_for_is_there(tmp_path: Path) -> None:
    """The rest comes when it is there, and nobody loses what he has for it."""

    async def story(feed: Feed, stub: Stub) -> None:
        world, by_delta = stub.StreamSecrets(), stub.DeltaSecrets()
        await world.write(ask(WEB, API))
        await by_delta.write(DeltaDiscoveryRequest(resource_names_subscribe=[WEB, API]))
        for call in (world, by_delta):
            assert unpacked(await call.read()).keys() == {WEB}
        feed.change(WorkloadSvids((svid(WEB), svid(API)), BUNDLES))
        assert unpacked(await world.read()).keys() == {WEB, API}
        assert unpacked(await by_delta.read()).keys() == {API}

    run(tmp_path, story)


def test_a_fetch_gives_what_a_stream_gives(tmp_path: Path) -> None:
    """For clients without streams."""

    async def story(_feed: Feed, stub: Stub) -> None:
        reply = await stub.FetchSecrets(DiscoveryRequest(resource_names=[WEB]))
        assert unpacked(reply).keys() == {WEB}

    run(tmp_path, story)


@pytest.mark.parametrize("form", ["world", "delta"])
def test_how_a_client_wants_bundles_holds_for_its_stream(tmp_path: Path, form: str) -> None:
    """Only the first request need say who it is; later answers and changes are as it asked."""

    async def story(feed: Feed, stub: Stub) -> None:
        call = stub.StreamSecrets() if form == "world" else stub.DeltaSecrets()

        async def write(*names: str, nonce: str = "") -> None:
            request = (
                ask(*names, nonce=nonce)
                if form == "world"
                else DeltaDiscoveryRequest(resource_names_subscribe=names)
            )
            if not nonce:
                request.node.metadata["spiffe_cert_validation"] = True
            await call.write(request)

        async def read() -> str:
            reply = await call.read()
            context = unpacked(reply)[ROOT].validation_context
            assert context.custom_validator_config.name == "envoy.tls.cert_validator.spiffe"
            return str(reply.nonce)

        await write(ROOT)
        nonce = await read()
        await write(ROOT, WEB, nonce=nonce)
        nonce = await read()
        feed.change(WorkloadSvids((svid(WEB),), (replace(BUNDLES[0], x509_authorities=(b"new",)),)))
        await read()

    run(tmp_path, story)


def test_a_stream_ends_with_its_view(tmp_path: Path) -> None:
    """The client asks somebody else, or again."""

    async def story(feed: Feed, stub: Stub) -> None:
        call = stub.StreamSecrets()
        await call.write(ask(WEB))
        await call.read()
        feed.end()
        assert await call.read() is grpc.aio.EOF
        assert await stub.StreamSecrets().read() is grpc.aio.EOF
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.FetchSecrets(ask(WEB))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    run(tmp_path, story)


def test_nonsense_is_the_clients_fault(tmp_path: Path) -> None:
    """Another type; too many names."""

    async def story(_feed: Feed, stub: Stub) -> None:
        call = stub.StreamSecrets()
        await call.write(DiscoveryRequest(type_url="x"))
        for asking in (call.read(), stub.FetchSecrets(DiscoveryRequest(type_url="x"))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asking
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(tmp_path, story)


def test_a_client_that_goes_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled in the middle, a hundred times."""

    async def story(feed: Feed, stub: Stub) -> None:
        for _ in range(100):
            call = stub.StreamSecrets()
            await call.write(ask(WEB))
            await call.read()
            call.cancel()
        while feed.readers:
            await asyncio.sleep(0.01)

    run(tmp_path, story)


def test_who_does_not_read_gets_the_newest_in_the_end(tmp_path: Path) -> None:
    """Nothing queues up for a slow reader: of a thousand changes it sees few."""

    async def story(feed: Feed, stub: Stub) -> None:
        call = stub.StreamSecrets()
        await call.write(ask(WEB))
        await call.read()
        filler = b"x" * 100_000
        last = b""
        for issue in range(1000):
            made = svid(WEB, issue)
            last = made.chain[0] + filler
            claim = type(made)(made.claim, (last,), made.key, 0, 0)
            feed.change(WorkloadSvids((claim,), BUNDLES))
            await asyncio.sleep(0)
        seen, newest = 0, b""
        wanted = _pem_of(last)
        while newest != wanted:
            reply = await call.read()
            newest = unpacked(reply)[WEB].tls_certificate.certificate_chain.inline_bytes
            seen += 1
        assert seen < 500

    run(tmp_path, story)


def _pem_of(der: bytes) -> bytes:
    body = base64.b64encode(der).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()
