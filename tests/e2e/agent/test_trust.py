"""A join token goes to nobody who doesn't prove that he is the server; and what starts refuse."""

import contextlib
import datetime as dt
import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typing_extensions import override

from deploy.demo.certificates import Authority
from protos.meshwarden.v1 import agent_pb2, agent_pb2_grpc
from tests.e2e.support.agent import SETTINGS, AgentPlace, create_entry, new_token, served
from tests.e2e.support.certificates import CarelessAuthority
from tests.e2e.support.instance import COMMAND, Place

TOLD_S = 20.0


class Impostor(agent_pb2_grpc.AttestationServicer):
    """Somebody else at the server's address.

    Attributes:
        bundle: What he says the trust domain's bundle is.
        heard: Evidence that he got.
        asked: How often he was asked for the bundle.
    """

    def __init__(self, bundle: agent_pb2.Bundle) -> None:
        self.bundle = bundle
        self.heard: list[Any] = []
        self.asked = 0

    @override
    def GetBundle(self, request: Any, context: Any) -> agent_pb2.Bundle:
        del request, context
        self.asked += 1
        return self.bundle

    @override
    def Attest(self, request: Any, context: Any) -> Iterator[Any]:
        del context
        self.heard.extend(request)
        yield from ()


@contextmanager
def impostor(folder: Path, bundle: agent_pb2.Bundle | None) -> Iterator[tuple[Impostor, int, Path]]:
    """Serve as an impostor with an authority of his own; give him, his port and his authority."""
    authority = Authority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - certificates have dates
    credential = authority.issue("fake", "spiffe://td.example/meshwarden/server")
    root = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    own = agent_pb2.Bundle(
        trust_domain="td.example", x509_authorities=[root.public_bytes(Encoding.DER)]
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    taken = Impostor(bundle or own)
    agent_pb2_grpc.add_AttestationServicer_to_server(taken, server)
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(credential.key.read_bytes(), credential.certificate.read_bytes())]
        ),
    )
    server.start()
    try:
        yield taken, port, authority.certificate
    finally:
        server.stop(0).wait()


def real_bundle(place: Place) -> agent_pb2.Bundle:
    """Give the bundle as anybody can get it."""
    said = place.command("bundle", "show")
    roots = x509.load_pem_x509_certificates(said.stdout.encode())
    return agent_pb2.Bundle(
        trust_domain="td.example",
        x509_authorities=[each.public_bytes(Encoding.DER) for each in roots],
    )


@pytest.mark.parametrize("pretends", ["own bundle", "real bundle"])
def test_an_impostor_never_sees_the_token(
    new_folder: Callable[[], Path], place: Place, pretends: str
) -> None:
    """Whether he shows a bundle of his own or the public one, which he has no key of."""
    token = new_token(place)
    bundle = real_bundle(place) if pretends == "real bundle" else None
    with impostor(new_folder(), bundle) as (taken, port, _):
        where = AgentPlace(new_folder(), f"127.0.0.1:{port}")
        with where.with_token(token) as agent, contextlib.suppress(Exception):
            _until(lambda: "is not reached" in agent.said())
        told = agent.said()
    assert taken.asked >= 1
    assert taken.heard == []
    assert ("was not sent" if bundle is None else "certificate is not good") in told
    assert token.split(".")[1] not in told


