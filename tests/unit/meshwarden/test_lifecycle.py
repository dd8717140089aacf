"""What is asked of the operating system at a start."""

import os
import resource
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from meshwarden.settings import Address
from meshwarden.supervisor import lifecycle
from meshwarden.supervisor.lifecycle import (
    AddressInUseError,
    RuntimeDirError,
    child_environment,
    lock_address,
    lock_dir,
    make_private_dir,
    raise_file_limit,
)


def free_address(host: str = "127.0.0.1") -> Address:
    """Find a port that nobody listens on."""
    with closing(socket.create_server((host, 0))) as server:
        return Address(host, server.getsockname()[1])


def mode(path: Path) -> int:
    """Give the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_an_address_is_held_by_one_at_a_time() -> None:
    """Before anybody listens there; and it is free again afterwards."""
    address = free_address()
    with (
        lock_address(address, "listen.address"),
        pytest.raises(AddressInUseError, match=rf"listen\.address: another .* holds {address}"),
        lock_address(address, "listen.address"),
    ):
        pass
    with lock_address(address, "listen.address"):
        pass


@pytest.mark.parametrize("wild", ["0.0.0.0", "::"])
def test_every_interface_overlaps_each_one(wild: str) -> None:
    """Whichever of the two comes first."""
    one = free_address()
    everywhere = Address(wild, one.port)
    for first, second in ((one, everywhere), (everywhere, one)):
        with (
            lock_address(first, "x"),
            pytest.raises(AddressInUseError, match="overlaps"),
            lock_address(second, "x"),
        ):
            pass


def test_other_ports_and_other_addresses_are_free() -> None:
    """An instance holds no more than its own."""
    one = free_address()
    with lock_address(one, "x"):
        with lock_address(Address("127.0.0.2", one.port), "x"):
            pass
        with lock_address(free_address(), "x"):
            pass


def test_a_port_that_somebody_serves_is_not_taken_even_if_it_is_meant_to_be_shared() -> None:
    """SO_REUSEPORT would let both bind."""
    address = free_address()
    with closing(socket.socket()) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address.host, address.port))
        server.listen()
        with (
            pytest.raises(AddressInUseError, match="can't be bound: Address already in use; ano"),
            lock_address(address, "x"),
        ):
            pass


def test_connections_that_are_still_ending_keep_nobody_out() -> None:
    """A service that is started again finds its own of before in TIME_WAIT."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
        client = socket.create_connection((address.host, address.port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    with lock_address(address, "x"):
        pass


def test_a_folder_is_held_by_one_at_a_time_whatever_it_is_called(tmp_path: Path) -> None:
    """A link to it is the same folder."""
    folder, link = tmp_path / "run", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with (
        lock_dir(folder, "runtime.runtime_dir"),
        pytest.raises(RuntimeDirError, match=r"runtime\.runtime_dir: another Meshwarden instance"),
        lock_dir(link, "runtime.runtime_dir"),
    ):
        pass


def test_nobody_without_the_folder_can_hold_it(tmp_path: Path) -> None:
    """Any user may take any abstract name: that must keep no service from its next start."""
    inode = tmp_path.stat()
    with closing(socket.socket(socket.AF_UNIX)) as other:
        other.bind(f"\0meshwarden-dir:{inode.st_dev}:{inode.st_ino}")
        with lock_dir(tmp_path, "x"):
            pass


def test_a_folder_is_made_with_its_parents_for_the_owner_alone(tmp_path: Path) -> None:
    """Nobody else enters it."""
    folder = tmp_path / "a" / "b"
    make_private_dir(folder, "x")
    assert mode(folder) == 0o700


def test_an_empty_folder_is_closed_to_others(tmp_path: Path) -> None:
    """As mkdir makes it by hand."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    make_private_dir(folder, "x")
    assert mode(folder) == 0o700


def test_a_folder_that_others_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Somebody named /tmp by mistake."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "theirs").touch()
    with pytest.raises(RuntimeDirError, match="open to other users"):
        make_private_dir(folder, "runtime.runtime_dir")
    assert mode(folder) == 0o777


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    """By the setting's name."""
    (tmp_path / "run").touch()
    with pytest.raises(RuntimeDirError, match=r"runtime.state_dir: .*run is not a directory"):
        make_private_dir(tmp_path / "run", "runtime.state_dir")


def test_a_folder_whose_name_leaves_no_room_for_sockets_is_refused(tmp_path: Path) -> None:
    """Said at the start, not by a bind that fails later."""
    long = tmp_path / ("a" * 100)
    with pytest.raises(RuntimeDirError, match="too long to hold sockets"):
        make_private_dir(long, "runtime.runtime_dir", holds_sockets=True)
    assert not long.exists()


def test_a_child_inherits_a_short_list_and_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A secret of the operator's is not on it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("LD_PRELOAD", "/tmp/evil.so")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    made = child_environment({"GIVEN": "1"})
    assert "AWS_SECRET_ACCESS_KEY" not in made
    assert "LD_PRELOAD" not in made
    assert (made["TZ"], made["GIVEN"]) == ("Europe/Berlin", "1")


def test_the_file_limit_is_raised_and_never_lowered() -> None:
    """As far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        raised = raise_file_limit(512)
        assert raised == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(512, hard)
        assert raise_file_limit(300) == raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FOREIGN = """
import sys
sys.path.insert(0, {folder!r})
import authz  # somebody else's, which comes first on the path
from meshwarden.supervisor.lifecycle import ForeignPackageError, check_own_packages
try:
    check_own_packages()
except ForeignPackageError as error:
    print(error)
"""


def test_a_package_of_our_name_that_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    """Some of the names are on PyPI too."""
    (tmp_path / "authz").mkdir()
    (tmp_path / "authz" / "__init__.py").touch()
    lifecycle.check_own_packages()
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert f"package 'authz' comes from {tmp_path / 'authz'}" in done.stdout
    assert "environment of its own" in done.stdout
