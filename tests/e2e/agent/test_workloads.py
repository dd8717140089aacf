"""Workloads, by software that others wrote and by our own, get identities that hold."""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from tests.e2e.support.agent import Agent, create_entry, served, served_to
from tests.e2e.support.instance import COMMAND, Place
from tests.e2e.support.reflection import services
from tests.wire.oracle import CLIENTS, environment

SCRIPT = Path(__file__).with_name("spiffe_workload.py")
NOBODY = 65_534


def spiffe(agent: Agent, *words: str) -> list[dict[str, object]]:
    """Run the workload that uses `spiffe`; give what it saw."""
    python = environment(CLIENTS) / "bin" / "python"
    kind, *rest = words
    command = [str(python), "-I", str(SCRIPT), kind, f"unix://{agent.place.socket}", *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(300)  # The first run installs the client.
def test_spiffes_own_source_sees_renewals_before_every_expiry(agent: Agent) -> None:
    """X509Source of `spiffe`: at a life of six seconds, in time and without a gap."""
    seen = spiffe(agent, "x509", "14")
    assert len(seen) >= 3
    assert len({line["serial"] for line in seen}) == len(seen)
    assert {line["spiffe_id"] for line in seen} == {"spiffe://td.example/web"}
    for old, new in itertools.pairwise(seen):
        assert float(str(new["at"])) < float(str(old["expires"]))


@pytest.mark.timeout(300)
def test_spiffes_own_source_gets_and_validates_tokens(agent: Agent) -> None:
    """JwtSource of `spiffe`: by the bundle it got, and by the API; for another audience neither."""
    (line,) = spiffe(agent, "jwt", "shop")
    assert line["spiffe_id"] == line["checked"] == line["valid"] == "spiffe://td.example/web"
    assert "somebody-else" in str(line["refused"])


def test_pyjwt_verifies_a_token_by_the_jwks(agent: Agent) -> None:
    """Of `identity fetch bundles`, as any service that knows JWT would."""
    (token,) = agent.place.command(
        "identity", "fetch", "jwt", "--audience", "shop"
    ).stdout.splitlines()
    bundles = json.loads(agent.place.command("identity", "fetch", "bundles", "-o", "json").stdout)
    keys = jwt.PyJWKSet.from_dict(
        {"keys": [{**key, "use": "sig"} for key in bundles["td.example"]["jwks"]["keys"]]}
    )
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, ["ES256"], audience="shop")
    assert claims["sub"] == "spiffe://td.example/web"


