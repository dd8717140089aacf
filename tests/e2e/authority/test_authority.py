"""A real service as an authority: its commands, its refusals, its deaths."""

import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import jwt
import psycopg
import pytest
from cryptography import x509

from ca.local_keys import new_request
from deploy.demo.processes import free_ports, wait_until
from protos.meshwarden.v1 import authority_pb2, authority_pb2_grpc
from tests.e2e.support.instance import Instance, Place, is_alive
from tests.e2e.support.load import at_once
from tests.servers.postgresql import COMMAND, PACKAGE, postgresql

POLICY = {"policy.csv": "p, *, shop, GET, /**, allow\n"}
WEB = "spiffe://mesh.example/ns/shop/sa/web"
INTENDED = "SELECT serial FROM meshwarden_ledger WHERE event = 'intended'"
Settings = dict[str, object]


def place_for(folder: Path, settings: Settings | None = None) -> Place:
    """A place with identity on; its sealing key lies beside the state folder, not in it."""
    keys = folder.with_name(f"{folder.name}-keys") / "sealing.key"
    return Place(
        folder,
        POLICY,
        {
            "identity.trust_domain": "mesh.example",
            "identity.key_file": str(keys),
            **(settings or {}),
        },
    )


@pytest.fixture(scope="module")
def running(new_folder: Callable[[], Path]) -> Iterator[tuple[Place, Instance]]:
    """One service for what changes nothing about it."""
    place = place_for(new_folder())
    with place.start() as instance:
        yield place, instance.wait_ready()


def told(place: Place, *words: str) -> Any:
    """Run a command with -o json; give what it says."""
    ran = place.command(*words, "-o", "json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def refused(place: Place, *words: str) -> str:
    """Run a command that is refused; give its complaint."""
    ran = place.command(*words)
    assert ran.returncode == 2, ran.stdout
    return ran.stderr


def authority_ids(place: Place) -> list[str]:
    """Name the authorities that there are."""
    return [each["id"] for each in told(place, "ca", "show")["authorities"]]


class Caller:
    """Calls the Authority service over the admin socket."""

    def __init__(self, place: Place) -> None:
        self.channel = grpc.insecure_channel(f"unix:{place.run_dir / 'admin.sock'}")
        self.stub = authority_pb2_grpc.AuthorityStub(self.channel)

    def mint(self, spiffe_id: str = WEB) -> str:
        """Have a certificate signed; give its serial."""
        _, csr = new_request()
        request = authority_pb2.MintX509Request(spiffe_id=spiffe_id, csr=csr)
        svid = self.stub.MintX509(request, timeout=10)
        return f"{x509.load_der_x509_certificate(svid.chain[0]).serial_number:032x}"


def test_a_minted_certificate_is_verified_by_openssl_and_on_the_ledger(
    running: tuple[Place, Instance],
) -> None:
    """Key 0600, chain and bundle beside it; who asked, for whom, until when."""
    place, _ = running
    folder = place.folder / "svid"
    made = told(
        place, "x509", "mint", WEB, "--to", str(folder), "--ttl", "30m", "--dns", "w.example"
    )
    assert made["spiffe_id"] == WEB
    assert (folder / "svid.key").stat().st_mode & 0o777 == 0o600
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", folder / "bundle.pem",
         "-untrusted", folder / "svid.pem", folder / "svid.pem"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    # The key is the certificate's: a TLS library takes them together.
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        folder / "svid.pem", folder / "svid.key"
    )
    serial = x509.load_pem_x509_certificate((folder / "svid.pem").read_bytes()).serial_number
    (found,) = told(place, "ca", "issued", "--serial", f"{serial:032x}")
    for other in (f"{serial:x}", f"0x{serial:X}", f"00:{serial:032x}"):
        assert told(place, "ca", "issued", "--serial", other) == [found]
    assert found["spiffe_id"] == WEB
    assert found["outcome"] == "issued"
    assert found["requester"].startswith("local:")
    assert found["detail"] == "w.example"
    assert found["not_after_ns"] == made["not_after_ns"]


