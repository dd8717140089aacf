"""`meshwarden check --server` asks a service as a sidecar does; the commands that steer one."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf.struct_pb2 import Struct
from typer.testing import CliRunner, Result
from typing_extensions import override

from meshwarden import clock, status
from meshwarden.cli import remote_status
from meshwarden.cli.main import app
from meshwarden.control.services import AdminService
from meshwarden.files import RuntimeDir
from meshwarden.supervisor.commands import CommandServer
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)
from protos.meshwarden.v1.admin_pb2 import StatusReply, StatusRequest
from tests.unit.meshwarden.test_control_socket import service

STATUS = {
    "ok": True,
    "ready": True,
    "policy": {
        "digest": "ab" * 32,
        "rules": 1,
        "age_s": 7300.0,
        "restored": True,
        "errors": ["policy.csv:3: unknown effect 'Deny'"],
        "failing_for_s": 75.0,
    },
    "processes": [
        {
            "kind": "front",
            "name": "front-0",
            "pid": 4711,
            "epoch": 2,
            "ready": True,
            "digest": "ab" * 32,
            "rules": 1,
            "age_s": 200000.0,
            "error": "",
        }
    ],
}


class Service(AuthorizationServicer):
    """Allows GET with a principal, denies anything else, and fails on /fault."""

    @override
    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:
        http = request.attributes.request.http
        if http.path == "/fault":
            context.abort(grpc.StatusCode.INTERNAL, "internal fault 1")
        response = CheckResponse()
        said = Struct()
        said.update({"rule": "policy.csv:7", "reason": "by a rule", "digest": "cd", "id": "1"})
        response.dynamic_metadata["meshwarden"] = said
        if http.method != "GET" or not request.attributes.source.principal:
            response.status.code = 7
            response.denied_response.status.code = 401
        return response


@pytest.fixture
def address() -> Iterator[str]:
    """Serve without TLS on a port of its own."""
    server = grpc.server(ThreadPoolExecutor(1))
    add_AuthorizationServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    stopped: threading.Event = server.stop(None)
    stopped.wait(5)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A folder with a certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    loopback = x509.IPAddress(IPv4Address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (tmp_path / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tls.key").write_bytes(private)
    return tmp_path


@pytest.fixture
def tls_address(pem: Path) -> Iterator[str]:
    """Serve to clients with a certificate only."""
    certificate = (pem / "tls.crt").read_bytes()
    credentials = grpc.ssl_server_credentials(
        [((pem / "tls.key").read_bytes(), certificate)], certificate, require_client_auth=True
    )
    server = grpc.server(ThreadPoolExecutor(1))
    add_AuthorizationServicer_to_server(Service(), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    stopped: threading.Event = server.stop(None)
    stopped.wait(5)


def test_a_service_is_asked_over_mutual_tls(tls_address: str, pem: Path) -> None:
    """With all three files; without them there is no verdict."""
    files = ("--ca", str(pem / "tls.crt"), "--cert", str(pem / "tls.crt"))
    asked = ("check", "--server", tls_address, "--principal", "td/ns/a/sa/b")
    assert run(*asked, *files, "--key", str(pem / "tls.key")).exit_code == 0
    assert run(*asked).exit_code == 2
    half = run(*asked, *files)
    assert half.exit_code == 2
    assert "--cert and --key belong together" in half.stderr


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, arguments)


def test_a_services_verdict_is_told_like_a_policys(address: str) -> None:
    """The same words and the same exit codes."""
    allowed = run("check", "--server", address, "--principal", "td/ns/a/sa/b")
    assert allowed.exit_code == 0
    assert "policy.csv:7" in allowed.stdout
    denied = run("check", "--server", address, "-o", "json")
    assert denied.exit_code == 1
    answer = json.loads(denied.stdout)
    assert (answer["status"], answer["rule"], answer["digest"]) == (401, "policy.csv:7", "cd")


def test_an_rpc_error_is_a_fault_and_no_denial(address: str) -> None:
    """A sidecar would act by its failure mode; we say 2."""
    result = run("check", "--server", address, "--path", "/fault")
    assert result.exit_code == 2
    assert f"{address}: INTERNAL: internal fault 1" in result.stderr


def test_status_shows_the_policy_and_every_process(tmp_path: Path) -> None:
    """And what is wrong: a local copy in force, a newer policy refused."""
    with service(tmp_path, json.dumps(STATUS).encode() + b"\n"):
        result = run("status", "--runtime-dir", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ready   yes",
        "policy  abababababab, 1 rule, published 2 h 1 min ago",
        "        from the local copy: its source was not loaded since the start",
        "        loads have failed for 1 min:",
        "        policy.csv:3: unknown effect 'Deny'",
        "",
        "process  pid   ready  up       epoch  policy        error",
        "front-0  4711  yes    2 d 7 h  2      abababababab",
    ]


ENTRIES = {
    "source": "/etc/entries",
    "count": 12,
    "age_s": 7200.0,
    "errors": ["web.yaml:8: selectors: KIND:VALUE", "web.yaml:9: hint must be text"],
    "failing_for_s": 75.0,
}


def test_status_shows_what_is_wrong_with_declared_entries(tmp_path: Path) -> None:
    """With file and line, as a policy's faults; a program gets what the service answered."""
    answer = json.dumps({**STATUS, "entries": ENTRIES}).encode() + b"\n"
    with service(tmp_path, answer):
        shown = run("status", "--runtime-dir", str(tmp_path)).stdout.splitlines()
    assert shown[5:9] == [
        "entries 12 declared by /etc/entries, taken 2 h 0 min ago",
        "        not taken for 1 min, the last good ones stay:",
        "        web.yaml:8: selectors: KIND:VALUE",
        "        web.yaml:9: hint must be text",
    ]
    other = tmp_path / "other"
    other.mkdir()
    with service(other, answer):
        told = json.loads(run("status", "--runtime-dir", str(other), "-o", "json").stdout)
    assert told["entries"] == ENTRIES


