"""Bundles from a real nginx over TLS: followed, kept over an outage, agreed upon after it."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.demo.certificates import Authority
from deploy.demo.processes import free_ports
from tests.e2e.support.instance import COMMAND as MESHWARDEN
from tests.e2e.support.instance import Instance, Place
from tests.e2e.support.verdict import allows
from tests.servers.nginx import COMMAND, PACKAGE, Nginx, nginx

pytestmark = pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)

NAME = "policy.tar.gz"
TOKEN = "s3cret-of-the-server"  # noqa: S105 - nobody else's
OPEN = "p, *, *, GET, /open, allow\n"
MORE = "p, *, *, GET, /more, allow\n"
POLL_S = 1.0
# What a poll finds has to be loaded, built and taken by the fronts too, on a busy machine.
SPREAD_S = POLL_S + 5.0


class Publisher:
    """Whoever makes bundles: signs with a key of their own, counts revisions."""

    def __init__(self, folder: Path, server: Nginx) -> None:
        self.folder = folder
        self.server = server
        self.public_key = folder / "public.pem"
        self._key = folder / "key.pem"
        self._revision = 0
        for command in (
            ["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self._key],
            ["openssl", "ec", "-in", self._key, "-pubout", "-out", self.public_key],
        ):
            subprocess.run(command, check=True, capture_output=True)

    def build(self, text: str) -> bytes:
        """Make the next bundle, by the command that people use."""
        self._revision += 1
        policy, out = self.folder / "policy", self.folder / NAME
        policy.mkdir(exist_ok=True)
        (policy / "policy.csv").write_text(text)
        command = [*MESHWARDEN, "policy", "bundle", "build", policy, "-f", out]
        command += ["--sign-key", self._key, "--revision", str(self._revision)]
        subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=60)
        return out.read_bytes()

    def publish(self, text: str) -> bytes:
        """Make the next bundle and put it where it is served."""
        made = self.build(text)
        self.server.put(NAME, made)
        return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs nginx's certificate."""
    folder = tmp_path_factory.mktemp("ca")
    return Authority(folder, datetime.now(UTC))  # noqa: TID251 - certificates are made here


@pytest.fixture
def publisher(authority: Authority, tmp_path: Path) -> Iterator[Publisher]:
    """A running nginx with a first bundle."""
    shown = authority.issue("nginx", "spiffe://td/nginx")
    with nginx(free_ports(1)[0], shown, TOKEN) as server:
        made = Publisher(tmp_path, server)
        made.publish(OPEN)
        yield made


@pytest.fixture
def new_place(
    new_folder: Callable[[], Path], publisher: Publisher, authority: Authority
) -> Callable[[], Place]:
    """Give a maker of places whose policy is nginx's bundle; each poll is answered or ends soon."""
    token = publisher.folder / "token"
    token.write_text(f"{TOKEN}\n")

    def make() -> Place:
        settings = {
            "policy.source": "bundle",
            "policy.bundle.url": publisher.server.url(NAME),
            "policy.bundle.public_key": str(publisher.public_key),
            "policy.bundle.ca": str(authority.certificate),
            "policy.bundle.token_file": str(token),
            "policy.bundle.poll_s": POLL_S,
            "policy.bundle.timeout_s": 2.0,
        }
        return Place(new_folder(), {}, settings)

    return make


@pytest.fixture
def run() -> Iterator[Callable[[Place], Instance]]:
    """Give what starts an instance; the test's end stops it."""
    with ExitStack() as running:

        def start(place: Place) -> Instance:
            return running.enter_context(place.start()).wait_ready()

        yield start


def decides(instance: Instance, path: str, *, allowed: bool) -> None:
    """Wait until an instance decides so; that has to be soon."""
    port = instance.place.port
    instance.wait_for(lambda: allows(port, path) is allowed, SPREAD_S)


