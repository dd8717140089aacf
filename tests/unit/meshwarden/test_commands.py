"""The supervisor's socket: status, reload and restart, and whoever talks nonsense to it."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshwarden import clock, status
from meshwarden.control_socket import ask
from meshwarden.errors import SupervisorError
from meshwarden.files import RuntimeDir
from meshwarden.status import LoadState, ProcessStatus
from meshwarden.supervisor import commands
from meshwarden.supervisor.commands import CommandServer
from meshwarden.supervisor.fronts import FrontStartError


class World:
    """A command server and what it asks."""

    def __init__(self, folder: Path) -> None:
        self.runtime = RuntimeDir(folder)
        self.is_ready = True
        self.on_reload: Callable[[], None] = lambda: None
        self.restart_fault = ""

    def answer(self, line: bytes) -> dict[str, Any]:
        """Send one line; give the answer."""

        async def scenario() -> bytes:
            server = CommandServer(self.runtime, lambda: self.is_ready, self._reload, self._restart)
            await server.start()
            try:
                return await asyncio.to_thread(self._send, line)
            finally:
                await server.stop()

        return msgspec.json.decode(asyncio.run(scenario()), type=dict[str, Any])

    def ask(self, op: str) -> dict[str, Any]:
        """Ask for one operation."""
        return self.answer(msgspec.json.encode({"op": op}) + b"\n")

    def loaded(self, state: LoadState) -> Callable[[], None]:
        """Give what finishes a load with this outcome, begun now."""

        def finish() -> None:
            begun = msgspec.structs.replace(state, begun_ns=clock.monotonic_ns())
            status.write_load(self.runtime.path, begun)

        return finish

    def _reload(self) -> None:
        self.on_reload()

    async def _restart(self) -> None:
        if self.restart_fault:
            raise FrontStartError(self.restart_fault)

    def _send(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.runtime.supervisor_socket))
            connection.sendall(line)
            with connection.makefile("rb") as stream:
                return stream.readline()


@pytest.fixture
def world() -> Iterator[World]:
    """Give one in a folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="mw-") as folder:
        yield World(Path(folder))


def front(digest: str) -> ProcessStatus:
    """Write what a front says of itself."""
    return ProcessStatus("front", "front-0", os.getpid(), 3, clock.now_ns(), digest, 2, ready=True)


def test_status_is_the_policy_and_every_process(world: World) -> None:
    """Ages, not times: the asker's clock may be another."""
    load = LoadState("d" * 64, 2, clock.now_ns() - 60_000_000_000)
    status.write_load(world.runtime.path, load)
    status.write(world.runtime.path, front("d" * 64))
    told = world.ask("status")
    assert (told["ok"], told["ready"]) == (True, True)
    assert told["policy"]["digest"] == "d" * 64
    assert 60 <= told["policy"]["age_s"] < 70
    assert told["policy"]["failing_for_s"] == 0
    (process,) = told["processes"]
    assert (process["name"], process["epoch"], process["ready"]) == ("front-0", 3, True)


def test_status_before_the_first_policy_has_none(world: World) -> None:
    """And is not ready."""
    world.is_ready = False
    told = world.ask("status")
    assert (told["ready"], told["policy"]["digest"], told["policy"]["age_s"]) == (False, "", None)


def test_status_tells_since_when_loads_fail(world: World) -> None:
    """And why."""
    since_ns = clock.now_ns() - 90_000_000_000
    state = LoadState("d", errors=("policy.csv:1: x",), failed_ns=since_ns, restored=True)
    status.write_load(world.runtime.path, state)
    told = world.ask("status")["policy"]
    assert (told["errors"], told["restored"]) == (["policy.csv:1: x"], True)
    assert 90 <= told["failing_for_s"] < 100


