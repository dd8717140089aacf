"""Folders that are no policy: the last good one stays in force, and each fault has its place."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.bad_policy.conftest import GOOD, NEXT, Witness
from tests.e2e.support.instance import Place

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared(new_place: Callable[..., Place]) -> Iterator[Witness]:
    """One instance for all of these."""
    with new_place().start() as instance:
        yield Witness(instance.wait_ready())


@pytest.fixture
def witness(shared: Witness) -> Iterator[Witness]:
    """It with its good policy, and mended after the test."""
    folder = shared.place.policy
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "policy.csv").write_text(GOOD)
    assert shared.place.command("reload").returncode == 0
    yield shared
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "policy.csv").write_text(NEXT)
    shared.recovers()


def test_a_loop_of_links_is_not_walked(witness: Witness) -> None:
    """A folder that leads to itself, files that lead to each other."""
    folder = witness.place.policy
    (folder / "team").mkdir()
    (folder / "team" / "up").symlink_to(folder)
    witness.refuses("team/up: is a link to a folder; only folders are entered")
    (folder / "team" / "up").unlink()
    (folder / "a.csv").symlink_to("b.csv")
    (folder / "b.csv").symlink_to("a.csv")
    witness.refuses("a.csv: is a link to itself")


def test_a_giant_is_refused_without_being_read(witness: Witness) -> None:
    """200 MB of rules: neither the memory of control nor the time of a load grows by them."""
    line = b"p, td/ns/a/sa/b, orders, GET, /orders/1234567890, allow\n"
    with (witness.place.policy / "giant.csv").open("wb") as file:
        for _ in range(200):
            file.write(line * (MIB // len(line)))
    assert (witness.place.policy / "giant.csv").stat().st_size > 199 * 1000 * 1000
    before = peak_bytes(witness.instance.control)
    begun_s = time.monotonic()
    witness.refuses("giant.csv: makes the policy larger than 64 MiB, the most that is read")
    took_s = time.monotonic() - begun_s
    grown = peak_bytes(witness.instance.control) - before
    assert grown < 32 * MIB
    assert took_s < 10


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells it of every process")


def test_mixed_encodings_are_told_by_line(witness: Witness) -> None:
    """UTF-8, then a line of Latin-1; a file of UTF-16; a NUL."""
    folder = witness.place.policy
    rule = "p, *, caf\u00e9, GET, /next, allow\n"
    (folder / "mixed.csv").write_bytes(rule.encode() + b"# ok\n" + rule.encode("latin-1"))
    witness.refuses("mixed.csv:3: is not UTF-8: byte 0xe9 at offset")
    (folder / "mixed.csv").write_bytes(rule.encode("utf-16"))
    witness.refuses("mixed.csv:1: is not UTF-8: byte 0xff at offset 0")
    (folder / "mixed.csv").write_bytes(rule.encode() + b"p, *, \0, GET, /x, allow\n")
    witness.refuses("mixed.csv:2: is not text: a NUL byte at offset")


def test_yaml_that_is_no_policy_is_told_by_line(witness: Witness) -> None:
    """Somebody else's YAML, a rule with a word misspelt, an abyss of brackets."""
    file = witness.place.policy / "more.yaml"
    file.write_text("# deployed\napiVersion: v1\nkind: ConfigMap\n")
    witness.refuses("more.yaml:2: 'apiVersion' is no key of a policy file")
    file.write_text("rules:\n  - allow:\n      who: '*'\n      servise: orders\n")
    witness.refuses("more.yaml:4: 'servise' is no key of a rule's body; the nearest is 'service'")
    file.write_text("[" * 200_000)
    witness.refuses("more.yaml:1: is nested more than 16 deep")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_told(witness: Witness) -> None:
    """It is not passed over."""
    (witness.place.policy / "secret.csv").touch(mode=0o000)
    witness.refuses("secret.csv: can't be read: Permission denied")