def test_with_a_trust_bundle_an_impostor_gets_no_byte(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """The handshake fails on our side, before any request."""
    bundle = new_folder() / "bundle.pem"
    bundle.write_text(place.command("bundle", "show").stdout)
    authority = Authority(new_folder(), dt.datetime.now(dt.UTC))  # noqa: TID251 - likewise
    credential = authority.issue("fake", "spiffe://td.example/meshwarden/server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credential.certificate, credential.key)
    heard, tries = bytearray(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    plain, _ = listener.accept()
                    tries.append(1)
                    with plain, context.wrap_socket(plain, server_side=True) as connection:
                        heard.extend(connection.recv(65_536))

        serving = threading.Thread(target=serve)
        serving.start()
        where = AgentPlace(new_folder(), f"127.0.0.1:{listener.getsockname()[1]}")
        with where.with_token(new_token(place), "--trust-bundle", str(bundle)) as agent:
            _until(lambda: "is not reached" in agent.said())
        stop.set()
        serving.join()
    assert tries
    assert not heard


def test_a_workload_is_no_server_whatever_its_names(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """An SVID of the trust domain, with the very address as a name, is refused by its SPIFFE ID."""
    folder = new_folder()
    minted = place.command(
        "x509", "mint", "spiffe://td.example/ns/x/sa/y", "--dns", "127.0.0.1", "--to", str(folder)
    )
    assert minted.returncode == 0, minted.stderr
    server = grpc.server(futures.ThreadPoolExecutor(4))
    taken = Impostor(real_bundle(place))
    agent_pb2_grpc.add_AttestationServicer_to_server(taken, server)
    pair = ((folder / "svid.key").read_bytes(), (folder / "svid.pem").read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        where = AgentPlace(new_folder(), f"127.0.0.1:{port}")
        with where.with_token(new_token(place)) as agent:
            _until(lambda: "is not reached" in agent.said())
        assert "it is no server but spiffe://td.example/ns/x/sa/y" in agent.said()
    finally:
        server.stop(0).wait()
    assert taken.heard == []


def test_a_servers_own_certificate_without_spiffe_id_is_known_by_its_name(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """Of an operator's own authority, in the trust bundle: the host name is compared then."""
    del place
    folder = new_folder()
    authority = CarelessAuthority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - likewise
    server = authority.issue_odd("server", [], ["localhost"])
    settings = {
        **SETTINGS,
        "listen.tls.svid": False,
        "listen.tls.certificate": str(server.certificate),
        "listen.tls.key": str(server.key),
        "identity.key_file": str(folder / "sealing.key"),
    }
    own = Place(new_folder(), {"policy.csv": "p, *, *, *, /**, allow\n"}, settings)
    with own.start() as instance:
        instance.wait_ready()
        trust = ("--trust-bundle", str(authority.certificate))
        where = AgentPlace(new_folder(), f"localhost:{own.port}")
        with where.with_token(new_token(own), *trust) as agent:
            _until(lambda: "attested by" in agent.said())
        other = AgentPlace(new_folder(), f"127.0.0.1:{own.port}")
        with other.with_token(new_token(own), *trust) as agent:
            _until(lambda: "is not reached" in agent.said())
            assert "attested by" not in agent.said()


def test_nothing_is_believed_without_being_asked_to(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """A token without a hash and no bundle: refused; with --insecure-bootstrap: done and warned."""
    bare = ".".join(new_token(place).split(".")[:2])
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    with where.with_token(bare) as agent:
        assert agent.ended() == 2  # Nothing would come of waiting.
        assert "give --trust-bundle" in agent.said()
    with where.with_token(bare, "--insecure-bootstrap") as agent:
        agent.wait_ready()
        (warning,) = [line for line in agent.said().splitlines() if "INSECURE" in line]
        digest = place.command("bundle", "show", "--format", "sha256").stdout.strip()
        assert "WARNING agent INSECURE" in warning
        assert warning.endswith(f"'meshwarden bundle show --format sha256' says there: {digest}")


def test_a_token_is_good_once_and_a_start_without_any_says_so(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """The second agent ends with 2 and the reason; nothing of the token is said."""
    token = new_token(place)
    first, second = (AgentPlace(new_folder(), f"127.0.0.1:{place.port}") for _ in "ab")
    with first.with_token(token) as agent:
        agent.wait_ready()
    with second.with_token(token) as agent:
        assert agent.ended() == 2
    assert "the server does not" in agent.said() or "join_token: PERMISSION_DENIED" in agent.said()
    assert token.split(".")[1] not in agent.said()
    with second.start() as agent:
        assert agent.ended() == 2
    assert "there is no join token: make one by 'meshwarden token create'" in agent.said()


@pytest.mark.parametrize("way", ["--join-token", "file", "-"])
def test_a_token_may_come_in_three_ways(
    new_folder: Callable[[], Path], place: Place, way: str
) -> None:
    """On the command line, in a file, on standard input: only the first shows it to others."""
    token = new_token(place)
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    match way:
        case "file":
            made = where.with_token(token)
        case "-":
            made = where.told_token(token)
        case _:
            made = where.start("--join-token", token)
    with made as agent:
        agent.wait_ready()
        shown = Path(f"/proc/{agent.pid}/cmdline").read_text()
    assert (token in shown) is (way == "--join-token")
    assert token.split(".")[1] not in agent.said()
    assert "PRIVATE KEY" not in agent.said()


def test_a_token_that_others_can_read_is_refused(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """The start fails and says what to do; afterwards the very same token is good."""
    token = new_token(place)
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    file = where.folder / "token"
    file.write_text(token)
    file.chmod(0o640)
    with where.start("--join-token-file", str(file)) as agent:
        assert agent.ended() == 2
    assert f"{file} has mode 0640, which is open to others: 'chmod 600' it" in agent.said()
    assert token.split(".")[1] not in agent.said()
    with where.with_token(token) as agent:
        agent.wait_ready()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("folder", "is there, and is no socket"),
        ("file", "is there, and is no socket"),
        ("long", "longer than the 107 bytes"),
        ("taken", "another process serves"),
        ("parent", "is no folder"),
        ("forbidden", "agent.socket: /sys/x.sock: "),
    ],
)
def test_a_socket_that_can_not_be_made_fails_the_start(
    new_folder: Callable[[], Path], fault: str, message: str
) -> None:
    """Promise 18: loudly, with exit code 2, the path and the setting."""
    folder = new_folder()
    path = folder / "x.sock"
    with contextlib.ExitStack() as held:
        match fault:
            case "folder":
                path.mkdir()
            case "file":
                path.write_text("somebody's")
            case "long":
                path = folder / ("x" * 100)
            case "taken":
                other = held.enter_context(socket.socket(socket.AF_UNIX))
                other.bind(os.fspath(path))
                other.listen()
            case "forbidden":  # Even to root.
                path = Path("/sys/x.sock")
            case _:
                (folder / "plain").write_text("")
                path = folder / "plain" / "x.sock"
        where = AgentPlace(new_folder(), "127.0.0.1:1")
        with where.start("--socket", str(path)) as agent:
            assert agent.ended() == 2
    assert message in agent.said()
    assert "agent." in agent.said()
    if fault == "file":
        assert path.read_text() == "somebody's"


def test_a_folder_in_which_others_could_put_a_socket_is_told(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """Whoever connects to theirs gets their identities; a sticky folder lets nobody do so."""
    for mode, is_told in ((0o777, True), (0o1777, False), (0o755, False)):
        where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
        (where.folder / "run").mkdir(parents=True)
        (where.folder / "run").chmod(mode)
        with where.with_token(new_token(place)) as agent:
            agent.wait_ready()
        assert ("every user can put a socket of his own" in agent.said()) is is_told


def test_a_second_start_takes_nothing_from_the_agent_that_runs(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """By mistake, in the same folders: it is refused, and the first one's status is still told."""
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    with where.with_token(new_token(place)) as agent:
        before = agent.wait_ready().status()
        again = subprocess.run(
            [*COMMAND, "agent", "--server", where.server, "--state-dir", where.folder / "state",
             "--runtime-dir", where.folder / "run"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert again.returncode == 2
        assert "another Meshwarden instance uses" in again.stderr
        assert agent.status()["pid"] == before["pid"]


def test_a_node_with_a_certificate_of_its_own_needs_no_token(
    new_folder: Callable[[], Path],
) -> None:
    """x509pop: by the node's key, as often as it likes."""
    folder = new_folder()
    authority = Authority(folder, dt.datetime.now(dt.UTC))  # noqa: TID251 - likewise
    node = authority.issue("node", "spiffe://nodes.example/n1")
    settings = {
        **SETTINGS,
        "identity.key_file": str(folder / "sealing.key"),
        "identity.nodes.attestors": ["x509pop"],
        "identity.nodes.x509pop.ca": str(authority.certificate),
    }
    own = Place(new_folder(), {"policy.csv": "p, *, *, *, /**, allow\n"}, settings)
    with own.start() as instance:
        instance.wait_ready()
        bundle = folder / "bundle.pem"
        bundle.write_text(own.command("bundle", "show").stdout)
        where = AgentPlace(new_folder(), f"127.0.0.1:{own.port}")
        environ = {
            "MESHWARDEN_AGENT__X509POP_CERTIFICATE": str(node.certificate),
            "MESHWARDEN_AGENT__X509POP_KEY": str(node.key),
        }
        options = ("--attestor", "x509pop", "--trust-bundle", str(bundle))
        with where.start(*options, environ=environ) as agent:
            agent.wait_ready()
            create_entry(own, agent.agent_id, "web", f"unix:uid:{os.getuid()}")
            assert "/meshwarden/agent/x509pop/" in agent.agent_id
            assert served(where.socket).svids[0].spiffe_id == "spiffe://td.example/web"


def test_an_agent_of_a_cluster_attests_by_its_service_account(
    new_folder: Callable[[], Path],
) -> None:
    """k8s_psat, with tokens of a local issuer in place of a cluster; read anew when renewed."""
    folder = new_folder()
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**jwk, "kid": "k", "alg": "ES256"}]}))
    claims = {
        "aud": ["meshwarden"],
        "sub": "system:serviceaccount:mesh:agent",
        "exp": 4_000_000_000,
        "kubernetes.io": {
            "namespace": "mesh",
            "serviceaccount": {"name": "agent"},
            "node": {"name": "n1", "uid": "0b1c"},
            "pod": {"name": "agent-x", "uid": "7d"},
        },
    }
    (folder / "psat").write_text(jwt.encode(claims, key, "ES256", {"kid": "k"}))
    settings = {
        **SETTINGS,
        "identity.key_file": str(folder / "sealing.key"),
        "identity.nodes.attestors": ["k8s_psat"],
        "identity.nodes.k8s_psat.jwks": str(folder / "jwks.json"),
        "identity.nodes.k8s_psat.service_accounts": ["mesh:agent"],
    }
    own = Place(new_folder(), {"policy.csv": "p, *, *, *, /**, allow\n"}, settings)
    with own.start() as instance:
        instance.wait_ready()
        bundle = folder / "bundle.pem"
        bundle.write_text(own.command("bundle", "show").stdout)
        where = AgentPlace(new_folder(), f"127.0.0.1:{own.port}")
        environ = {"MESHWARDEN_AGENT__K8S_PSAT_TOKEN": str(folder / "psat")}
        options = ("--attestor", "k8s_psat", "--trust-bundle", str(bundle))
        with where.start(*options, environ=environ) as agent:
            agent.wait_ready()
            assert agent.agent_id.endswith("/meshwarden/agent/k8s_psat/kubernetes/0b1c")


def test_an_evicted_agent_comes_back_by_a_new_token(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """Its workloads keep what they have meanwhile; only the token's file is replaced."""
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    with where.with_token(new_token(place)) as agent:
        agent.wait_ready()
        first = agent.agent_id
        create_entry(place, first, "web", f"unix:uid:{os.getuid()}")
        before = served(where.socket).svids[0].x509_svid
        assert place.command("agent", "evict", first, "--yes").returncode == 0
        _until(lambda: not agent.status()["connected"])
        assert served(where.socket).svids[0].x509_svid == before
        (where.folder / "token").write_text(new_token(place))
        agent.wait_ready()
        assert agent.agent_id != first


def test_an_agents_memory_goes_into_no_core_dump(
    new_folder: Callable[[], Path], place: Place
) -> None:
    """Nor can it be asked for one: the limit is zero, soft and hard."""
    where = AgentPlace(new_folder(), f"127.0.0.1:{place.port}")
    with where.with_token(new_token(place)) as agent:
        agent.wait_ready()
        limits = Path(f"/proc/{agent.pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]


def _until(condition: Callable[[], object]) -> None:
    end = threading.Event()
    for _ in range(int(TOLD_S / 0.1)):
        if condition():
            return
        end.wait(0.1)
    raise AssertionError("it takes too long")