IDENTITY = {
    "trust_domain": "mesh.example",
    "entries": 1,
    "agents": 2,
    "waits": "",
    "first_to_end": "the intermediate key 0123456789abcdef of mesh.example",
    "ends_in_s": 86_400.0 * 29 + 5,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "the intermediate key 0123456789abcdef of mesh.example ends in 29 d 0 h"),
        ({"ends_in_s": -1.0}, "the intermediate key 0123456789abcdef of mesh.example has expired"),
        (
            {"waits": "the database is away", "first_to_end": "", "ends_in_s": None},
            "nothing is issued: the database is away",
        ),
    ],
)
def test_status_shows_the_trust_domain_and_what_of_it_ends_first(
    tmp_path: Path, changes: dict[str, object], line: str
) -> None:
    """Or why it has no certificates to give."""
    answer = json.dumps({**STATUS, "identity": {**IDENTITY, **changes}}).encode() + b"\n"
    with service(tmp_path, answer):
        shown = run("status", "--runtime-dir", str(tmp_path)).stdout.splitlines()
    assert shown[5:8] == ["domain  mesh.example: 1 entry, 2 agents", f"        {line}", ""]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_service_elsewhere_says_the_same_of_its_authority_as_one_here(
    tmp_path: Path, *, is_there: bool
) -> None:
    """As of its entries."""
    if is_there:
        state = status.IdentityState("td", 3, 2, "w", "the jwt key", clock.now_ns() + 60 * 10**9)
        status.write_identity(tmp_path, state)
    here, elsewhere = both(tmp_path)
    told, other = here["identity"], remote_status.identity_of(elsewhere, clock.now_ns())
    if not is_there:
        assert (told, other) == (None, None)
        return
    assert other is not None
    assert told["ends_in_s"] == pytest.approx(other.pop("ends_in_s"), abs=5)
    assert 50 < told.pop("ends_in_s") <= 60
    assert told == other
    assert [*told.values()] == ["td", 3, 2, "w", "the jwt key"]


def both(folder: Path) -> tuple[dict[str, Any], StatusReply]:
    """What the supervisor answers here, and control elsewhere."""
    publisher: Any = SimpleNamespace(state=status.LoadState())
    admin = AdminService(publisher, folder, None, clock.now_ns)
    reply = asyncio.run(admin.Status(StatusRequest(), cast("Any", None)))
    commands = CommandServer(RuntimeDir(folder), lambda: True, lambda: None, cast("Any", None))
    return dict(asyncio.run(commands._status())), reply


@pytest.mark.parametrize("is_there", [True, False])
def test_a_service_elsewhere_says_the_same_of_its_entries_as_one_here(
    tmp_path: Path, *, is_there: bool
) -> None:
    """The supervisor answers here, control answers elsewhere; both read one file."""
    now_ns = clock.now_ns()
    if is_there:
        status.write_entries(
            tmp_path,
            status.EntriesState("/e", 12, now_ns - 60 * 10**9, ("e.yaml:8: x",), now_ns - 10**9),
        )
    answer, reply = both(tmp_path)
    here, elsewhere = answer["entries"], remote_status.entries_of(reply, clock.now_ns())
    if not is_there:
        assert (here, elsewhere) == (None, None)
        return
    assert here["errors"] == ["e.yaml:8: x"]
    for each in ("age_s", "failing_for_s"):
        assert here.pop(each) == pytest.approx(elsewhere.pop(each), abs=5)
    assert here == elsewhere


