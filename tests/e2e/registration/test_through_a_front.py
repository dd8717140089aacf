"""Agents and operators through a real front: TLS, certificates that it judged, and what it adds."""

import datetime as dt
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from deploy.demo.certificates import Authority, Credential
from protos.meshwarden.v1 import agent_pb2, agent_pb2_grpc
from tests.e2e.support.agent import SETTINGS, TRUST_DOMAIN, create_entry, new_token
from tests.e2e.support.instance import Instance, Place
from tests.servers.identity import Caller, csr_of, new_key

POLICY = {"policy.csv": "p, *, *, *, /**, allow\n"}
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
WITHIN_S = 20


@dataclass
class World:
    """A service that believes certificates of its own authority, and those of a stranger."""

    place: Place
    instance: Instance
    roots: bytes
    stranger: Authority

    @contextmanager
    def channel(self, certificate: bytes = b"", key: bytes = b"") -> Iterator[grpc.Channel]:
        """Connect by TLS, with a certificate or without."""
        credentials = grpc.ssl_channel_credentials(self.roots, key or None, certificate or None)
        address = f"127.0.0.1:{self.place.port}"
        with grpc.secure_channel(address, credentials, OPTIONS) as made:
            yield made

    @contextmanager
    def agent(self, *options: str) -> Iterator[tuple[str, grpc.Channel]]:
        """Attest by a new token; give the agent's SPIFFE ID and its channel."""
        key = new_key()
        with self.channel() as channel:
            svid = attest(channel, new_token(self.place, *options), csr_of(key))
        with self.channel(pem(svid.chain), key_pem(key)) as channel:
            yield svid.spiffe_id, channel

    def command(self, *words: str) -> None:
        """Run a command that has to succeed."""
        done = self.place.command(*words)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def world(new_folder: Callable[[], Path]) -> Iterator[World]:
    """Run a service, once to have its roots, and then for the tests."""
    folder = new_folder()
    settings = {**SETTINGS, "identity.key_file": str(folder / "sealing.key")}
    place = Place(folder, POLICY, settings)
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - certificates are checked by real clocks
    stranger = Authority(new_folder() / "stranger", now)
    with place.start() as instance:
        instance.wait_ready()
        roots = place.command("bundle", "show").stdout.encode()
    both = folder / "clients.pem"
    both.write_bytes(roots + stranger.certificate.read_bytes())
    place.settings["listen.tls.client_ca"] = str(both)
    with place.start() as instance:
        yield World(place, instance.wait_ready(), roots, stranger)


def attest(channel: grpc.Channel, token: str, csr: bytes, metadata: Any = None) -> Any:
    """Attest by a token."""
    evidence = agent_pb2.Evidence(attestor="join_token", payload=token.encode(), csr=csr)
    request = agent_pb2.AttestRequest(evidence=evidence)
    stub = agent_pb2_grpc.AttestationStub(channel)
    return next(stub.Attest(iter([request]), timeout=WITHIN_S, metadata=metadata)).svid


def pem(chain: Any) -> bytes:
    """Write a chain as TLS wants it."""
    found = [x509.load_der_x509_certificate(each) for each in chain]
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in found)


def key_pem(key: Any) -> bytes:
    """Write a key likewise."""
    written: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return written


class Followed:
    """A stream that a thread reads, so that a test can wait for what comes."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._came: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, within_s: float = WITHIN_S) -> Any:
        """Give the next reply, or the error that ended it."""
        return self._came.get(timeout=within_s)

    def _read(self) -> None:
        try:
            for each in self._call:
                self._came.put(each)
        except grpc.RpcError as error:
            self._came.put(error)


def entries(channel: grpc.Channel, metadata: Any = None) -> Followed:
    """Follow entries."""
    stub = agent_pb2_grpc.AgentStub(channel)
    return Followed(stub.Entries(agent_pb2.EntriesRequest(), metadata=metadata))


def test_an_agent_attests_signs_renews_and_follows_by_its_certificate(world: World) -> None:
    """An entry that a command makes reaches it within five seconds."""
    with world.agent() as (agent_id, channel):
        followed = entries(channel)
        assert followed.next().whole
        began_s = time.monotonic()
        entry_id = create_entry(world.place, agent_id, "web", "unix:uid:7")
        assert [each.id for each in followed.next(5).changed] == [entry_id]
        assert time.monotonic() - began_s < 5
        stub = agent_pb2_grpc.AgentStub(channel)
        order = agent_pb2.X509Order(entry_id=entry_id, csr=csr_of(new_key()))
        request = agent_pb2.SignX509Request(orders=[order] * 3)
        results = stub.SignX509(request, timeout=WITHIN_S).results
        wanted = f"spiffe://{TRUST_DOMAIN}/web"
        assert [each.svid.spiffe_id for each in results] == [wanted] * 3
        key = new_key()
        svid = stub.Renew(agent_pb2.RenewRequest(csr=csr_of(key)), timeout=WITHIN_S).svid
        with world.channel(pem(svid.chain), key_pem(key)) as renewed:
            assert entries(renewed).next().changed[0].id == entry_id


@pytest.mark.parametrize("command", [("agent", "evict"), ("agent", "ban")])
def test_an_agent_that_loses_its_identity_loses_its_streams(
    world: World, command: tuple[str, ...]
) -> None:
    """At once, and its certificate is good for nothing from then on, though it has not expired."""
    with world.agent() as (agent_id, channel):
        followed = entries(channel)
        followed.next()
        world.command(*command, agent_id, "--yes")
        error = followed.next(3)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        again = entries(channel).next()
        assert again.code() is grpc.StatusCode.PERMISSION_DENIED
        listed = json.loads(world.place.command("agent", "list", "-o", "json").stdout)
        states = {each["spiffe_id"]: each["banned"] for each in listed}
        assert states.get(agent_id) == (True if command[1] == "ban" else None)


def forged(caller: Caller) -> list[tuple[str, str]]:
    """What somebody says of himself who wants to be that caller."""
    return [pair for pair in caller.metadata if pair[0] == "x-forwarded-client-cert"]


def test_whoever_only_says_to_be_an_agent_is_none(world: World) -> None:
    """Not by a header, and not by the certificate of an authority that a front believes as well."""
    with world.agent() as (agent_id, channel):
        der = channel_certificate(world, agent_id)
        said = forged(Caller(chain=[der], spiffe_id=agent_id))
        with world.channel() as nobody:
            error = entries(nobody, said).next()
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        credential: Credential = world.stranger.issue("forged", agent_id)
        certificate, key = credential.certificate.read_bytes(), credential.key.read_bytes()
        with world.channel(certificate, key) as stranger:
            for metadata in (None, said):
                error = entries(stranger, metadata).next()
                assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                assert "neither its newest" in error.details()
        assert entries(channel).next().whole


def channel_certificate(world: World, agent_id: str) -> bytes:
    """Any bytes will do for a forged digest; the serial proves that it is that agent's."""
    listed = json.loads(world.place.command("agent", "list", "-o", "json").stdout)
    (serial,) = [each["serial"] for each in listed if each["spiffe_id"] == agent_id]
    return bytes.fromhex(serial)


