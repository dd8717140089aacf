"""The unix attestor tells of real processes what the kernel knows."""

import asyncio
import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.workload_attestors.unix import ADAPTER, Config
from ca.doubts import WORKLOAD_KEYS
from ca.workload import Findings, Peer

SLEEP = shutil.which("sleep") or "/bin/sleep"


def look(peer: Peer, config: Config | None = None) -> Findings:
    """Attest one process."""
    return asyncio.run(ADAPTER.build(config or Config()).attest(peer))


def texts(found: Findings) -> set[str]:
    """Give the selectors as people write them."""
    return {str(each) for each in found.selectors}


@contextmanager
def running(program: Path | str) -> Iterator[int]:
    """Run a program that sleeps; give its process id."""
    process = subprocess.Popen([str(program), "60"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_user_groups_path_and_hash_of_a_process_are_told() -> None:
    """As SPIRE spells them."""
    with running(SLEEP) as pid:
        found = look(Peer(pid, os.getuid(), os.getgid(), (os.getgid(), 54_321)))
    program = Path(SLEEP).resolve()
    # Whoever writes an entry for another name is told so.
    assert {each.value.split(":")[0] for each in found.selectors} == WORKLOAD_KEYS["unix"]
    assert texts(found) >= {
        f"unix:uid:{os.getuid()}",
        f"unix:gid:{os.getgid()}",
        f"unix:user:{pwd.getpwuid(os.getuid()).pw_name}",
        f"unix:group:{grp.getgrgid(os.getgid()).gr_name}",
        "unix:supplementary_gid:54321",
        f"unix:path:{program}",
        f"unix:sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}",
    }
    assert found.notes == ()


def test_a_file_that_took_the_programs_name_is_another_one(tmp_path: Path) -> None:
    """What runs is hashed, not what lies at its name by now; the name is not told any more."""
    program = tmp_path / "sleep"
    shutil.copy(SLEEP, program)
    with running(program) as pid:
        program.unlink()
        program.write_text("somebody else's")
        found = look(Peer(pid, os.getuid(), os.getgid(), ()))
    assert f"unix:sha256:{hashlib.sha256(Path(SLEEP).read_bytes()).hexdigest()}" in texts(found)
    assert not any(text.startswith("unix:path:") for text in texts(found))
    assert "removed or replaced" in found.notes[0]


def test_a_path_of_another_mount_namespace_is_not_told(tmp_path: Path) -> None:
    """Every user may put any file at any path of a namespace of their own."""
    fake = tmp_path / "mine"
    shutil.copy(SLEEP, fake)
    victim = tmp_path / "trusted"
    shutil.copy("/bin/true", victim)
    script = f"mount --bind {fake} {victim} && exec {victim} 60"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        exe = Path(f"/proc/{process.pid}/exe")
        _wait(lambda: process.poll() is not None or exe.readlink() == victim)
        if process.poll() is not None or exe.readlink() != victim:
            pytest.skip("may not make mount namespaces here")
        found = look(Peer(process.pid, os.getuid(), os.getgid(), ()))
    finally:
        process.kill()
        process.wait()
    assert not any(text.startswith("unix:path:") for text in texts(found))
    assert any("mount namespace" in note for note in found.notes)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a program of another user's")
def test_a_setuid_program_is_not_who_connected_before_it_ran(tmp_path: Path) -> None:
    """He may have left the connection to a child of his own, which speaks meanwhile."""
    tmp_path.chmod(0o755)
    program = tmp_path / "program"
    shutil.copy(SLEEP, program)
    os.chown(program, 54_321, 54_322)
    program.chmod(0o6755)
    with running(program) as pid:
        before = look(Peer(pid, os.getuid(), os.getgid(), ()))
        itself = look(Peer(pid, 54_321, 54_322, ()))
    kinds = {text.split(":")[1] for text in texts(before)}
    assert not kinds & {"path", "sha256"}
    assert any("another user or group than when it connected" in note for note in before.notes)
    assert f"unix:path:{program}" in texts(itself)


def test_without_the_kernels_word_groups_are_read_from_the_process() -> None:
    """For the socket said nothing, as with more groups than it tells."""
    with running(SLEEP) as pid:
        found = look(Peer(pid, 1, 1, None))
    expected = {f"unix:supplementary_gid:{gid}" for gid in os.getgroups()}
    assert {text for text in texts(found) if "supplementary_gid" in text} == expected


def test_what_may_not_be_read_is_left_out_with_a_note(tmp_path: Path) -> None:
    """The rest is told all the same, and somebody without a name is no fault."""
    found = look(Peer(1, 54_321, 54_321, ()), Config(proc=tmp_path))
    assert texts(found) == {"unix:uid:54321", "unix:gid:54321"}
    assert "no path and no sha256" in found.notes[0]


def test_a_program_is_hashed_once(tmp_path: Path) -> None:
    """Until it changes, however many processes run it."""
    attestor = ADAPTER.build(Config())
    program = tmp_path / "sleep"
    shutil.copy(SLEEP, program)

    async def twice() -> tuple[Findings, Findings]:
        return await attestor.attest(peer), await attestor.attest(peer)

    with running(program) as pid:
        peer = Peer(pid, os.getuid(), os.getgid(), ())
        first, second = asyncio.run(twice())
    assert first == second
    assert len(attestor._hashes) == 1  # type: ignore[attr-defined]


def test_programs_that_take_long_to_hash_hold_up_their_own_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may start many of a gigabyte: other work goes on, and what else is found is told."""
    going_on = threading.Event()
    hashed: list[Path] = []

    def slowly(link: Path, expected: object) -> str:
        del expected
        hashed.append(link)
        going_on.wait(20)
        return "0" * 64

    monkeypatch.setattr("adapters.workload_attestors.unix._read_hash", slowly)
    monkeypatch.setattr("adapters.workload_attestors.unix._HASH_TIMEOUT_S", 1.0)

    async def story(pids: list[int]) -> list[Findings]:
        attestor = ADAPTER.build(Config())
        ours = [Peer(pid, os.getuid(), os.getgid(), ()) for pid in pids]
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            asked = [group.create_task(attestor.attest(peer)) for peer in ours]
            while not hashed:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(0.9):
                await asyncio.to_thread(os.getpid)
        assert len(hashed) == 1
        going_on.set()
        return [task.result() for task in asked]

    with contextlib.ExitStack() as held:
        copies = [shutil.copy(SLEEP, tmp_path / f"p{number}") for number in range(40)]
        found = asyncio.run(story([held.enter_context(running(each)) for each in copies]))
    for each in found:
        assert f"unix:uid:{os.getuid()}" in texts(each)
        assert any(text.startswith("unix:path:") for text in texts(each))
        assert "no sha256: programs of its user take too long" in each.notes[0]


def test_a_program_whose_first_process_ends_is_hashed_for_the_next(tmp_path: Path) -> None:
    """Two run it and ask at once; the one whose process is gone keeps nothing from the other."""
    program = Path(shutil.copy(SLEEP, tmp_path / "p"))

    async def story(gone: int, here: int) -> tuple[Findings, Findings]:
        attestor = ADAPTER.build(Config())
        first, second = (Peer(pid, os.getuid(), os.getgid(), ()) for pid in (gone, here))
        identity = attestor._look(second)[2]  # type: ignore[attr-defined]
        one = asyncio.create_task(attestor._sha256(first, identity))  # type: ignore[attr-defined]
        found = await attestor.attest(second)
        with pytest.raises(OSError, match=r"No such (file|process)|another one"):
            await one
        return found, await attestor.attest(second)

    with running(program) as here:
        with running(SLEEP) as gone:
            pass
        for found in asyncio.run(story(gone, here)):
            expected = hashlib.sha256(program.read_bytes()).hexdigest()
            assert f"unix:sha256:{expected}" in texts(found)


def test_a_program_above_the_limit_has_no_hash() -> None:
    """Nobody makes the agent read for minutes."""
    with running(SLEEP) as pid:
        found = look(Peer(pid, os.getuid(), os.getgid(), ()), Config(max_program_bytes=10))
    assert not any(text.startswith("unix:sha256:") for text in texts(found))
    assert "no sha256" in found.notes[0]


def test_a_script_is_its_interpreter() -> None:
    """The kernel executes the interpreter: that is what can be vouched for."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = look(Peer(process.pid, os.getuid(), os.getgid(), ()))
    finally:
        process.kill()
        process.communicate()
    assert f"unix:path:{Path(sys.executable).resolve()}" in texts(found)


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        subprocess.run(["sleep", "0.01"], check=True)