def test_a_new_bundle_is_in_force_soon_and_an_old_one_is_not_sent_again(
    publisher: Publisher, new_place: Callable[[], Place], run: Callable[[Place], Instance]
) -> None:
    """Rules that are gone from it are gone; the status tells revision, digest, ETag and signer."""
    instance = run(new_place())
    assert allows(instance.place.port, "/open")
    publisher.publish(MORE)
    decides(instance, "/more", allowed=True)
    assert not allows(instance.place.port, "/open")
    policy = instance.status()["policy"]
    assert policy["revision"] == 2
    assert policy["source"].startswith(publisher.server.url(NAME))
    for told in ("revision 2", "sha256 ", 'ETag "', "signed by "):
        assert told in policy["version"]
    assert policy["version"] in instance.place.command("status").stdout
    before = len(publisher.server.seen())
    begun_s = time.monotonic()
    instance.wait_for(lambda: len(publisher.server.seen()) >= before + 3)
    # From the first of three looks to the last there are two pauses, each at most a quarter short.
    assert time.monotonic() - begun_s > 2 * 0.75 * POLL_S
    assert {each["status"] for each in publisher.server.seen()[before:]} == {304}
    assert TOKEN not in instance.said()


def test_replicas_outlive_an_outage_and_agree_soon_after_it(
    publisher: Publisher, new_place: Callable[[], Place], run: Callable[[Place], Instance]
) -> None:
    """While the server is gone both decide, one that is started anew too; what was deleted
    meanwhile is denied by both once it is back.
    """
    place = new_place()
    one, two = run(new_place()), run(place)
    publisher.server.stop()
    # The one that was just asking may have been cut off in the midst of it.
    refused = [f"{publisher.server.url(NAME)}: Connection refused"]
    one.wait_for(lambda: one.status()["policy"]["errors"] == refused)
    two.stop()
    shutil.rmtree(place.run_dir)
    two = run(place)
    # Fronts answer by the copy before control has tried the server and says so.
    two.wait_for(lambda: two.status()["policy"]["restored"])
    for each in (one, two):
        assert allows(each.place.port, "/open")
    publisher.publish(MORE)
    publisher.server.start()
    for each in (one, two):
        decides(each, "/open", allowed=False)
        decides(each, "/more", allowed=True)
        each.wait_for(lambda each=each: not each.status()["policy"]["errors"])
    assert one.status()["policy"]["digest"] == two.status()["policy"]["digest"]
    assert not two.status()["policy"]["restored"]


def test_a_server_that_falls_silent_is_noticed_and_holds_up_no_stop(
    publisher: Publisher, new_place: Callable[[], Place], run: Callable[[Place], Instance]
) -> None:
    """Connections stand and nothing comes: loads end in time, and decisions and a stop go on."""
    instance = run(new_place())
    publisher.server.freeze()
    instance.wait_for(lambda: instance.status()["policy"]["errors"])
    (error,) = instance.status()["policy"]["errors"]
    assert error == f"{publisher.server.url(NAME)}: no whole answer within 2 s"
    assert allows(instance.place.port, "/open")
    publisher.server.thaw()
    publisher.publish(MORE)
    decides(instance, "/more", allowed=True)
    publisher.server.freeze()
    time.sleep(POLL_S + 0.3)
    begun_s = time.monotonic()
    instance.stop()
    assert time.monotonic() - begun_s < 10
    assert instance.code == 0


def test_an_old_bundle_is_refused_though_it_was_signed(
    publisher: Publisher, new_place: Callable[[], Place], run: Callable[[Place], Instance]
) -> None:
    """Whoever sits at the server has old ones; a restart forgets nothing of that."""
    place = new_place()
    old = publisher.build(OPEN)
    publisher.publish(MORE)
    instance = run(place)
    publisher.server.put(NAME, old)
    for _ in range(2):
        instance.wait_for(lambda: instance.status()["policy"]["errors"])  # noqa: B023 - at once
        (error,) = instance.status()["policy"]["errors"]
        assert "is of revision 2, and revision 3 was in force already" in error
        assert allows(place.port, "/more")
        assert not allows(place.port, "/open")
        instance.stop()
        instance = run(place)
