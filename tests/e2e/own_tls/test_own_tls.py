"""The public port with an SVID of the service's own: verified, renewed, there without control."""

import base64
import http.client
import os
import re
import signal
import socket
import sqlite3
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca.keys import KeyType, generate
from ca.verify import spiffe_id_of
from meshwarden import clock
from meshwarden.pem import certificates_pem
from protos.envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from protos.envoy.service.secret.v3.sds_pb2_grpc import SecretDiscoveryServiceStub
from protos.meshwarden.v1 import identity_pb2, identity_pb2_grpc
from tests.e2e.support.instance import Instance, Place
from tests.unit.ca.makings import certificate

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


@contextmanager
def connected(place: Place, context: ssl.SSLContext) -> Iterator[tuple[ssl.SSLSocket, bytes]]:
    """A connection to the port, and the certificate that it shows."""
    with (
        socket.create_connection(("127.0.0.1", place.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="mesh.example") as connection,
    ):
        found = connection.getpeercert(binary_form=True)
        assert found is not None
        yield connection, found


def verifying(place: Place) -> ssl.SSLContext:
    """Verifies by name and by the bundle."""
    return ssl.create_default_context(cadata=roots(place))


def leaf(place: Place) -> bytes:
    """The certificate that the port shows, verified."""
    with connected(place, verifying(place)) as (_, found):
        return found


def answering(place: Place, context: ssl.SSLContext) -> bytes:
    """The certificate that the port shows to whom it answers a request, over HTTP/1.1."""
    with connected(place, context) as (connection, found):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: mesh.example\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        return found


def config_of(place: Place, name: str = "front-0") -> str:
    """What the newest process of a front was told."""
    files = place.run_dir.glob(f"{name}.*.json")
    return max(files, key=lambda file: int(file.name.split(".")[1])).read_text()


def is_by_stream(place: Place) -> bool:
    """Whether a front has its certificate from control, and looks at no file."""
    config = config_of(place)
    return "api_config_source" in config and ".secret.json" not in config


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


def gives_secrets(target: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    """Whether whoever comes there gets the port's key."""
    options = (("grpc.default_authority", "localhost"),)
    channel = (
        grpc.secure_channel(target, credentials)
        if credentials
        else grpc.insecure_channel(target, options=options)
    )
    with channel:
        try:
            reply = SecretDiscoveryServiceStub(channel).FetchSecrets(
                DiscoveryRequest(resource_names=["server"]), timeout=10
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise
        return b"PRIVATE KEY" in reply.SerializeToString()


@pytest.mark.parametrize("transport", ["auto", "grpcio"])
def test_the_key_is_given_on_no_socket_but_that_of_the_fronts(
    new_folder: Callable[[], Path], transport: str
) -> None:
    """Not on the public port, nor on those behind it, an embedded agent's or the owner's."""
    more = {"server.transport": transport, "server.embedded_agent": True, "admin.remote": True}
    with running(new_folder(), **more) as (place, instance):
        credentials = grpc.ssl_channel_credentials(roots(place).encode())
        assert not gives_secrets(f"localhost:{place.port}", credentials)
        for name in ("public", "agents", "admin"):
            assert not gives_secrets(f"unix:{place.run_dir / name}.sock")
        assert gives_secrets(f"unix:{place.run_dir / 'internal.sock'}")
        for path in (place.run_dir, place.run_dir / "internal.sock"):
            assert path.stat().st_mode & 0o077 == 0
        assert "PRIVATE KEY" not in instance.said()


def test_clients_verify_the_host_and_are_known_by_their_svids(
    new_folder: Callable[[], Path],
) -> None:
    """By names of the settings, by the address, and without a certificate too."""
    with running(new_folder()) as (place, instance):
        shown = leaf(place)
        assert str(spiffe_id_of(shown)) == "spiffe://td.example/meshwarden/server"
        extensions = x509.load_der_x509_certificate(shown).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {*names.get_values_for_type(x509.DNSName)} == {"mesh.example", "localhost"}
        addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
        assert addresses == {"192.0.2.7", "127.0.0.1"}
        reply = whoami(place, new_folder())
        assert (reply.spiffe_id, reply.tls) == ("spiffe://td.example/ns/shop/sa/web", True)
        credentials = grpc.ssl_channel_credentials(roots(place).encode())
        with grpc.secure_channel(f"127.0.0.1:{place.port}", credentials) as channel:
            nobody = identity_pb2_grpc.IdentityStub(channel).WhoAmI(identity_pb2.WhoAmIRequest())
        assert (nobody.spiffe_id, nobody.tls) == ("", True)
        assert instance.said().count("PRIVATE KEY") == 0
        # An Envoy that crashes has the key in its memory.
        limits = Path(f"/proc/{instance.front()}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
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
def test_renewals_come_by_a_stream_and_no_handshake_fails(new_folder: Callable[[], Path]) -> None:
    """No file is read, and the next renewal puts right what is kept; the key is shown nowhere."""
    with running(new_folder(), **{"server.fronts": 2}) as (place, instance):
        assert is_by_stream(place)
        fronts = instance.pids("front")
        kept = place.run_dir / "server.secret.json"
        key = base64.b64encode(b"-----BEGIN PRIVATE KEY-----").decode()
        context = verifying(place)
        seen = {answering(place, context)}
        kept.write_text("nonsense")
        (place.run_dir / "clients.secret.json").unlink()
        # A handshake that fails, or a request, ends the test.
        instance.wait_for(lambda: seen.add(answering(place, context)) or len(seen) > 2, 4 * TTL_S)
        assert key in kept.read_text()
        assert kept.stat().st_mode & 0o777 == 0o600
        assert instance.pids("front") == fronts
        for text in (dumped(place), config_of(place), instance.said()):
            assert key not in text
            assert "PRIVATE KEY" not in text


def dumped(place: Place) -> str:
    """What a front's Envoy shows its owner of its configuration."""
    (admin,) = place.run_dir.glob("front-0.*.sock")
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(admin))
    connection.request("GET", "/config_dump")
    text = connection.getresponse().read().decode()
    connection.close()
    assert "SecretsConfigDump" in text
    return text


@pytest.mark.timeout(180)
def test_renewals_go_on_when_control_was_killed(new_folder: Callable[[], Path]) -> None:
    """The front keeps what it has; control is back with a newer one, and renews that too."""
    with running(new_folder(), **{"identity.x509_ttl_s": 30}) as (place, instance):
        context = verifying(place)
        front, control = instance.front(), instance.control
        seen = {answering(place, context)}
        os.kill(control, signal.SIGKILL)
        instance.wait_for(lambda: seen.add(answering(place, context)) or len(seen) > 2, 60)
        assert instance.control != control
        assert instance.front() == front
        assert is_by_stream(place)


@pytest.mark.timeout(180)
def test_a_service_that_starts_again_in_its_place_asks_control_again(
    new_folder: Callable[[], Path],
) -> None:
    """What an earlier run has kept is for a front that starts without control."""
    with running(new_folder()) as (place, instance):
        first = leaf(place)
        instance.send_signal(signal.SIGTERM)
        assert instance.ended() == 0
        assert (place.run_dir / "server.secret.json").exists()
        with place.start() as again:
            again.wait_ready()
            assert is_by_stream(place)
            assert leaf(place) != first


@pytest.mark.timeout(180)
def test_a_front_that_starts_without_control_serves_by_the_kept_one(
    new_folder: Callable[[], Path],
) -> None:
    """At once; it is renewed when control is back, and its heir gets its own by a stream again."""
    with running(new_folder()) as (place, instance):
        control, front = instance.control, instance.front()
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # While nobody renews it, it may expire.
        os.kill(control, signal.SIGSTOP)
        try:
            before = answering(place, context)
            os.kill(front, signal.SIGKILL)

            def serves_again() -> bool:
                try:
                    return instance.front() != front and answering(place, context) == before
                except (KeyError, OSError):
                    return False

            instance.wait_for(serves_again, 20)
            assert not is_by_stream(place)
        finally:
            os.kill(control, signal.SIGCONT)
        seen = {before}
        instance.wait_for(lambda: seen.add(answering(place, context)) or len(seen) > 2, 4 * TTL_S)
        assert not is_by_stream(place)
        said = place.command("restart", "fronts")
        assert said.returncode == 0, said.stderr
        assert is_by_stream(place)
        instance.wait_for(lambda: seen.add(answering(place, context)) or len(seen) > 3, 4 * TTL_S)


@pytest.mark.timeout(180)
def test_that_it_has_expired_is_seen(new_folder: Callable[[], Path]) -> None:
    """The ledger can't be written, so nothing is issued: the gauge, the log and health say so, the
    port goes on, and a renewal puts all of them right within seconds of the ledger's return.
    """
    with running(new_folder(), **{"identity.x509_ttl_s": 10}) as (place, instance):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

        def asked(path: str) -> tuple[int, str]:
            with connected(place, context) as (connection, _):
                line = f"GET {path} HTTP/1.1\r\nhost: mesh.example\r\nconnection: close\r\n\r\n"
                connection.sendall(line.encode())
                text = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
            return int(text.split()[1]), text

        def has_expired() -> bool:
            name = "meshwarden_certificate_not_after_timestamp_seconds"
            found = re.search(rf'{name}{{kind="serving"}} (\S+)', asked("/metrics")[1])
            assert found is not None
            return float(found[1]) * 1e9 <= clock.now_ns()

        assert asked("/readyz")[0] == 200
        with sqlite3.connect(place.state_dir / "meshwarden.db", isolation_level=None) as database:
            database.execute("BEGIN EXCLUSIVE")
            instance.wait_for(lambda: asked("/readyz")[0] == 503, 60)
            assert "the certificate of the public port has expired" in asked("/readyz")[1]
            assert has_expired()
            database.execute("ROLLBACK")
        instance.wait_for(lambda: asked("/readyz")[0] == 200, 30)
        assert not has_expired()
        assert "the certificate of the public port has expired" in instance.said()


@pytest.mark.parametrize("transport", ["front", "grpcio"])
def test_that_one_of_files_has_expired_is_seen_too(
    new_folder: Callable[[], Path], transport: str
) -> None:
    """Where nothing is issued here, so that nothing renews it; decisions go on."""
    folder = new_folder()
    end_ns = clock.now_ns() + 25 * 10**9
    signed_until(folder, end_ns)
    own = {
        "listen.tls.certificate": str(folder / "server.pem"),
        "listen.tls.key": str(folder / "server.key"),
        "server.transport": transport,
    }
    place = Place(new_folder(), POLICY, own)
    with place.start() as instance:
        instance.wait_ready()
        # Whoever serves by it has its key.
        serving = instance.control if transport == "grpcio" else instance.front()
        limits = Path(f"/proc/{serving}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
        name = "meshwarden_certificate_not_after_timestamp_seconds"
        instance.wait_for(lambda: not instance.status()["ready"], 60)
        assert clock.now_ns() >= end_ns
        assert f"{folder / 'server.pem'}, has expired" in instance.said()
        files = b"".join(each.read_bytes() for each in (place.run_dir / "metrics").iterdir())
        assert name.encode() in files


def test_who_starts_with_what_has_expired_has_started(new_folder: Callable[[], Path]) -> None:
    """As systemd is told: else it would end, again and again, what decides and may be believed."""
    folder = new_folder()
    signed_until(folder, clock.now_ns() - 10**9)
    own = {
        "listen.tls.certificate": str(folder / "server.pem"),
        "listen.tls.key": str(folder / "server.key"),
    }
    place = Place(new_folder(), POLICY, own)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(40)
        with place.start(environ={"NOTIFY_SOCKET": str(folder / "notify")}) as instance:
            assert systemd.recv(100) == b"READY=1"
            assert not instance.status()["ready"]
            assert "it serves, and is not ready" in instance.said()


def signed_until(folder: Path, end_ns: int) -> None:
    """Write a serving certificate of one's own making, and its key."""
    key = generate(KeyType.EC_P256)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mesh.example")])
    times = {"begin_ns": end_ns - 3600 * 10**9, "end_ns": end_ns}
    made = certificate(key, name, key, [], subject=name, **times)
    (folder / "server.pem").write_text(certificates_pem([made]))
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*plain))
    (folder / "server.key").chmod(0o600)


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