def test_a_message_beyond_what_agents_send_is_not_taken_in(world: World) -> None:
    """Whoever sends it."""
    with world.channel() as channel, pytest.raises(grpc.RpcError) as caught:
        attest(channel, "x" * (8 << 20), b"")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_over_plain_text_no_token_is_taken(new_folder: Callable[[], Path]) -> None:
    """It stays good for who comes by TLS; and the agent service knows nobody there."""
    folder = new_folder()
    place = Place(
        folder,
        POLICY,
        {"identity.trust_domain": TRUST_DOMAIN, "identity.key_file": str(folder / "sealing.key")},
    )
    with place.start() as instance:
        instance.wait_ready()
        token = new_token(place)
        with grpc.insecure_channel(f"127.0.0.1:{place.port}", OPTIONS) as channel:
            said = [("x-meshwarden-tls", "TLSv1.3"), ("x-meshwarden-source", "10.0.0.1")]
            for metadata in (None, said):
                with pytest.raises(grpc.RpcError) as caught:
                    attest(channel, token, csr_of(new_key()), metadata)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "TLS" in caught.value.details()
            error = entries(channel).next()
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        (told,) = json.loads(place.command("token", "list", "-o", "json").stdout)
        assert told["used_ns"] == 0


def test_entries_by_command(world: World, tmp_path: Path) -> None:
    """Created, listed, shown, applied from a file, deleted; refused in words."""
    with world.agent("--agent-path", "by-command") as (agent_id, _):
        entry_id = create_entry(world.place, agent_id, "api", "unix:uid:8")
        command = world.place.command
        assert f"spiffe://{TRUST_DOMAIN}/api" in command("entry", "list").stdout
        assert "unix:uid:8" in command("entry", "show", entry_id).stdout
        assert "did you mean" in command("entry", "show", entry_id[:-1]).stderr
        file = tmp_path / "entries.yaml"
        file.write_text(
            "entries:\n"
            f"  - parent_id: {agent_id}\n"
            "    spiffe_id: spiffe://{{trust_domain}}/api\n"
            "    selectors: ['unix:uid:8']\n"
            "    x509_ttl_s: 60\n"
            f"  - parent_id: {agent_id}\n"
            "    spiffe_id: spiffe://{{trust_domain}}/more\n"
            "    selectors: ['unix:uid:9']\n"
        )
        applied = command("entry", "apply", str(file), "-o", "json")
        told = json.loads(applied.stdout)
        assert (told["added"], told["changed"]) == (1, 1)
        again = json.loads(command("entry", "apply", str(file), "-o", "json").stdout)
        assert (again["added"], again["changed"]) == (0, 0)
        file.write_text(file.read_text().replace("unix:uid:9", "unix"))
        bad = command("entry", "apply", str(file))
        assert (bad.returncode, f"{file}:8: selectors: " in bad.stderr) == (2, True)
        twice = command(
            "entry", "create", f"spiffe://{TRUST_DOMAIN}/api", "--parent", agent_id,
            "--selector", "unix:uid:8",
        )  # fmt: skip
        assert (twice.returncode, entry_id in twice.stderr) == (2, True)
        world.command("entry", "delete", entry_id, "--yes")
        gone = command("entry", "delete", entry_id, "--yes")
        assert (gone.returncode, "no entry" in gone.stderr) == (2, True)
