"""Commands elsewhere: let in by token or certificate, held to their role, put on record."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.demo.processes import free_ports
from meshwarden.control.needs import GUARDED_SERVICES, NEEDS
from tests.e2e.public_port.test_private_methods import PRIVATE, outcome_of
from tests.e2e.support.clients import call, channel_to, tls_channel
from tests.e2e.support.mesh import Identities, make_identities
from tests.e2e.support.reflection import services
from tests.e2e.support.service import Service

OPEN = "p, *, shop, GET, /open, allow\n"
WEB = "mesh.example/ns/shop/sa/web"
STATUS = "/meshwarden.v1.Admin/Status"


def meshwarden(
    *arguments: object, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody would who has no config file."""
    plain = {name: value for name, value in os.environ.items() if "MESHWARDEN" not in name}
    return subprocess.run(
        [sys.executable, "-m", "meshwarden", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**plain, **(environ or {})},
        cwd="/",
    )


class World:
    """A service, and somebody on another machine."""

    def __init__(self, service: Service, identities: Identities) -> None:
        self.service = service
        self.identities = identities
        self.address = f"127.0.0.1:{service.port}"
        self.token = service.folder / "ci.token"

    def owner(self, *arguments: object) -> str:
        """Run a command as the owner; give what it prints."""
        done = meshwarden(*arguments, "--config", self.service.config)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def elsewhere(self, *arguments: object, token: bool = True) -> tuple[int, str]:
        """Run a command as somebody elsewhere; give its exit code and all it prints."""
        environ = {
            "MESHWARDEN_SERVER": self.address,
            "MESHWARDEN_SERVER_CA": str(self.identities.authority),
        }
        if token:
            environ["MESHWARDEN_TOKEN_FILE"] = str(self.token)
        done = meshwarden(*arguments, environ=environ)
        return done.returncode, done.stdout + done.stderr

    def trail(self) -> list[dict[str, Any]]:
        """The audit trail, newest first."""
        found: list[dict[str, Any]] = json.loads(self.owner("policy", "audit", "-o", "json"))
        return found

    def policy(self, text: str) -> Path:
        """Write a policy folder."""
        folder = self.service.folder / "mine"
        folder.mkdir(exist_ok=True)
        (folder / "policy.csv").write_text(text)
        return folder


@pytest.fixture(scope="module", params=["front", "grpcio"])
def world(
    request: pytest.FixtureRequest, new_folder: Callable[[], Path], identities: Identities
) -> Iterator[World]:
    """Run it; "token:ci" is an author."""
    settings = {
        "listen.tls.certificate": str(identities.catalog.certificate),
        "listen.tls.key": str(identities.catalog.key),
        "listen.tls.client_ca": str(identities.authority),
        "admin.remote": True,
        "policy.source": "store",
        "server.transport": request.param,
        "fallback.http_address": f"127.0.0.1:{free_ports(1)[0]}",
    }
    with Service(new_folder(), {}, settings) as service:
        made = World(service, identities)
        _settled(made)
        secret = made.owner("admin", "token", "create", "ci", "--role", "author")
        made.token.write_text(secret)
        made.token.chmod(0o600)
        yield made


def test_a_secret_is_alone_on_stdout(world: World) -> None:
    """So that it can be put into a file, and nothing of it is anywhere else."""
    secret = world.token.read_text()
    assert secret.startswith("mwt_")
    assert secret.count("\n") == 1
    assert secret.strip() not in (world.service.folder / "meshwarden.log").read_text()


def test_a_policy_is_applied_from_elsewhere_by_token(world: World) -> None:
    """The history has the token's name, the trail its address."""
    code, said = world.elsewhere("policy", "apply", world.policy(OPEN), "-m", "from afar", "--yes")
    assert code == 0, said
    code, said = world.elsewhere("policy", "history", "-o", "json")
    assert code == 0, said
    made = json.loads(said)[0]
    assert (made["author"], made["message"]) == ("token:ci", "from afar")
    entry = world.trail()[0]
    assert (entry["who"], entry["source"]) == ("token:ci", "127.0.0.1")
    assert (entry["action"], entry["outcome"]) == ("policy.apply", "done")