def test_openssl_verifies_what_was_written(agent: Agent, tmp_path: Path) -> None:
    """A chain under the bundle; key and certificate belong together; nobody else may read."""
    folder = tmp_path / "id"
    done = agent.place.command("identity", "fetch", "x509", "--write", str(folder))
    assert done.returncode == 0, done.stderr
    assert "PRIVATE" not in done.stdout
    names = {
        "svid.pem",
        "svid.key",
        "bundle.pem",
        "credential-bundle.private-key.pem",
        "td.example.spiffe-trust-bundle.pem",
    }
    assert {each.name for each in folder.iterdir() if each.name[0] != "."} == names
    assert {(folder / name).stat().st_mode & 0o777 for name in names} == {0o600}
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "bundle.pem")]
    chain = ["-untrusted", str(folder / "svid.pem"), str(folder / "svid.pem")]
    verified = subprocess.run([*verify, *chain], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    publics = [
        subprocess.run(["openssl", *words], capture_output=True, check=True).stdout
        for words in (
            ["pkey", "-in", str(folder / "svid.key"), "-pubout"],
            ["x509", "-in", str(folder / "svid.pem"), "-pubkey", "-noout"],
        )
    ]
    assert publics[0] == publics[1]


def test_openssl_verifies_the_services_chain_and_the_agents_own(
    agent: Agent, place: Place, tmp_path: Path
) -> None:
    """Strictly: what the port sends in a handshake, by name, and what the agent shows there."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(place.command("bundle", "show").stdout)
    strict = ["-x509_strict", "-CAfile", str(bundle)]
    own = str(agent.place.folder / "state" / "agent.pem")
    for words in (
        ["verify", *strict, "-purpose", "sslclient", "-untrusted", own, own],
        ["s_client", *strict, "-purpose", "sslserver", "-verify_return_error",
         "-verify_hostname", "localhost", "-connect", f"127.0.0.1:{place.port}"],
    ):  # fmt: skip
        done = subprocess.run(
            ["openssl", *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_socket_tells_what_it_serves(agent: Agent) -> None:
    """Workload Endpoint section 7: by reflection, which asks for no header and no identity."""
    options = (("grpc.default_authority", "localhost"),)
    with grpc.insecure_channel(f"unix:{agent.place.socket}", options=options) as channel:
        assert services(channel) == {
            "SpiffeWorkloadAPI",
            "envoy.service.secret.v3.SecretDiscoveryService",
            "grpc.reflection.v1alpha.ServerReflection",
        }


def test_files_are_renewed_together_and_a_command_runs_each_time(
    agent: Agent, tmp_path: Path
) -> None:
    """`identity write` for software without SPIFFE; a failing command ends nothing."""
    folder, counted = tmp_path / "id", tmp_path / "runs"
    check = tmp_path / "check.sh"
    check.write_text(
        "#!/bin/sh\n"
        f"a=$(openssl pkey -in {folder}/svid.key -pubout)\n"
        f"b=$(openssl x509 -in {folder}/svid.pem -pubkey -noout)\n"
        f'[ "$a" = "$b" ] && openssl x509 -in {folder}/svid.pem -serial -noout >> {counted}\n'
        "exit 3\n"
    )
    check.chmod(0o700)
    command = [
        *("python", "-m", "meshwarden", "identity", "write", "--dir", str(folder)),
        *("--run", str(check), "--socket", f"unix://{agent.place.socket}"),
    ]
    log = tmp_path / "log"
    python = os.fspath(Path(os.sys.executable))  # type: ignore[attr-defined]
    with log.open("wb") as output:
        process = subprocess.Popen([python, *command[1:]], stdout=output, stderr=output)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and len(_lines(counted)) < 3:
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(10)
    assert len(set(_lines(counted))) >= 3
    assert "ended with 3" in log.read_text()
    # The last set and the one before, for who is reading it.
    assert len([each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()]) == 2


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_watch_shows_each_change(agent: Agent, tmp_path: Path) -> None:
    """A line of JSON each, for programs; it goes on until it is told to end."""
    log = tmp_path / "log"
    command = [*COMMAND, "identity", "watch", "-o", "json", "--socket", str(agent.place.socket)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output)
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and len(_lines(log)) < 3:
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(10)
    seen = [json.loads(line) for line in _lines(log)]
    assert len({each["svids"][0]["serial"] for each in seen}) >= 3
    assert "key" not in seen[0]["svids"][0]


def test_validate_tells_by_its_exit_code(agent: Agent) -> None:
    """0 where a token holds, 1 where it doesn't and why, 2 where nobody can be asked."""
    place = agent.place
    token = place.command("identity", "fetch", "jwt", "--audience", "a").stdout.strip()
    good = place.command("identity", "validate", token, "--audience", "a", "-o", "json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["spiffe_id"] == "spiffe://td.example/web"
    bad = place.command("identity", "validate", "-", "--audience", "b", input=token)
    assert bad.returncode == 1
    assert "not for the audience" in bad.stderr
    away = place.command("identity", "validate", token, "--audience", "a", "--socket", "/none")
    assert away.returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a workload as another user")
def test_another_user_gets_nothing_and_is_told_why(agent: Agent) -> None:
    """Promise 18: what was found, and the nearest entry. The socket is open to everybody."""
    told = served_to(agent.place.socket, NOBODY)
    assert told["code"] == "PERMISSION_DENIED"
    assert f"unix:uid:{NOBODY}" in told["message"]
    assert "spiffe://td.example/web (entry" in told["message"]
    assert f"not found: unix:uid:{os.getuid()}" in told["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a workload as another user")
def test_an_entry_reaches_its_workload_and_goes_again(agent: Agent, place: Place) -> None:
    """Both by the stream of entries, within 5 s, without a restart of anything."""
    entry = create_entry(place, agent.agent_id, "other", f"unix:uid:{NOBODY}")
    told = until(lambda: served_to(agent.place.socket, NOBODY), lambda told: told["code"] == "OK")
    assert told["ids"] == ["spiffe://td.example/other"]
    deleted = place.command("entry", "delete", entry, "--yes")
    assert deleted.returncode == 0, deleted.stderr
    told = until(lambda: served_to(agent.place.socket, NOBODY), lambda told: told["code"] != "OK")
    assert told["code"] == "PERMISSION_DENIED"


def until(
    ask: Callable[[], dict[str, Any]], is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Ask until the answer is right, for 5 s and the time of the last question."""
    end = time.monotonic() + 5
    while not is_so(told := ask()) and time.monotonic() < end:
        pass
    return told


def test_status_tells_how_the_agent_is(agent: Agent) -> None:
    """For people and for programs; a script sees by the exit code whether it is connected."""
    served(agent.place.socket)
    run = ["agent", "status", "--runtime-dir", str(agent.place.folder / "run")]
    told = agent.place.command(*run, "-o", "json")
    assert told.returncode == 0, told.stderr
    status = json.loads(told.stdout)
    assert status["agent"].startswith("spiffe://td.example/meshwarden/agent/join_token/")
    assert status["connected"]
    assert status["entries"] >= 1
    assert status["identities"] >= 1
    assert status["own_expires_ns"] > time.time_ns()
    shown = agent.place.command(*run)
    assert "connected        yes" in shown.stdout