def test_who_gets_less_time_than_he_asked_for_is_told(
    running: tuple[Place, Instance], tmp_path: Path
) -> None:
    """On standard error: standard output has what was signed, and nothing else."""
    place, _ = running
    to = ("--to", str(tmp_path / "svid"))
    for words, most in (
        (("jwt", "mint", WEB, "--audience", "x"), "identity.max_jwt_ttl_s"),
        (("x509", "mint", WEB, *to), "identity.max_x509_ttl_s"),
    ):
        less = place.command(*words, "--ttl", "30d")
        assert (less.returncode, "30 d 0 h" in less.stderr, most in less.stderr) == (0, True, True)
        assert not place.command(*words, "--ttl", "30m").stderr


def test_authorities_are_shown_as_a_tree_with_their_expiries(
    running: tuple[Place, Instance],
) -> None:
    """Each below the one that signed it, with what it does and how long it holds."""
    place, _ = running
    known = {each["kind"]: each for each in told(place, "ca", "show")["authorities"]}
    ran = place.command("ca", "show")
    assert ran.returncode == 0, ran.stderr
    first, *lines = ran.stdout.splitlines()
    assert first == "mesh.example, bundle 1"
    for line, (kind, branch, does, days) in zip(
        lines,
        (
            ("root", "├── ", "trusted", 3649),
            ("intermediate", "│   └── ", "signs", 1824),
            ("jwt", "├── ", "signs", 1824),
            ("ledger", "└── ", "signs", 3649),
        ),
        strict=True,
    ):
        each = known[kind]
        name = each["subject"] or each["id"][:16]
        end = datetime.fromtimestamp(each["not_after_ns"] / 1e9, UTC)
        assert re.fullmatch(
            rf"{branch}{kind}  {re.escape(name)}  {each['key_type']}  {does}  "
            rf"until {end:%Y-%m-%d %H:%M:%S}Z, {days} d \d+ h left",
            line,
        ), line


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("x509", "mint", WEB, "--to", "never", "--ttl", "0s"), "over at once"),
        (("jwt", "mint", WEB, "--audience", "x", "--ttl", "0m"), "over at once"),
        (("token", "create", "--ttl", "0h"), "over at once"),
        (("ca", "issued", "--serial", "xyz"), "no serial number"),
        (("ca", "issued", "--serial", "1" * 33), "no serial number"),
        (("ca", "issued", "mesh.example/web"), "no SPIFFE ID"),
    ],
)
def test_what_can_not_be_meant_is_refused_and_not_answered_with_something_else(
    running: tuple[Place, Instance], words: tuple[str, ...], why: str
) -> None:
    """A TTL of 0 would be the default, and a slip in a name "nothing was issued"."""
    ran = running[0].command(*words)
    assert (ran.returncode, why in ran.stderr) == (2, True)


