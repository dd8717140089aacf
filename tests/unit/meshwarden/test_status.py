"""What processes say of themselves, and how it is read when they are gone."""

import asyncio
import logging
import os
import subprocess
from pathlib import Path

import pytest

from meshwarden import status
from meshwarden.files import RuntimeDir
from meshwarden.status import LoadState, ProcessStatus


def front(name: str = "front-0", pid: int | None = None, digest: str = "d") -> ProcessStatus:
    """Write of a front what it says of itself."""
    return ProcessStatus("front", name, pid or os.getpid(), 1, 0, digest, 2, ready=True)


def dead_pid() -> int:
    """Give the id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_living_are_listed_by_kind_and_name(tmp_path: Path) -> None:
    """Control before the fronts."""
    for name in ("front-1", "front-0"):
        status.write(tmp_path, front(name))
    status.write(tmp_path, ProcessStatus("control", "control", os.getpid(), 0, 0))
    assert [each.name for each in status.read_all(tmp_path)] == ["control", "front-0", "front-1"]


def test_the_dead_say_nothing_and_reading_changes_nothing(tmp_path: Path) -> None:
    """Only the supervisor, who knows of the death, removes what is left."""
    status.write(tmp_path, front(pid=dead_pid()))
    before = sorted((tmp_path / "status").iterdir())
    assert status.read_all(tmp_path) == []
    assert sorted((tmp_path / "status").iterdir()) == before


def test_who_gets_a_dead_processes_id_is_not_taken_for_it(tmp_path: Path) -> None:
    """`forget` removes its file and gauges, and keeps its counters."""
    runtime = RuntimeDir(tmp_path)
    status.write(tmp_path, front())
    runtime.metrics.mkdir()
    for name in ("counter", "gauge_livemax"):
        (runtime.metrics / f"{name}_{os.getpid()}.db").touch()
    runtime.forget(os.getpid())
    assert status.read_all(tmp_path) == []
    assert [path.name for path in runtime.metrics.iterdir()] == [f"counter_{os.getpid()}.db"]


def test_there_is_no_load_before_the_first(tmp_path: Path) -> None:
    """And then the newest."""
    assert status.read_load(tmp_path) == LoadState()
    status.write_load(tmp_path, LoadState(digest="a", errors=("policy.csv:1: x",)))
    assert status.read_load(tmp_path).errors == ("policy.csv:1: x",)
    status.clear(tmp_path)
    assert status.read_load(tmp_path) == LoadState()


def test_a_disk_that_takes_nothing_ends_no_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is shown is old then, and that is said."""
    (tmp_path / "status").touch()
    with caplog.at_level(logging.WARNING):
        status.write(tmp_path, front())
    assert "status is not up to date" in caplog.text


def test_a_policy_has_spread_when_the_last_front_decides_by_it(tmp_path: Path) -> None:
    """Control decides nothing, and is not waited for."""
    status.write(tmp_path, ProcessStatus("control", "control", os.getpid(), 0, 0, "old"))
    status.write(tmp_path, front("front-0", digest="new"))
    status.write(tmp_path, front("front-1", digest="old"))

    async def scenario() -> None:
        waiting = asyncio.create_task(status.until_all_decide_by(tmp_path, "new"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        status.write(tmp_path, front("front-1", digest="new"))
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scenario())
