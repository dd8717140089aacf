"""A cgroup says which unit a process is in, and nobody can pretend one."""

import asyncio
from pathlib import Path

import pytest

from adapters.workload_attestors.systemd import ADAPTER, Config, unit_of
from ca.doubts import WORKLOAD_KEYS
from ca.workload import Findings, Peer


@pytest.mark.parametrize(
    ("cgroups", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/nginx.service/worker\n", "nginx.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("0::/custom.slice/custom-deep.slice/run-7.scope\n", "run-7.scope"),
        ("0::/system.slice/_cgroup.service\n", "cgroup.service"),
        ("4:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/b.service\n", "a.service"),
        ("0::/init.scope\n", "init.scope"),
        ("0::/\n", ""),
        ("0::/docker/0123\n", ""),
        ("0::/docker/nginx.service\n", ""),
        ("", ""),
        ("rubbish", ""),
    ],
)
def test_the_unit_is_the_first_one_below_the_slices(cgroups: str, unit: str) -> None:
    """In the hierarchy that systemd itself keeps."""
    assert unit_of(cgroups) == unit


def test_a_users_own_unit_is_no_unit_of_the_system() -> None:
    """Else every user could be nginx.service."""
    path = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service"
    assert unit_of(f"0::{path}\n") == "user@1000.service"


def look(tmp_path: Path, *, booted: bool) -> Findings:
    """Attest process 7 of a made-up /proc."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text("0::/system.slice/web.service\n")
    booted_dir = tmp_path if booted else tmp_path / "none"
    attestor = ADAPTER.build(Config(proc=tmp_path, booted=booted_dir))
    return asyncio.run(attestor.attest(Peer(7, 0, 0)))


def test_a_unit_has_its_own_name_and_spires(tmp_path: Path) -> None:
    """Entries written for SPIRE hold."""
    found = look(tmp_path, booted=True)
    assert {str(each) for each in found.selectors} == {
        "systemd:unit:web.service",
        "systemd:id:web.service",
    }
    assert {each.value.split(":")[0] for each in found.selectors} == WORKLOAD_KEYS["systemd"]


def test_where_systemd_is_not_the_init_a_cgroup_says_nothing(tmp_path: Path) -> None:
    """Whoever manages cgroups there may call them anything."""
    assert look(tmp_path, booted=False) == Findings()


def test_a_process_that_is_gone_is_in_no_unit(tmp_path: Path) -> None:
    """With a note that says so."""
    attestor = ADAPTER.build(Config(proc=tmp_path, booted=tmp_path))
    found = asyncio.run(attestor.attest(Peer(7, 0, 0)))
    assert not found.selectors
    assert found.notes