class _Jwks(BaseHTTPRequestHandler):
    """Serves a key set, as an issuer's jwks_uri does."""

    body = b""

    def do_GET(self) -> None:
        """Answer anything with it."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        """Stay quiet."""


def test_pyjwt_verifies_our_tokens_by_our_key_sets(running: tuple[Place, Instance]) -> None:
    """By the SPIFFE bundle as a key set, and by its client from the plain one."""
    place, _ = running
    token = place.command("jwt", "mint", WEB, "--audience", "orders").stdout.strip()
    spiffe = json.loads(place.command("bundle", "show", "--format", "spiffe").stdout)
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(spiffe)[kid]
    assert jwt.decode(token, key, ["ES256"], audience="orders")["sub"] == WEB
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, key, ["ES256"], audience="stock")

    _Jwks.body = place.command("bundle", "show", "--format", "jwks").stdout.encode()
    server = HTTPServer(("127.0.0.1", 0), _Jwks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = jwt.PyJWKClient(f"http://127.0.0.1:{server.server_port}/")
        found = client.get_signing_key_from_jwt(token)
        assert jwt.decode(token, found, ["ES256"], audience="orders")["sub"] == WEB
    finally:
        server.shutdown()
        server.server_close()


def test_what_must_not_be_signed_is_refused_and_on_the_ledger(
    running: tuple[Place, Instance],
) -> None:
    """With the code that says whose fault it is; nothing of it is signed."""
    place, _ = running
    stub = Caller(place).stub
    for csr, code in (
        (b"\x30" * (1 << 20), grpc.StatusCode.INVALID_ARGUMENT),
        (b"nonsense", grpc.StatusCode.INVALID_ARGUMENT),
        (new_request()[1][:-1] + b"x", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.MintX509(authority_pb2.MintX509Request(spiffe_id=WEB, csr=csr), timeout=10)
        assert caught.value.code() is code
    assert "no workload of mesh.example" in refused(
        place, "jwt", "mint", "spiffe://other.example/x", "-a", "y"
    )
    assert "no SPIFFE ID" in refused(place, "jwt", "mint", "https://mesh.example/x", "-a", "y")
    # An agent would take its holder for the service.
    server = "spiffe://mesh.example/meshwarden/server"
    assert "the service's" in refused(place, "jwt", "mint", server, "-a", "y")
    assert "the service's" in refused(place, "x509", "mint", server, "--to", "/nowhere")
    found = told(place, "ca", "issued", "--refused", "--limit", "1000")
    whys = [each["detail"] for each in found if each["spiffe_id"] == WEB]
    assert {each["outcome"] for each in found} == {"refused"}
    assert any("not by its key" in why for why in whys), whys
    assert "not by its key" in place.command("ca", "issued", WEB, "--refused").stdout
    # Policy comes from a folder here, which has no trail of its own.
    trail = told(place, "policy", "audit")
    assert {("x509.mint", "refused"), ("jwt.mint", "refused")} <= {
        (each["action"], each["outcome"]) for each in trail
    }
    assert told(place, "ca", "ledger", "verify")["ok"]
    with sqlite3.connect(place.state_dir / "meshwarden.db") as database:
        rows = database.execute(
            "SELECT detail FROM meshwarden_ledger WHERE event = 'refused' AND serial = ''"
        ).fetchall()
    assert len(rows) >= 4
    assert all(re.fullmatch("(INVALID_ARGUMENT|PERMISSION_DENIED): .+", row[0]) for row in rows)


def test_expiry_is_a_metric_and_no_secret_is_in_any_file(running: tuple[Place, Instance]) -> None:
    """Promise 13's gauges; keys sealed, tokens nowhere, dumps forbidden."""
    place, instance = running
    token = place.command("jwt", "mint", WEB, "--audience", "orders").stdout.strip()
    for kind, days in (("root", 3650), ("intermediate", 1825), ("jwt", 1825)):
        instance.wait_for(
            lambda kind=kind: instance.metric(
                "meshwarden_certificate_not_after_timestamp_seconds", kind=kind
            )
        )
        left_s = (
            instance.metric("meshwarden_certificate_not_after_timestamp_seconds", kind=kind)
            - time.time()  # noqa: TID251 - compared with the service's own clock
        )
        assert days - 1 < left_s / 86_400 <= days
    limits = Path(f"/proc/{instance.control}/limits").read_text()
    assert re.search(r"Max core file size +0 +0", limits)
    sealing = Path(str(place.settings["identity.key_file"])).read_text().strip().encode()
    signature = token.rpartition(".")[2].encode()
    for file in place.folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert sealing not in data, file
            assert signature not in data, file
            assert b"BEGIN PRIVATE KEY" not in data or file.name == "svid.key", file