def test_status_reload_and_questions_work_from_elsewhere(world: World) -> None:
    """In the words of the service on this machine."""
    code, said = world.elsewhere("status", "-o", "json")
    assert code == 0, said
    here = json.loads(world.owner("status", "-o", "json"))
    there = json.loads(said)
    assert there.keys() == here.keys() - {"ok"}
    assert there["policy"].keys() == here["policy"].keys()
    assert there["policy"]["digest"] == here["policy"]["digest"]
    assert [each["name"] for each in there["processes"]] == [
        each["name"] for each in here["processes"]
    ]
    assert world.elsewhere("reload")[0] == 0
    world.elsewhere("policy", "apply", world.policy(OPEN), "--yes")
    asked = ("--service", "shop", "--method", "GET", "--path", "/open")
    code, said = world.elsewhere("policy", "who-can", *asked)
    assert (code, "policy.csv:1" in said) == (0, True), said
    code, said = world.elsewhere("policy", "diff", "live", world.policy(OPEN))
    assert code == 0, said


def test_who_may_not_is_told_who_he_is_and_what_it_takes(world: World) -> None:
    """And that he asked is on record."""
    code, said = world.elsewhere("admin", "grant", "token:ci", "admin")
    assert code == 2
    assert "you are token:ci" in said
    assert "needs the role admin, and yours is author" in said
    entry = world.trail()[0]
    assert (entry["who"], entry["action"], entry["outcome"]) == (
        "token:ci",
        "access.grant",
        "refused",
    )


def test_without_a_credential_nothing_is_told(world: World) -> None:
    """Not even the status."""
    code, said = world.elsewhere("policy", "history", token=False)
    assert code == 2
    assert "no credential" in said


def test_a_revoked_token_is_out_at_once(world: World) -> None:
    """And its holder learns that it was revoked."""
    file = world.service.folder / "old.token"
    file.write_text(world.owner("admin", "token", "create", "old", "--role", "viewer"))
    file.chmod(0o600)
    options = ["--server", world.address, "--server-ca", world.identities.authority]
    assert meshwarden("admin", "whoami", *options, "--token-file", file).returncode == 0
    assert "revoked" in world.owner("admin", "token", "revoke", "old")
    done = meshwarden("admin", "whoami", *options, "--token-file", file)
    assert done.returncode == 2
    assert "was revoked" in done.stderr


def test_options_say_it_as_variables_do(world: World) -> None:
    """And count for more."""
    options = ["--server", world.address, "--server-ca", world.identities.authority]
    wrong = {"MESHWARDEN_SERVER": "127.0.0.1:1", "MESHWARDEN_TOKEN_FILE": "/no/such"}
    done = meshwarden(
        "admin", "whoami", *options, "--token-file", world.token, "-o", "json", environ=wrong
    )
    assert json.loads(done.stdout)["name"] == "token:ci", done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server-ca", "{other}"], "--server-ca is not who vouches for it"),
        (["--server-name", "another.example"], "it is not for another.example"),
        (["--token-file", "{config}"], "holds no token"),
        (["--token-file", "/no/such"], "No such file"),
        (["--client-cert", "/no/such"], "belong together"),
        (["--server", "127.0.0.1"], "write HOST:PORT"),
        (["--server", "127.0.0.1:1"], "nobody listens there"),
        (["--server", "no-such-host.invalid:1"], "no host of the name"),
    ],
)
def test_what_is_wrong_is_told_in_plain_words(
    world: World, new_folder: Callable[[], Path], options: list[str], said: str
) -> None:
    """Not in those of a TLS library."""
    other = new_folder() / "other.pem"
    other.write_bytes(make_identities(other.parent).authority.read_bytes())
    filled = [each.format(other=other, config=world.service.config) for each in options]
    code, told = world.elsewhere("policy", "history", *filled)
    assert code == 2
    # A mistake in options comes in a box.
    assert said in " ".join(told.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", " ").split())


def test_every_guarded_method_wants_a_credential(world: World) -> None:
    """Whichever it is, of all that can be reached; and no other can."""
    with tls_channel(world.service.port, world.identities.authority, None) as channel:
        for method in PRIVATE:
            is_guarded = method.split("/")[1] in GUARDED_SERVICES
            wanted = grpc.StatusCode.UNAUTHENTICATED if is_guarded else None
            got = outcome_of(channel, method)
            assert got in {wanted, grpc.StatusCode.UNIMPLEMENTED}, method
            if method in {STATUS, "/meshwarden.v1.Policy/Apply"}:
                assert got is wanted
        assert services(channel) >= {"meshwarden.v1.Access", "meshwarden.v1.Policy"}
    assert set(NEEDS) <= set(PRIVATE)


def test_a_viewer_reaches_nothing_that_changes_anything(world: World) -> None:
    """Method by method, as the table of needs has it."""
    file = world.service.folder / "eye.token"
    secret = world.owner("admin", "token", "create", "eye", "--role", "viewer").strip()
    file.write_text(secret)
    metadata = [("authorization", f"Bearer {secret}")]
    with tls_channel(world.service.port, world.identities.authority, None) as channel:
        for method, role in NEEDS.items():
            if role == "viewer":
                continue
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, method, metadata=metadata)
            assert refused.value.code() in {
                grpc.StatusCode.PERMISSION_DENIED,
                # A service of NEEDS that this instance doesn't run.
                grpc.StatusCode.UNIMPLEMENTED,
            }, method
        assert call(channel, STATUS, metadata=metadata)


