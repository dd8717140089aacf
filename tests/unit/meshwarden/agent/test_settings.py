"""The agent's settings are judged before anything starts; its places follow from them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ca.join_token import TokenText
from ca.keys import KeyType, generate
from ca.possession import holds, key_sha256
from meshwarden.agent.evidence import EvidenceError, ExpiredSvid, JoinToken, K8sPsat, X509Pop
from meshwarden.agent.keep import OwnIdentity
from meshwarden.agent.places import places
from meshwarden.agent.uplink import ServerAddress
from meshwarden.agent_checks import agent_faults
from meshwarden.settings import Address, Identity, Listen, Runtime, Server, Settings
from meshwarden.settings.agent import Agent

TOKEN = TokenText(b"s" * 32, "a" * 64)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mesh.example:9191", "mesh.example", 9191),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:65535", "::1", 65_535),
    ],
)
def test_a_server_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    """By name or address."""
    assert ServerAddress.parse(text) == ServerAddress(host, port)


@pytest.mark.parametrize(
    "text", ["", "mesh", "mesh:", ":9191", "mesh:0", "mesh:65536", "mesh:x", "::1:9191", "m:٣"]
)
def test_anything_else_is_no_server(text: str) -> None:
    """With a word on what to write."""
    with pytest.raises(ValueError, match="write HOST:PORT"):
        ServerAddress.parse(text)


@pytest.mark.parametrize(
    ("own", "key", "words"),
    [
        (Agent(attestors=("unix", "dokcer")), "agent.attestors", "no attestor 'dokcer'"),
        (Agent(server="mesh"), "agent.server", "HOST:PORT"),
        (Agent(attestor="x509pop"), "agent.attestor", "x509pop_certificate"),
        (Agent(kubelet_url="http://x"), "agent.kubelet_url", "https://"),
        (Agent(runtime_dir=Path("/" + "x" * 80)), "agent.runtime_dir", "too long"),
        (Agent(socket=Path("/" + "x" * 108)), "agent.socket", "107"),
        (Agent(metrics=Address("0.0.0.0", 9193)), "agent.metrics", "allow_plaintext_beyond_l"),
        (Agent(metrics=Address("::", 9193)), "agent.metrics", "allow_plaintext_beyond_loopback"),
    ],
)
def test_each_fault_names_its_key(own: Agent, key: str, words: str) -> None:
    """And says what to write."""
    ((keys, message),) = agent_faults(Settings(agent=own))
    assert keys[0] == key
    assert words in message


def test_metrics_for_other_machines_are_asked_for() -> None:
    """By a setting of the agent's own: the service's port is another matter."""
    far = Agent(metrics=Address("192.0.2.1", 9193), allow_plaintext_beyond_loopback=True)
    near = Agent(metrics=Address("127.0.0.2", 9193))
    listen = Listen(allow_plaintext_beyond_loopback=True)
    assert not [*agent_faults(Settings(agent=far)), *agent_faults(Settings(agent=near))]
    assert [*agent_faults(Settings(agent=Agent(metrics=Address("::", 1)), listen=listen))]


def test_an_embedded_agent_needs_somebody_who_signs() -> None:
    """A setting that would do nothing is a fault."""
    settings = Settings(server=Server(embedded_agent=True))
    assert [keys[0] for keys, _ in agent_faults(settings)] == ["server.embedded_agent"]
    assert not [*agent_faults(replace(settings, identity=Identity(trust_domain="td.example")))]


def test_an_agent_lives_beside_the_service_of_the_same_settings() -> None:
    """In folders of its own, which no setting has to name."""
    runtime = Runtime(state_dir=Path("/var/lib/m"), runtime_dir=Path("/run/m"))
    where = places(Settings(runtime=runtime))
    assert (where.state, where.runtime) == (Path("/var/lib/m/agent"), Path("/run/m-agent"))
    assert where.socket == Path("/run/m-agent/api.sock")
    own = Agent(state_dir=Path("/a"), runtime_dir=Path("/b"), socket=Path("/c/d"))
    where = places(Settings(runtime=runtime, agent=own))
    assert (where.state, where.private, where.socket) == (
        Path("/a"),
        Path("/b/private"),
        Path("/c/d"),
    )


def test_a_join_token_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    """An operator replaces it while the agent tries; no message has anything of it."""
    file = tmp_path / "token"
    evidence = JoinToken(file=file)
    with pytest.raises(EvidenceError, match="No such file"):
        evidence.payload()
    for rubbish in ("mwj1.rubbish-that-is-secret\n", "sécret"):
        file.write_text(rubbish)
        file.chmod(0o600)
        with pytest.raises(EvidenceError) as caught:
            evidence.payload()
        assert "cret" not in str(caught.value)
    file.write_text(TOKEN.reveal() + "\n")
    assert evidence.payload() == TOKEN.reveal().encode()
    assert evidence.authorities() == "a" * 64
    assert TOKEN.reveal() not in repr(JoinToken(TOKEN.reveal()))
    with pytest.raises(EvidenceError, match="there is no join token"):
        JoinToken().payload()
    with pytest.raises(EvidenceError, match="challenge"):
        evidence.answer(b"", b"")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o666, 0o601])
def test_a_join_token_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    """Somebody may have used it; the message says which file and what to do."""
    file = tmp_path / "token"
    file.write_text(TOKEN.reveal())
    evidence = JoinToken(file=file)
    file.chmod(mode)
    with pytest.raises(EvidenceError, match=f"{file} has mode 0{mode:o}.*'chmod 600' it") as caught:
        evidence.payload()
    assert TOKEN.reveal() not in str(caught.value)
    file.chmod(0o400)
    assert evidence.payload() == TOKEN.reveal().encode()


def test_a_join_token_may_come_through_a_pipe() -> None:
    """Whose mode says nothing: /dev/fd/N, as a shell's <(...) names it."""
    reading, writing = os.pipe()
    try:
        os.write(writing, TOKEN.reveal().encode() + b"\n")
        os.close(writing)
        assert JoinToken(file=Path(f"/dev/fd/{reading}")).payload() == TOKEN.reveal().encode()
    finally:
        os.close(reading)


def test_a_node_proves_its_key_for_the_new_one_alone(tmp_path: Path) -> None:
    """A challenge is answered for one new key; files that can't be used are named."""
    key, new = generate(KeyType.EC_P256), generate(KeyType.EC_P256)
    digest = key_sha256(new.public_key())
    evidence = ExpiredSvid(OwnIdentity("spiffe://td.example/x", (b"a", b"b"), key, 0))
    assert evidence.payload() == b"ab"
    answer = evidence.answer(b"c" * 32, digest)
    assert holds(key.public_key(), b"c" * 32, digest, answer)
    assert not holds(key.public_key(), b"d" * 32, digest, answer)
    assert not holds(key.public_key(), b"c" * 32, key_sha256(key.public_key()), answer)
    node = X509Pop(tmp_path / "cert", tmp_path / "key")
    for ask in (node.payload, lambda: node.answer(b"", b"")):
        with pytest.raises(EvidenceError, match="No such file"):
            ask()
    for name in ("cert", "key"):
        (tmp_path / name).write_text("rubbish")
    for ask in (node.payload, lambda: node.answer(b"", b"")):
        with pytest.raises(EvidenceError, match="in PEM"):
            ask()
    with pytest.raises(EvidenceError, match="No such file"):
        K8sPsat(tmp_path / "none").payload()