def test_a_ledger_that_was_tampered_with_is_told(new_folder: Callable[[], Path]) -> None:
    """By the command, with exit code 2; and a head kept elsewhere shows a tail cut off."""
    place = place_for(new_folder())
    with place.start() as instance:
        instance.wait_ready()
        caller = Caller(place)
        for _ in range(3):
            caller.mint()
        head = place.command("ca", "ledger", "head").stdout.strip()
        assert place.command("ca", "ledger", "verify", "--head", head).returncode == 0
        with sqlite3.connect(place.state_dir / "meshwarden.db") as database:
            database.execute("DROP TRIGGER meshwarden_ledger_no_update")
            database.execute("UPDATE meshwarden_ledger SET requester = 'x' WHERE number = 1")
        assert "row 1 is not what was written" in refused(place, "ca", "ledger", "verify")
        wrong = "9" + head.partition(":")[0] + ":" + "0" * 64
        with sqlite3.connect(place.state_dir / "meshwarden.db") as database:
            database.execute("DROP TRIGGER meshwarden_ledger_no_delete")
            database.execute("DELETE FROM meshwarden_ledger")
        assert "its end was cut off" in refused(place, "ca", "ledger", "verify", "--head", wrong)
        assert "its end was cut off" in refused(place, "ca", "ledger", "verify")
        # What is issued now hangs together with what is left, and hides nothing.
        for _ in range(4):
            caller.mint()
        assert "it was written anew" in refused(place, "ca", "ledger", "verify")
        assert "rows were cut off or changed" in instance.said()
    with place.start() as instance:
        instance.wait_ready()
        assert "it was written anew" in refused(place, "ca", "ledger", "verify")


def test_keys_that_do_not_open_refuse_the_start(new_folder: Callable[[], Path]) -> None:
    """The setting is named, the exit code is 2, and nothing new is minted."""
    place = place_for(new_folder())
    with place.start() as instance:
        instance.wait_ready()
        before = authority_ids(place)
    key_file = Path(str(place.settings["identity.key_file"]))
    right = key_file.read_bytes()
    for wrong in (None, b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n", b"nonsense"):
        if wrong is None:
            key_file.unlink()
        else:
            key_file.write_bytes(wrong)
            key_file.chmod(0o600)
        with place.start() as instance:
            assert instance.ended(40) == 2
            assert "identity.key_file" in instance.said()
        assert key_file.exists() is (wrong is not None)
    key_file.write_bytes(right)
    with place.start() as instance:
        instance.wait_ready()
        assert authority_ids(place) == before


def test_tables_of_a_newer_version_refuse_the_start(new_folder: Callable[[], Path]) -> None:
    """In a sentence, and once: trying again changes nothing."""
    place = place_for(new_folder())
    with place.start() as instance:
        instance.wait_ready()
    with sqlite3.connect(place.state_dir / "meshwarden.db") as database:
        (table,) = database.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%version_num%'"
        ).fetchone()
        database.execute(f"UPDATE {table} SET version_num = 'r999'")  # noqa: S608 - its own name
    with place.start() as instance:
        assert instance.ended(40) == 2
        assert "of step 'r999', which a newer version made" in instance.said()
        assert "Traceback" not in instance.said()


def test_another_trust_domain_refuses_the_start(new_folder: Callable[[], Path]) -> None:
    """A typing error makes no second authority."""
    place = place_for(new_folder())
    with place.start() as instance:
        instance.wait_ready()
    place.settings["identity.trust_domain"] = "mesh.exampel"
    with place.start() as instance:
        assert instance.ended(40) == 2
        assert "identity.trust_domain is 'mesh.exampel'" in instance.said()


class Minting:
    """What was minted without a pause.

    Attributes:
        got: Serials of what came out.
        failed: Codes of calls that failed.
    """

    def __init__(self) -> None:
        self.got: list[str] = []
        self.failed: list[str] = []

    def go_on(self, place: Place, is_over: Callable[[], bool]) -> None:
        """Mint at one service."""
        caller = Caller(place)
        while not is_over():
            try:
                self.got.append(caller.mint())
            except grpc.RpcError as error:
                self.failed.append(str(error.code()))
                time.sleep(0.05)

    def wait_for_more(self, count: int, instances: Sequence[Instance]) -> None:
        """Wait until so many more have come out."""
        minted = len(self.got)
        wait_until(lambda: len(self.got) > minted + count, instances, 60)


