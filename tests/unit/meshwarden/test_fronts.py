"""A front's slot: one that serves, renewed and started again, whatever comes between."""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import find_libpython
import pytest

from meshwarden import status
from meshwarden.files import CLIENTS_SDS, SERVER_SDS, RuntimeDir
from meshwarden.settings import Listen, Runtime, Server, Settings, Tls
from meshwarden.supervisor import fronts, port_secrets
from meshwarden.supervisor.front_programs import FrontPrograms, find_programs
from meshwarden.supervisor.fronts import FrontSlot, FrontStartError
from meshwarden.supervisor.hot_restart import remove_leftovers
from tests.fakes import envoy_program


class World:
    """A slot of fake Envoys.

    Attributes:
        slot: With a port of plain text.
        tls_slot: With one whose certificate control issues.
    """

    def __init__(self, folder: Path) -> None:
        program = folder / "envoy"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {envoy_program.__file__} "$@"\n')
        program.chmod(0o755)
        self.runtime = RuntimeDir(folder)
        self.runtime.metrics.mkdir()
        settings = Settings(
            runtime=Runtime(folder, folder), server=Server(drain_s=0.5, restart_backoff_max_s=0.1)
        )
        programs = FrontPrograms(program, Path("/module.so"), Path("libc.so.6"))
        self.slot = FrontSlot(0, settings, self.runtime, programs)
        with_tls = replace(settings, listen=Listen(tls=Tls(svid=True)))
        self.tls_slot = FrontSlot(1, with_tls, self.runtime, programs)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Keep the slot running while a scenario goes on, then stop it."""

        async def both() -> None:
            keeping = asyncio.create_task(self.slot.keep_running())
            try:
                async with asyncio.timeout(30):
                    await scenario()
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
                await self.slot.drain_and_stop()

        asyncio.run(both())

    def fate(self, **fates: str) -> None:
        """Say how processes come to grief, by serial number, as in `_2="dies"`."""
        told = {serial.removeprefix("_"): fate for serial, fate in fates.items()}
        (self.runtime.path / "fate").write_text(json.dumps(told))

    def pids(self) -> list[int]:
        """The living processes, in the order of their starts."""
        return [each.pid for each in status.read_all(self.runtime.path)]

    def asked(self, serial: int) -> list[str]:
        """What a process was asked on its admin socket, but for whether it is ready."""
        lines = (self.runtime.path / f"asked.{serial}").read_text().splitlines()
        return [line for line in lines if line != "/ready"]

    def leftovers(self) -> list[str]:
        """Files of fronts that are there."""
        found = [path.name for path in self.runtime.path.iterdir()]
        return [name for name in found if name.startswith(("hr_", "front-"))]

    async def serving(self, other_than: int = 0) -> int:
        """Wait until one serves; give its process id."""
        while not self.slot.is_serving or self.pids()[-1:] in ([], [other_than]):
            await asyncio.sleep(0.01)
        return self.pids()[-1]

    def memory(self) -> list[Path]:
        """What the processes of the slot have left in shared memory."""
        ids = {path.name.split(".")[1] for path in self.runtime.path.glob("pid.*")}
        names = (Path("/dev/shm") / f"envoy_shared_memory_{base_id}0" for base_id in ids)
        return [path for path in names if path.exists()]

    async def until_started(self, processes: int) -> None:
        """Wait until that many were started, with the base id of the first."""
        while len(list(self.runtime.path.glob("pid.*"))) < processes:
            await asyncio.sleep(0.001)

    async def settled(self) -> list[int]:
        """Wait until one serves and no other is left."""
        while not self.slot.is_serving or len(self.pids()) != 1:
            await asyncio.sleep(0.01)
        return self.pids()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Give a slot in a folder with a short path; in the end nothing of it is left."""
    monkeypatch.setattr(fronts, "_PARENT_GRACE_S", 0.2)
    with tempfile.TemporaryDirectory(prefix="mw-") as folder:
        world = World(Path(folder))
        yield world
        assert world.leftovers() == []
        assert world.pids() == []
        assert world.memory() == []


def test_a_front_that_dies_is_started_again(world: World) -> None:
    """What the dead one left is gone."""

    async def scenario() -> None:
        first = await world.serving()
        os.kill(first, signal.SIGKILL)
        second = await world.serving(other_than=first)
        assert world.pids() == [second]
        assert not any(".1." in name for name in world.leftovers())

    world.run(scenario)


