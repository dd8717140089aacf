"""The public port with an SVID of the service's own: verified, renewed, there without control."""

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from ca.verify import spiffe_id_of
from protos.meshwarden.v1 import identity_pb2, identity_pb2_grpc
from tests.e2e.support.instance import Instance, Place

OWN = {
    "listen.tls.svid": True,
    "identity.trust_domain": "td.example",
    "server.names": ["mesh.example", "192.0.2.7"],
}
POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}
TTL_S = 20


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[tuple[Place, Instance]]:
    """A service that serves with its own SVID, of a short life."""
    place = Place(
        folder,
        POLICY,
        {
            **OWN,
            "identity.key_file": str(folder / "sealing.key"),
            "identity.x509_ttl_s": TTL_S,
            **settings,
        },
    )
    with place.start() as instance:
        yield place, instance.wait_ready()


def roots(place: Place) -> str:
    """The bundle, as its operator shows it."""
    said = place.command("bundle", "show")
    assert said.returncode == 0, said.stderr
    return said.stdout


def leaf(place: Place) -> bytes:
    """The certificate that the port shows, verified by name and by the bundle."""
    context = ssl.create_default_context(cadata=roots(place))
    with (
        socket.create_connection(("127.0.0.1", place.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="mesh.example") as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found


def whoami(place: Place, folder: Path) -> identity_pb2.WhoAmIReply:
    """Ask who the holder of a minted SVID is."""
    minted = place.command(
        "x509", "mint", "spiffe://td.example/ns/shop/sa/web", "--to", str(folder)
    )
    assert minted.returncode == 0, minted.stderr
    bundle, key, chain = (
        (folder / name).read_bytes() for name in ("bundle.pem", "svid.key", "svid.pem")
    )
    credentials = grpc.ssl_channel_credentials(bundle, key, chain)
    with grpc.secure_channel(f"localhost:{place.port}", credentials) as channel:
        stub = identity_pb2_grpc.IdentityStub(channel)
        return stub.WhoAmI(identity_pb2.WhoAmIRequest(), timeout=10)


def test_clients_verify_the_host_and_are_known_by_their_svids(
    new_folder: Callable[[], Path],
) -> None:
    """By names of the settings, by the address, and without a certificate too."""
    with running(new_folder()) as (place, instance):
        assert str(spiffe_id_of(leaf(place))) == "spiffe://td.example/meshwarden/server"
        reply = whoami(place, new_folder())
        assert (reply.spiffe_id, reply.tls) == ("spiffe://td.example/ns/shop/sa/web", True)
        credentials = grpc.ssl_channel_credentials(roots(place).encode())
        with grpc.secure_channel(f"127.0.0.1:{place.port}", credentials) as channel:
            nobody = identity_pb2_grpc.IdentityStub(channel).WhoAmI(identity_pb2.WhoAmIRequest())
        assert (nobody.spiffe_id, nobody.tls) == ("", True)
        assert instance.said().count("PRIVATE KEY") == 0
        for file in place.run_dir.glob("*.secret.json"):
            assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(180)
def test_it_is_renewed_while_connections_go_on(new_folder: Callable[[], Path]) -> None:
    """New handshakes get the new one; a connection from before is not cut."""
    with running(new_folder()) as (place, instance):
        credentials = grpc.ssl_channel_credentials(roots(place).encode())
        with grpc.secure_channel(f"127.0.0.1:{place.port}", credentials) as channel:
            stub = identity_pb2_grpc.IdentityStub(channel)
            stub.WhoAmI(identity_pb2.WhoAmIRequest())
            front, first = instance.front(), leaf(place)
            seen = {first}
            instance.wait_for(lambda: seen.add(leaf(place)) or len(seen) > 2, 4 * TTL_S)
            stub.WhoAmI(identity_pb2.WhoAmIRequest())
        assert instance.front() == front


@pytest.mark.timeout(180)
def test_a_front_that_starts_without_control_serves_by_the_kept_one(
    new_folder: Callable[[], Path],
) -> None:
    """At once: it needs nobody's answer to open its port with a certificate."""
    with running(new_folder(), **{"identity.x509_ttl_s": 600}) as (place, instance):
        before = leaf(place)
        control, front = instance.control, instance.front()
        os.kill(control, signal.SIGSTOP)
        try:
            os.kill(front, signal.SIGKILL)

            def serves_again() -> bool:
                try:
                    return instance.front() != front and leaf_of(place, before)
                except (KeyError, OSError):
                    return False

            instance.wait_for(serves_again, 20)
        finally:
            os.kill(control, signal.SIGCONT)


def leaf_of(place: Place, certificate: bytes) -> bool:
    """Whether the port shows that certificate; asks nobody but the port."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", place.port), timeout=5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) == certificate


def test_grpcio_serves_it_too(new_folder: Callable[[], Path]) -> None:
    """Where fronts can't run, each handshake gets the newest certificate."""
    with running(new_folder(), **{"server.transport": "grpcio"}) as (place, instance):
        first = leaf(place)
        instance.wait_for(lambda: leaf(place) != first, 2 * TTL_S)


def test_an_svid_administrates_from_elsewhere(new_folder: Callable[[], Path]) -> None:
    """Its holder is who the admin policy speaks of; the host is verified, no token is needed."""
    with running(new_folder(), **{"admin.remote": True}) as (place, _):
        kept = new_folder()
        identity = "spiffe://td.example/ns/ops/sa/ann"
        assert place.command("x509", "mint", identity, "--to", str(kept)).returncode == 0
        elsewhere = (
            *("status", "--server", f"localhost:{place.port}"),
            *("--server-ca", str(kept / "bundle.pem")),
            *("--client-cert", str(kept / "svid.pem"), "--client-key", str(kept / "svid.key")),
        )
        refused = place.command(*elsewhere)
        assert refused.returncode != 0
        assert "td.example/ns/ops/sa/ann" in refused.stderr
        granted = place.command("admin", "grant", "td.example/ns/ops/sa/ann", "viewer")
        assert granted.returncode == 0, granted.stderr
        told = place.command(*elsewhere)
        assert told.returncode == 0, told.stderr
        assert "ready" in told.stdout