def test_status_tells_how_declared_entries_are(world: World) -> None:
    """To whoever asks this socket: a script reads no file of ours. None where there are none."""
    assert world.ask("status")["entries"] is None
    now_ns = clock.now_ns()
    errors = ("web.yaml:8: selectors: KIND:VALUE",)
    state = status.EntriesState("/etc/entries", 12, now_ns - 60 * 10**9, errors, now_ns - 10**9)
    status.write_entries(world.runtime.path, state)
    told = world.ask("status")["entries"]
    assert 60 <= told.pop("age_s") < 70
    assert 1 <= told.pop("failing_for_s") < 10
    assert told == {"source": "/etc/entries", "count": 12, "errors": [*errors]}


def test_a_reload_answers_with_what_is_in_force_then(world: World) -> None:
    """When control has loaded and the fronts have taken it."""
    status.write_load(world.runtime.path, LoadState("old", 1, begun_ns=1))
    status.write(world.runtime.path, front("new"))
    world.on_reload = world.loaded(LoadState("new", 2))
    assert world.ask("reload") == {"ok": True, "digest": "new", "rules": 2}


def test_a_load_that_was_under_way_is_not_the_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have missed what the asker has just written."""
    monkeypatch.setattr(commands, "_RELOAD_TIMEOUT_S", 0.2)
    earlier = LoadState("old", 1, begun_ns=clock.monotonic_ns())
    world.on_reload = lambda: status.write_load(world.runtime.path, earlier)
    told = world.ask("reload")
    assert (told["ok"], told["error"]) == (
        False,
        "control did not load the policy; is it starting?",
    )


@pytest.mark.parametrize(
    ("digest", "still"), [("d" * 64, f"policy {'d' * 12} stays in force"), ("", "no policy")]
)
def test_a_refused_policy_is_told_with_what_stays(digest: str, still: str, world: World) -> None:
    """Every fault on a line."""
    world.on_reload = world.loaded(LoadState(digest, errors=("a.csv:1: x", "b.csv:2: y")))
    told = world.ask("reload")
    assert told["ok"] is False
    assert told["error"].splitlines() == ["a.csv:1: x", "b.csv:2: y", still]
    assert told["errors"] == ["a.csv:1: x", "b.csv:2: y"]


def test_a_restart_names_the_new_processes(world: World) -> None:
    """Fronts only."""
    status.write(world.runtime.path, front("d"))
    status.write(world.runtime.path, ProcessStatus("control", "control", os.getpid(), 0, 0))
    told = world.ask("restart_fronts")
    assert told == {"ok": True, "fronts": [{"name": "front-0", "pid": os.getpid()}]}


def test_a_renewal_that_fails_is_told(world: World) -> None:
    """In the front's words."""
    world.restart_fault = "it ended (3) before it was ready"
    told = world.ask("restart_fronts")
    assert told == {
        "ok": False,
        "error": "a front could not be renewed: it ended (3) before it was ready",
    }


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b'{"op": 5}\n', b"{}\n", b"\xff\n"]
)
def test_nonsense_is_refused_in_words(line: bytes, world: World) -> None:
    """And harms nobody."""
    told = world.answer(line)
    assert told["ok"] is False
    assert told["error"]


def test_the_socket_is_the_owners(world: World) -> None:
    """Being able to connect is the authority."""

    async def scenario() -> int:
        server = CommandServer(world.runtime, lambda: True, lambda: None, world._restart)
        await server.start()
        mode = world.runtime.supervisor_socket.stat().st_mode
        await server.stop()
        return mode & 0o777

    assert asyncio.run(scenario()) == 0o600


def test_askers_that_hang_up_or_say_nothing_keep_nobody_from_asking(world: World) -> None:
    """Nor the server from stopping."""

    async def scenario() -> dict[str, Any]:
        server = CommandServer(world.runtime, lambda: True, lambda: None, world._restart)
        await server.start()
        path = str(world.runtime.supervisor_socket)
        with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as gone:
            silent.connect(path)
            gone.connect(path)
            gone.sendall(b'{"op": "status"}\n')
            gone.close()
            told = await asyncio.to_thread(ask, world.runtime.path, "status", 5)
            await server.stop()
        return told

    assert asyncio.run(scenario())["ready"] is True
    with pytest.raises(SupervisorError):
        ask(world.runtime.path, "status", 1)
