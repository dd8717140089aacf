"""What the processes keep to themselves: environment, folders, sockets, ports."""

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.instance import Instance
from tests.fakes.envoy import check_request

UNTOLD = "correct horse battery staple"


@pytest.fixture(scope="module")
def instance(new_place: NewPlace) -> Iterator[Instance]:
    """Run one whose environment holds a secret, by an operator with a careless umask."""
    before = os.umask(0)
    try:
        running = new_place({"server.fronts": 2}).start(environ={"DATABASE_PASSWORD": UNTOLD})
    finally:
        os.umask(before)
    with running as instance:
        instance.wait_ready()
        with channel_to(instance.place.port) as channel:
            call(channel, CHECK, check_request("/public/a").SerializeToString())
        instance.wait_for((instance.place.state_dir / "decisions.jsonl").exists)
        yield instance


def children(instance: Instance) -> dict[str, int]:
    """Name and process id of control and the fronts."""
    return {"control": instance.control, **instance.pids("front")}


def environment(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_no_secret_of_the_operators_environment_reaches_a_child(instance: Instance) -> None:
    """Fronts run policy functions; control needs nothing from there either."""
    assert UNTOLD in environment(instance.pid).values(), "the test looks in the wrong place"
    for name, pid in children(instance).items():
        inherited = environment(pid)
        assert UNTOLD not in inherited.values(), name
        assert not [key for key in inherited if "PASSWORD" in key]


def test_folders_files_and_sockets_are_the_owners_alone(instance: Instance) -> None:
    """Whatever the umask of whoever starts the service."""
    place = instance.place
    for folder in (place.run_dir, place.state_dir):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        entries = list(folder.rglob("*"))
        assert entries
        for path in entries:
            mode = path.lstat().st_mode
            expected = 0o700 if stat.S_ISDIR(mode) else 0o600
            assert (path, oct(stat.S_IMODE(mode))) == (path, oct(expected))
    sockets = {path.name for path in place.run_dir.iterdir() if path.is_socket()}
    assert sockets >= {"public.sock", "admin.sock", "internal.sock", "supervisor.sock"}


def test_the_public_port_is_the_only_one_that_anybody_listens_on(instance: Instance) -> None:
    """Envoy's own admin interface, above all, is a socket of the owner's."""
    ports = set()
    for pid in (instance.pid, *children(instance).values()):
        ports |= listening_ports(pid)
    assert ports == {instance.place.port}


def test_every_process_may_open_many_files(instance: Instance) -> None:
    """Each sidecar holds connections open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(65_536, hard) if hard != resource.RLIM_INFINITY else 65_536
    for name, pid in children(instance).items():
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft >= wanted, name


def listening_ports(pid: int) -> set[int]:
    """Give the TCP and UDP ports that a process has bound. Source: proc(5), /proc/net/tcp."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            remote_port = fields[2].rpartition(":")[2]
            if fields[9] in inodes and remote_port == "0000":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