def test_a_front_that_dies_before_it_is_ready_is_started_again(world: World) -> None:
    """Twice, even."""
    world.fate(_1="dies", _2="dies")

    async def scenario() -> None:
        await world.serving()
        assert not (world.runtime.path / "asked.2").exists()

    world.run(scenario)


def test_a_renewed_front_has_another_process_and_the_old_one_has_left(world: World) -> None:
    """Both were there for a while, by one base id."""

    async def scenario() -> None:
        old = await world.serving()
        await world.slot.renew()
        assert world.slot.is_serving
        (new,) = world.pids()
        assert new != old
        await world.slot.renew()
        assert world.pids() != [new]

    world.run(scenario)


@pytest.mark.parametrize("fate", ["dies", "hangs"])
def test_a_renewal_that_would_fail_is_found_out_before_it_begins(
    fate: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is as it was, and the next renewal may succeed."""
    monkeypatch.setattr(fronts, "_READY_TIMEOUT_S", 2.5)
    world.fate(_2=fate)

    async def scenario() -> None:
        old = await world.serving()
        with pytest.raises(FrontStartError, match="rehearsal"):
            await world.slot.renew()
        assert len(list(world.runtime.path.glob("pid.*"))) == 1, "an heir was begun"
        assert world.pids() == [old]
        await world.slot.renew()
        assert world.pids() != [old]

    world.run(scenario)


@pytest.mark.parametrize("fate", ["dies", "hangs"])
def test_an_heir_that_fails_in_spite_of_its_rehearsal_leaves_the_old_one_serving(
    fate: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is left."""
    monkeypatch.setattr(fronts, "_READY_TIMEOUT_S", 2.5)
    world.fate(_3=fate)

    async def scenario() -> None:
        old = await world.serving()
        with pytest.raises(FrontStartError):
            await world.slot.renew()
        assert world.slot.is_serving
        assert world.pids() == [old]

    world.run(scenario)


def test_a_front_that_dies_while_its_heir_starts_is_replaced(world: World) -> None:
    """By the heir, if that gets ready; nothing is started beside it."""

    async def scenario() -> None:
        old = await world.serving()
        renewing = asyncio.create_task(world.slot.renew())
        await world.until_started(2)
        os.kill(old, signal.SIGKILL)
        await renewing
        assert len(await world.settled()) == 1

    world.run(scenario)


def test_a_front_that_dies_while_a_failing_heir_starts_is_started_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is left; another comes."""
    monkeypatch.setattr(fronts, "_READY_TIMEOUT_S", 2.5)
    world.fate(_3="hangs")

    async def scenario() -> None:
        old = await world.serving()
        renewing = asyncio.create_task(world.slot.renew())
        await world.until_started(2)
        os.kill(old, signal.SIGKILL)
        with pytest.raises(FrontStartError):
            await renewing
        await world.serving(other_than=old)

    world.run(scenario)


def test_an_heir_that_dies_at_once_leaves_no_gap_for_long(world: World) -> None:
    """While its predecessor still drains."""

    async def scenario() -> None:
        old = await world.serving()
        renewing = asyncio.create_task(world.slot.renew())
        while world.slot._current is None or world.slot._current.serial == 1:
            await asyncio.sleep(0.01)
        heir = world.pids()[-1]
        os.kill(heir, signal.SIGKILL)
        await renewing
        while (await world.settled()) in ([heir], [old]):
            await asyncio.sleep(0.01)

    world.run(scenario)


def test_a_stop_drains_first(world: World) -> None:
    """Connections are told to go, listeners are closed, and then they are counted."""

    async def scenario() -> None:
        await world.serving()

    world.run(scenario)
    assert world.asked(1) == [
        "/drain_listeners?graceful&skip_exit",
        "/drain_listeners",
        "/stats?filter=^http.public.downstream_cx_active$",
    ]


def test_a_stop_in_the_middle_of_a_renewal_waits_for_its_end(world: World) -> None:
    """Then the heir is drained, and both are gone."""

    async def scenario() -> None:
        await world.serving()
        renewing = asyncio.create_task(world.slot.renew())
        await world.until_started(2)
        await world.slot.drain_and_stop()
        assert world.pids() == []
        await renewing

    world.run(scenario)
    assert "/drain_listeners" in world.asked(3)


def test_a_stop_before_the_first_is_ready_ends_it_undrained(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to drain."""
    world.fate(_1="hangs")

    async def scenario() -> None:
        await world.until_started(1)

    world.run(scenario)
    assert "could not be asked" not in caplog.text


def test_nothing_is_started_after_a_stop(world: World) -> None:
    """A renewal neither."""

    async def scenario() -> None:
        await world.serving()
        await world.slot.drain_and_stop()
        await world.slot.renew()
        assert world.pids() == []

    world.run(scenario)


def test_a_kill_ends_all_of_a_slot(world: World) -> None:
    """Without a drain."""

    async def scenario() -> None:
        await world.serving()
        await world.slot.kill()
        assert world.pids() == []

    world.run(scenario)
    assert world.asked(1) == []


@contextlib.asynccontextmanager
async def control(world: World, *, is_hung: bool = False) -> AsyncIterator[None]:
    """Something that listens where control does; it greets as a gRPC server does, or is hung."""

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_hung:
            writer.write(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS, empty.
        await over.wait()
        writer.close()

    over = asyncio.Event()
    async with await asyncio.start_unix_server(connected, world.runtime.internal_socket):
        try:
            yield
        finally:
            over.set()


async def told(world: World, serial: int) -> str:
    """What the nth process with a certificate of control's was told, once it was."""
    file = world.runtime.front_bootstrap("front-1", serial)
    while not file.exists() or not (text := file.read_text()).endswith("}"):
        await asyncio.sleep(0.01)
    return text


@pytest.fixture
def secure(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world of less patience, where its other slot runs."""
    monkeypatch.setattr(fronts, "_CONTROL_START_S", 0.5)
    monkeypatch.setattr(port_secrets, "_GREETING_S", 0.2)
    world.slot = world.tls_slot
    return world


def keep(world: World) -> None:
    """Have what an earlier control has kept."""
    for name in (SERVER_SDS, CLIENTS_SDS):
        world.runtime.secret(name).write_text("{}")


def test_a_front_gets_its_certificate_from_control_which_has_just_been_started(
    secure: World,
) -> None:
    """What an earlier run has kept isn't taken while control only needs its time to start."""
    keep(secure)

    async def scenario() -> None:
        await asyncio.sleep(0.2)
        async with control(secure):
            config = await told(secure, 1)
        assert str(secure.runtime.internal_socket) in config
        assert "path_config_source" not in config

    secure.run(scenario)


@pytest.mark.parametrize("is_hung", [False, True])
def test_a_front_that_starts_without_control_watches_what_was_kept(
    is_hung: bool,  # noqa: FBT001
    secure: World,
) -> None:
    """Also where control is there and stands still; its heir gets its own from control again."""
    keep(secure)

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as hung:
            if is_hung:
                await hung.enter_async_context(control(secure, is_hung=True))
            config = await told(secure, 1)
        assert config.count(".secret.json") == 2
        assert str(secure.runtime.internal_socket) not in config
        await secure.serving()
        async with control(secure):
            await secure.slot.renew()
            assert "path_config_source" not in await told(secure, 3)  # Its rehearsal was the 2nd.

    secure.run(scenario)


def test_without_control_and_anything_kept_no_front_is_started(
    secure: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Envoy would refuse to start; it is said what is waited for."""
    monkeypatch.setattr(port_secrets, "_PATIENCE_S", 0.3)

    async def scenario() -> None:
        while "front-1 waits for control" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not secure.leftovers()
        keep(secure)
        await secure.serving()

    secure.run(scenario)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    """Here and in shared memory, by the base ids in the names of sockets."""
    runtime = RuntimeDir(tmp_path)
    memory = Path("/dev/shm") / "envoy_shared_memory_1999999980"
    memory.touch()
    for name in ("hr_parent_1999999982", "hr_udp_child_1999999981", "hr_odd"):
        (tmp_path / name).touch()
    (tmp_path / "settings.json").touch()
    remove_leftovers(runtime)
    assert not memory.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_without_libpython_it_is_said_which_package_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Debian splits it off."""
    pytest.importorskip("pyvoy", reason="no pyvoy for this platform")
    monkeypatch.setattr(find_libpython, "candidate_paths", lambda: ["/no/libpython3.11.so"])
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt-get install libpython{version}" in str(find_programs())


def test_without_pyvoy_it_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out where it has no wheel."""
    real = importlib.util.find_spec

    def find_spec(name: str, *rest: Any) -> Any:
        return None if name == "pyvoy" else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert find_programs() == "the package pyvoy is not installed"


def test_elsewhere_than_on_linux_with_glibc_there_are_no_fronts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in Alpine's containers."""
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert find_programs() == "pyvoy runs on Linux with glibc only"