def test_megabytes_of_a_stranger_are_not_read(world: World) -> None:
    """He is refused before."""
    with (
        tls_channel(world.service.port, world.identities.authority, None) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        call(channel, "/meshwarden.v1.Policy/Apply", b"\xff" * 30_000_000)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("transport", ["front", "grpcio"])
def test_a_certificate_is_let_in_by_its_role(
    new_folder: Callable[[], Path], identities: Identities, transport: str
) -> None:
    """Over mutual TLS, by both transports; grpcio has to require the certificate."""
    settings = {
        "listen.tls.certificate": str(identities.catalog.certificate),
        "listen.tls.key": str(identities.catalog.key),
        "listen.tls.client_ca": str(identities.authority),
        "listen.tls.require_client_certificate": transport == "grpcio",
        "admin.remote": True,
        "server.transport": transport,
        "fallback.http_address": f"127.0.0.1:{free_ports(1)[0]}",
    }
    with Service(new_folder(), {"policy.csv": OPEN}, settings) as service:
        world = World(service, identities)
        _settled(world)
        world.owner("admin", "grant", f"spiffe://{WEB}", "viewer")
        mine = ["--client-cert", identities.web.certificate, "--client-key", identities.web.key]
        code, said = world.elsewhere("admin", "whoami", *mine, token=False)
        assert (code, WEB in said) == (0, True), said
        _, said = world.elsewhere("admin", "grant", WEB, "admin", *mine, token=False)
        assert f"you are {WEB}" in said
        batch = identities.batch
        theirs = ["--client-cert", batch.certificate, "--client-key", batch.key]
        code, said = world.elsewhere("admin", "whoami", *theirs, token=False)
        assert (code, "you have none" in said) == (2, True), said
        # A folder is the policy here, and roles are kept all the same.
        _, said = world.elsewhere("policy", "history", *mine, token=False)
        assert "no revisions" in said


@pytest.mark.parametrize("transport", ["front", "grpcio"])
def test_a_token_on_a_plain_port_is_refused_and_called_leaked(
    new_folder: Callable[[], Path], identities: Identities, transport: str
) -> None:
    """On loopback too; the trail says whose it was, and nothing says what it was."""
    settings = {
        "admin.remote": True,
        "server.transport": transport,
        "fallback.http_address": f"127.0.0.1:{free_ports(1)[0]}",
    }
    with Service(new_folder(), {"policy.csv": OPEN}, settings) as service:
        _settled(World(service, identities))
        assert "every remote call" in (service.folder / "meshwarden.log").read_text()
        config = ["--config", service.config]
        secret = meshwarden("admin", "token", "create", "ci", *config).stdout.strip()
        with channel_to(service.port) as channel, pytest.raises(grpc.RpcError) as refused:
            call(channel, STATUS, metadata=[("authorization", f"Bearer {secret}")])
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "considered leaked" in refused.value.details()
        entries = json.loads(meshwarden("policy", "audit", "-o", "json", *config).stdout)
        assert (entries[0]["who"], entries[0]["action"]) == ("token:ci", "admin.status")
        assert "leaked" in entries[0]["detail"]
        everything = b"".join(
            file.read_bytes() for file in service.folder.rglob("*") if file.is_file()
        )
        assert secret[17:].encode() not in everything
        # The command doesn't even send it.
        file = service.folder / "ci.token"
        file.write_text(secret)
        options = ["--server", f"127.0.0.1:{service.port}", "--token-file", file]
        done = meshwarden("admin", "whoami", *options)
        assert done.returncode == 2
        assert "speaks plain text" in done.stderr
        assert len(json.loads(meshwarden("policy", "audit", "-o", "json", *config).stdout)) == 2


def _settled(world: World) -> None:
    """Wait until the owner is answered: where grpcio serves, readiness is on another port."""
    _until(lambda: world.owner("admin", "list"))


def _until(attempt: Callable[[], object]) -> None:
    for _ in range(60):
        try:
            attempt()
        except AssertionError:
            time.sleep(0.5)
        else:
            return
    attempt()