def test_status_says_when_declared_entries_were_never_taken(tmp_path: Path) -> None:
    """As at a start with a broken file: what is in force is of the run before."""
    entries = {**ENTRIES, "count": 0, "age_s": None}
    with service(tmp_path, json.dumps({**STATUS, "entries": entries}).encode() + b"\n"):
        shown = run("status", "--runtime-dir", str(tmp_path)).stdout
    assert "entries those of /etc/entries were not taken since the start\n" in shown
    assert "        web.yaml:8: selectors: KIND:VALUE\n" in shown


def test_status_of_a_service_that_is_not_ready_exits_with_1(tmp_path: Path) -> None:
    """So that a script can wait for it."""
    starting = {**STATUS, "ready": False, "policy": {**STATUS["policy"], "digest": ""}}
    with service(tmp_path, json.dumps(starting).encode() + b"\n"):
        assert run("status", "--runtime-dir", str(tmp_path), "-o", "json").exit_code == 1


def test_a_reload_tells_what_is_in_force(tmp_path: Path) -> None:
    """By its digest."""
    with service(tmp_path, b'{"ok": true, "digest": "abababababababab", "rules": 2}\n'):
        result = run("reload", "--runtime-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "policy abababababab in force: 2 rules\n")


def test_a_refused_reload_lists_every_fault(tmp_path: Path) -> None:
    """On stderr for people, with the rest of the answer as JSON."""
    refusal = b'{"ok": false, "error": "a.csv:1: x\\nb.csv:2: y", "errors": ["a", "b"]}\n'
    with service(tmp_path, refusal):
        result = run("reload", "--runtime-dir", str(tmp_path), "-o", "json")
    assert result.exit_code == 2
    assert result.stderr == "meshwarden: a.csv:1: x\nmeshwarden: b.csv:2: y\n"
    assert json.loads(result.stdout)["errors"] == ["a", "b"]


def test_renewed_fronts_are_named(tmp_path: Path) -> None:
    """With their new processes."""
    with service(tmp_path, b'{"ok": true, "fronts": [{"name": "front-0", "pid": 5}]}\n'):
        result = run("restart", "fronts", "--runtime-dir", str(tmp_path))
    assert result.stdout == "front-0 renewed: process 5\n"


def test_status_shows_every_replica_that_shares_the_store(tmp_path: Path) -> None:
    """With its revision, age and error; a silent one is marked, and why news are missing."""
    replica = {
        "id": "one",
        "host": "a.example",
        "address": "10.0.0.1:9191",
        "version": "0.1.0",
        "revision": 7,
        "digest": "cd" * 32,
        "age_s": 61.0,
        "error": "policy.csv:3: bad",
        "up_s": 7300.0,
        "seen_s_ago": 2.0,
        "stale": False,
    }
    other = {**replica, "host": "b.example", "error": "", "seen_s_ago": 90.0, "stale": True}
    known = {**STATUS, "replicas": [replica, other], "replicas_error": "the store is away"}
    with service(tmp_path, json.dumps(known).encode() + b"\n"):
        result = run("status", "--runtime-dir", str(tmp_path))
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if ".example" in line]
    assert rows[0][:5] == ["a.example", "10.0.0.1:9191", "0.1.0", "7", "cd" * 6]
    assert "policy.csv:3: bad" in result.stdout
    assert "1 min ago, stale" in result.stdout
    assert "the store is away" in result.stderr


@pytest.mark.parametrize("stale", [False, True])
def test_status_says_so_when_replicas_read_one_revision_differently(
    tmp_path: Path, *, stale: bool
) -> None:
    """As with another policy.bind: each is content, and they answer differently for good."""
    replica = {
        "id": "one",
        "host": "a.example",
        "address": "10.0.0.1:9191",
        "version": "0.1.0",
        "revision": 7,
        "digest": "cd" * 32,
        "age_s": 61.0,
        "error": "",
        "up_s": 7300.0,
        "seen_s_ago": 2.0,
        "stale": False,
    }
    other = {**replica, "host": "b.example", "digest": "ef" * 32, "stale": stale}
    known = {**STATUS, "replicas": [replica, other]}
    with service(tmp_path, json.dumps(known).encode() + b"\n"):
        result = run("status", "--runtime-dir", str(tmp_path))
    assert result.exit_code == 0
    assert ("revision 7 as different policies" in result.stderr) is not stale