@contextmanager
def minting_at(*places: Place) -> Iterator[Minting]:
    """Mint at several services from several threads, until the block ends."""
    minting = Minting()
    with at_once(partial(minting.go_on, place) for place in places for _ in range(6)):
        yield minting


def test_kill_9_of_control_during_issue_loses_nothing(new_folder: Callable[[], Path]) -> None:
    """No serial twice, every certificate that came out is on the ledger, the same authority."""
    place = place_for(new_folder())
    with place.start() as instance:
        instance.wait_ready()
        before = authority_ids(place)
        with minting_at(place) as minting:
            for _ in range(3):
                minting.wait_for_more(20, [instance])
                pid = instance.control
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: not is_alive(pid), [instance], 20)
                instance.wait_for(instance.is_ready, 40)
            minting.wait_for_more(5, [instance])
        assert minting.failed, "no call met a dead control: nothing was tried"
        assert told(place, "ca", "ledger", "verify")["ok"]
        with sqlite3.connect(place.state_dir / "meshwarden.db") as database:
            rows = database.execute(INTENDED).fetchall()
        nothing_is_lost(minting.got, [row[0] for row in rows])
        assert authority_ids(place) == before


def nothing_is_lost(got: Sequence[str], intended: Sequence[str]) -> None:
    """Every certificate is on the ledger, and no serial twice."""
    assert len(set(got)) == len(got)
    assert len(set(intended)) == len(intended)
    assert set(got) <= set(intended)


EXPIRING = """\
import sys
from pathlib import Path
from ca.keys import KeyType, generate
from ca.profile import Validity
from ca.x509 import AuthorityProfile, sign_authority
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from meshwarden.pem import certificates_pem

folder, begin_s, end_s = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
key = generate(KeyType.EC_P256)
times = Validity(begin_s * 10**9, end_s * 10**9)
root = sign_authority(key, AuthorityProfile("mesh.example", "root", 0), key.public_key(), times, 1)
secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
for name, data in (("ca.key", secret), ("ca.pem", certificates_pem([root]).encode())):
    fresh = folder / (name + ".new")
    fresh.touch(0o600)
    fresh.write_bytes(data)
    fresh.rename(folder / name)
"""


def plug_in(folder: Path, life_s: int) -> None:
    """Put an authority into files that ends after so many seconds."""
    now_s = int(time.time())  # noqa: TID251 - the service reads the same clock
    words = [sys.executable, "-c", EXPIRING, folder, now_s - 100, now_s + life_s]
    subprocess.run([*map(str, words)], check=True, timeout=60, cwd=Path(__file__).parents[3])


