"""A file is replaced whole, or stays as it was."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshwarden.files import replace_file

MODES = {0o600: 0o600, 0o666: 0o640}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_is_replaced_with_the_mode_asked_for(
    tmp_path: Path, mode: int, *, durable: bool
) -> None:
    """Less the umask, and whatever mode the old one had."""
    target = tmp_path / "x"
    target.write_bytes(b"old")
    target.chmod(0o444)
    before = os.umask(0o026)
    try:
        replace_file(target, b"new", mode=mode, durable=durable)
    finally:
        os.umask(before)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == MODES[mode]
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_file_that_can_not_be_replaced_stays(tmp_path: Path) -> None:
    """And nothing half-written lies beside it."""
    target = tmp_path / "x"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(target, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """Nor is it written through, should it be a link."""
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    (tmp_path / f".x.{threading.get_native_id()}").symlink_to(other)
    replace_file(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert other.read_bytes() == b"theirs"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "x"]


def test_two_threads_that_replace_one_file_each_do_so_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is held up by the disk is in nobody's way, and the last one's is there."""
    target, sync = tmp_path / "x", os.fsync
    is_held, go_on = threading.Event(), threading.Event()

    def held(descriptor: int) -> None:
        sync(descriptor)
        if not is_held.is_set():
            is_held.set()
            assert go_on.wait(10)

    monkeypatch.setattr(os, "fsync", held)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(replace_file, target, b"slow")
        assert is_held.wait(10)
        try:
            threads.submit(replace_file, target, b"quick").result()
            assert target.read_bytes() == b"quick"
        finally:
            go_on.set()
        slow.result()
    assert target.read_bytes() == b"slow"
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