def test_an_expired_authority_turns_health_red_until_another_is_plugged_in(
    new_folder: Callable[[], Path],
) -> None:
    """Promise 13, and files that are read again when they change: a bad pair changes nothing."""
    files = new_folder()
    plug_in(files, 30)
    place = place_for(
        new_folder(),
        {
            "identity.ca": "files",
            "identity.ca_chain": str(files / "ca.pem"),
            "identity.ca_key": str(files / "ca.key"),
        },
    )
    with place.start() as instance:
        instance.wait_ready()
        caller = Caller(place)
        assert caller.mint()
        (first,) = [
            each["id"]
            for each in told(place, "ca", "show")["authorities"]
            if each["active"] and each["kind"] == "root"
        ]
        instance.wait_for(lambda: instance.get("/readyz")[0] == 503, 60)
        assert (
            f"the root key {first[:16]} of mesh.example has expired" in instance.get("/readyz")[1]
        )
        with pytest.raises(grpc.RpcError, match="expired"):
            caller.mint()
        assert re.search(
            r" root .* signs  until .*Z, EXPIRED \d+ s ago\n", place.command("ca", "show").stdout
        )

        (files / "ca.pem").write_text("nonsense")
        instance.wait_for(lambda: "the authority in files was not taken" in instance.said())
        plug_in(files, 3600)
        instance.wait_for(lambda: instance.get("/readyz")[0] == 200, 40)
        assert caller.mint()
        bundle = told(place, "ca", "show")
        roots = [each for each in bundle["authorities"] if each["kind"] == "root"]
        assert [each["active"] for each in roots] == [False, True]


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_replicas_on_one_postgresql_are_one_authority_and_survive_its_outage(
    new_folder: Callable[[], Path],
) -> None:
    """Started at once; issuing together on one ledger; gone and back without a restart of ours."""
    with postgresql(free_ports(1)[0]) as database:
        keys = new_folder() / "sealing.key"
        shared: Settings = {"store.url": database.url, "identity.key_file": str(keys)}
        one, other = place_for(new_folder(), shared), place_for(new_folder(), shared)
        with one.start() as first, other.start() as second:
            first.wait_ready()
            second.wait_ready()
            assert authority_ids(one) == authority_ids(other)
            callers = [Caller(one), Caller(other)]
            serials = [caller.mint() for caller in callers for _ in range(5)]
            database.stop()
            for caller in callers:
                with pytest.raises(grpc.RpcError) as caught:
                    caller.mint()
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert first.get("/readyz")[0] == 200, "policy is decided all the same"
            database.start()
            for caller, instance in zip(callers, (first, second), strict=True):
                wait_until(lambda caller=caller: _minted(caller, serials), [instance], 20)
            assert len(set(serials)) == len(serials)
            for place in (one, other):
                assert told(place, "ca", "ledger", "verify")["ok"]
            found = {each["serial"] for each in told(one, "ca", "issued", "--limit", "100")}
            assert set(serials) <= found


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_a_wrong_key_that_shows_once_the_database_is_back_is_told_in_a_sentence(
    new_folder: Callable[[], Path],
) -> None:
    """Decisions go on, nothing is made in its place, and the right one mends it."""
    with postgresql(free_ports(1)[0]) as database:
        keys = new_folder() / "sealing.key"
        place = place_for(new_folder(), {"store.url": database.url, "identity.key_file": str(keys)})
        with place.start() as instance:
            instance.wait_ready()
            before = authority_ids(place)
        right = keys.read_bytes()
        keys.write_bytes(b"QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n")
        database.stop()
        with place.start() as instance:
            instance.wait_ready()
            database.start()
            instance.wait_for(lambda: "control ended (78)" in instance.said())
            told = re.compile("^meshwarden: .*Nothing was made in its place$", re.MULTILINE)
            assert told.search(instance.said())
            assert "Traceback" not in instance.said()
            assert instance.get("/readyz")[0] == 200
            keys.write_bytes(right)
            instance.wait_for(lambda: _minted(Caller(place), []))
            assert authority_ids(place) == before


def _minted(caller: Caller, serials: list[str]) -> bool:
    try:
        serials.append(caller.mint())
    except grpc.RpcError:
        return False
    return True


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_a_postgresql_that_crashes_during_issue_loses_nothing(
    new_folder: Callable[[], Path],
) -> None:
    """No serial twice at either replica, all that came out on one ledger, the same authority."""
    with postgresql(free_ports(1)[0]) as database:
        keys = new_folder() / "sealing.key"
        shared: Settings = {"store.url": database.url, "identity.key_file": str(keys)}
        places = [place_for(new_folder(), shared) for _ in range(2)]
        with places[0].start() as first, places[1].start() as second:
            instances = [first.wait_ready(), second.wait_ready()]
            before = authority_ids(places[0])
            with minting_at(*places) as minting:
                for _ in range(3):
                    minting.wait_for_more(40, instances)
                    database.stop()  # As in a crash: what was under way is gone.
                    failed = len(minting.failed)
                    wait_until(lambda was=failed: len(minting.failed) > was, instances, 20)
                    database.start()
                minting.wait_for_more(40, instances)
            for place in places:
                assert told(place, "ca", "ledger", "verify")["ok"]
                assert authority_ids(place) == before
            with psycopg.connect(database.url) as connection:
                rows = connection.execute(INTENDED).fetchall()
            nothing_is_lost(minting.got, [row[0] for row in rows])
