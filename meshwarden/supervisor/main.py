"""The supervisor: starts control and fronts, starts again what dies, stops all in order.

It holds no keys, knows no gRPC and answers no request, so that there is little in it to fail.
Control and fronts are siblings: either goes on while the other is away.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from meshwarden import status
from meshwarden.config import dump
from meshwarden.files import (
    CLIENTS_SDS,
    EDGE_VARIABLE,
    EPOCH_VARIABLE,
    METRICS_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    SERVER_SDS,
    START_REFUSED,
    RuntimeDir,
)
from meshwarden.logs import configure_logging
from meshwarden.settings import Settings
from meshwarden.supervisor.child import Backoff, Child
from meshwarden.supervisor.commands import CommandServer
from meshwarden.supervisor.front_programs import FrontPrograms, find_programs
from meshwarden.supervisor.fronts import FrontSlot
from meshwarden.supervisor.hot_restart import remove_leftovers
from meshwarden.supervisor.lifecycle import (
    AddressInUseError,
    ForeignPackageError,
    RuntimeDirError,
    check_own_packages,
    lock_address,
    lock_dir,
    make_private_dir,
    raise_file_limit,
)

__all__ = ["run"]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.05
# A front says that it decides some tenths of a second before it says that it is ready.
_RED_S = 5.0
# Longer than two looks of every front at the drain marker: readiness is down before listeners are.
_READINESS_S = 0.5
_AGENT_STOP_S = 5.0
_FAILED_START = 2
_OWN_FAULT = 70  # EX_SOFTWARE of sysexits.h


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a stop, 2 when the service can't start.
    """
    configure_logging(settings.server.log_level, "supervisor")
    # Files of ours, and of the children, are the owner's alone wherever they are made.
    os.umask(0o077)
    runtime = RuntimeDir(settings.runtime.runtime_dir)
    try:
        check_own_packages()
        make_private_dir(settings.runtime.state_dir, "runtime.state_dir")
        make_private_dir(runtime.path, "runtime.runtime_dir", holds_sockets=True)
        with contextlib.ExitStack() as held:
            held.enter_context(lock_address(settings.listen.address, "listen.address"))
            held.enter_context(lock_dir(runtime.path, "runtime.runtime_dir"))
            if not settings.runtime.state_dir.samefile(runtime.path):
                held.enter_context(lock_dir(settings.runtime.state_dir, "runtime.state_dir"))
            programs = _programs(settings)
            if programs is None:
                fallback = settings.fallback.http_address
                held.enter_context(lock_address(fallback, "fallback.http_address"))
            _prepare(runtime, settings)
            raise_file_limit()
            return asyncio.run(_Supervisor(settings, runtime, programs).serve())
    except (AddressInUseError, ForeignPackageError, RuntimeDirError, OSError) as error:
        print(f"meshwarden: {error}", file=sys.stderr)  # noqa: T201 - the user's terminal
        return _FAILED_START


def _programs(settings: Settings) -> FrontPrograms | None:
    """Decide between fronts and the grpcio edge; None is the latter."""
    if settings.server.transport == "grpcio":
        return None
    found = find_programs()
    if isinstance(found, FrontPrograms):
        return found
    if settings.server.transport == "front":
        raise RuntimeDirError(f"server.transport: fronts can't run here: {found}")
    _LOG.warning(
        "fronts can't run here: %s. Control serves Check by grpcio instead: the same answers, "
        "at about a fifth of the rate; HTTP endpoints are on %s",
        found,
        settings.fallback.http_address,
    )
    return None


def _prepare(runtime: RuntimeDir, settings: Settings) -> None:
    """Empty the runtime directory of what an earlier run left, and write the settings."""
    remove_leftovers(runtime)
    shutil.rmtree(runtime.metrics, ignore_errors=True)
    status.clear(runtime.path)
    markers = (runtime.draining, runtime.expired)
    # What a process that was killed was about to put in a secret's place has a key in it.
    unfinished = runtime.path.glob(".*.secret.json.*")
    left = (*runtime.path.glob("*.sock"), *runtime.path.glob("front-*"), *unfinished, *markers)
    for stale in left:
        stale.unlink(missing_ok=True)
    _forget_secrets_of_others(runtime, settings)
    runtime.metrics.mkdir(mode=0o700)
    # Fronts run policy code and read this file: what opens a database is not for them.
    without_secrets = replace(
        settings,
        store=replace(settings.store, url=""),
        decisions=replace(settings.decisions, url=""),
    )
    runtime.settings.write_bytes(dump(without_secrets))


def _forget_secrets_of_others(runtime: RuntimeDir, settings: Settings) -> None:
    """Remove the port's certificate that was kept for another trust domain, or is used no more.

    A front that starts while control is away would serve by it, and believe that domain's clients.
    """
    own = settings.identity.trust_domain if settings.listen.tls.svid else ""
    with contextlib.suppress(FileNotFoundError):
        if own and runtime.kept_for.read_text() == own:
            return
    for stale in (runtime.secret(SERVER_SDS), runtime.secret(CLIENTS_SDS), runtime.kept_for):
        stale.unlink(missing_ok=True)
    if own:
        runtime.kept_for.write_text(own)


class _Supervisor:
    """One instance's processes."""

    def __init__(
        self, settings: Settings, runtime: RuntimeDir, programs: FrontPrograms | None
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._edge = programs is None
        self._slots = [
            FrontSlot(index, settings, runtime, programs)
            for index in range(settings.server.fronts)
            if programs is not None
        ]
        self._control: Child | None = None
        self._agent: Child | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._restarting = asyncio.Lock()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._exit_code = 0
        self._was_ready = False

    async def serve(self) -> int:
        """Run until told to stop."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        commands = CommandServer(self._runtime, self._is_ready, self._reload, self._restart_fronts)
        await commands.start()
        self._begin(self._keep_control())
        if self._settings.server.embedded_agent:
            self._begin(self._keep_agent())
        for slot in self._slots:
            self._begin(slot.keep_running())
        self._begin(self._announce())
        await self._stop.wait()
        await self._shut_down()
        await commands.stop()
        return self._exit_code

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.critical("the supervisor itself failed", exc_info=error)
            self._exit_code = _OWN_FAULT
            self._stop.set()

    def _is_ready(self) -> bool:
        """Whether every process says that it is ready, and every front's port is open."""
        return self._is_each(lambda told: told.ready)

    def _decides(self) -> bool:
        """Whether every process decides, ready or not, and every front's port is open."""
        return self._is_each(lambda told: bool(told.digest))

    def _is_each(self, so: Callable[[status.ProcessStatus], bool]) -> bool:
        deciders = ["grpcio"] if self._edge else [slot.name for slot in self._slots]
        those = {each.name for each in status.read_all(self._runtime.path) if so(each)}
        return those.issuperset(["control", *deciders]) and all(
            slot.is_serving for slot in self._slots
        )

    def _stop_signal(self) -> None:
        if self._stop.is_set():  # The second Ctrl-C: no more waiting for what is in flight.
            self._hurry.set()
        self._stop.set()

    def _reload(self) -> None:
        if self._control is not None:
            self._control.signal(signal.SIGHUP)

    async def _restart_fronts(self) -> None:
        """Renew the fronts one after the other.

        Raises:
            FrontStartError: An heir did not become ready; the rest is left as it was.
        """
        async with self._restarting:  # A second caller's turn comes when the first is served.
            for slot in self._slots:
                _LOG.info("renewing %s", slot.name)
                await slot.renew()

    async def _keep_control(self) -> None:
        backoff = Backoff(self._settings.server.restart_backoff_max_s)
        loop = asyncio.get_running_loop()
        environment = {
            RUNTIME_VARIABLE: str(self._runtime.path),
            METRICS_VARIABLE: str(self._runtime.metrics),
            NAME_VARIABLE: "control",
            EPOCH_VARIABLE: "0",
            EDGE_VARIABLE: "1" if self._edge else "0",
            RESTARTED_VARIABLE: "0",
        }
        command = [sys.executable, "-m", "meshwarden.control.main"]
        while True:
            started_s = loop.time()
            try:
                self._control = await Child.start(
                    "control", command, environment, dump(self._settings)
                )
                code = await self._control.wait()
                self._runtime.forget(self._control.pid)
                if code == START_REFUSED and not self._was_ready:
                    # It has said why. Later on the fronts go on, and an operator may mend it.
                    self._exit_code = _FAILED_START
                    self._stop.set()
                    return
                how = f"control ended ({code})"
            except OSError as error:
                how = f"control can't be started: {error.strerror}"
            pause_s = backoff.pause_s(loop.time() - started_s)
            _LOG.warning("%s; starting it again in %.1f s", how, pause_s)
            await asyncio.sleep(pause_s)
            environment[RESTARTED_VARIABLE] = "1"

    async def _keep_agent(self) -> None:
        """Keep the embedded agent running; end the start where its socket can't be made."""
        backoff = Backoff(self._settings.server.restart_backoff_max_s)
        loop = asyncio.get_running_loop()
        environment = {RUNTIME_VARIABLE: str(self._runtime.path)}
        command = [sys.executable, "-m", "meshwarden.agent.main"]
        while True:
            started_s = loop.time()
            try:
                self._agent = await Child.start("agent", command, environment, dump(self._settings))
                code = await self._agent.wait()
                if code == _FAILED_START and not self._was_ready:
                    self._exit_code = _FAILED_START  # It has said why.
                    self._stop.set()
                    return
                how = f"the agent ended ({code})"
            except OSError as error:
                how = f"the agent can't be started: {error.strerror}"
            pause_s = backoff.pause_s(loop.time() - started_s)
            _LOG.warning("%s; starting it again in %.1f s", how, pause_s)
            await asyncio.sleep(pause_s)

    async def _announce(self) -> None:
        """Say when every process is ready; end the start when there is no policy to serve.

        One whose health stays red, as for what has expired, has started as well: whoever waits for
        the start would end it for no good, and it goes on deciding.
        """
        red_s = 0.0
        while True:
            await asyncio.sleep(_POLL_S)
            load = status.read_load(self._runtime.path)
            if load.errors and not load.digest:
                for fault in load.errors:
                    print(f"meshwarden: {fault}", file=sys.stderr)  # noqa: T201
                print(  # noqa: T201
                    "meshwarden: no policy to serve: mend the faults above and start again",
                    file=sys.stderr,
                )
                self._exit_code = _FAILED_START
                self._stop.set()
                return
            red_s = red_s + _POLL_S if self._decides() else 0.0
            if self._is_ready() or red_s > _RED_S:
                self._was_ready = True
                break
        if not self._is_ready():
            _LOG.warning("it serves, and is not ready: 'meshwarden status' says why")
            _notify_systemd("READY=1")
            return
        how = "TLS" if self._settings.listen.tls.is_on else "plain text"
        _LOG.info(
            "ready on %s (%s)%s",
            self._settings.listen.address,
            how,
            _policy_line(load),
        )
        _notify_systemd("READY=1")

    async def _shut_down(self) -> None:
        """Stop in order; from a second signal on, at once."""
        _notify_systemd("STOPPING=1")
        _LOG.info("stopping: finishing what is in flight")
        gently = asyncio.create_task(self._shut_down_gently())
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({gently, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if not gently.done():
            _LOG.warning("stopping at once")
            gently.cancel()
            await asyncio.gather(gently, return_exceptions=True)
            await self._cancel_tasks()
            await asyncio.gather(*(slot.kill() for slot in self._slots))
            for child in (self._agent, self._control):
                if child is not None:
                    await child.kill()
        else:
            hurry.cancel()
            gently.result()
        for path in self._runtime.path.glob("*.sock"):
            path.unlink(missing_ok=True)
        _LOG.info("stopped")

    async def _shut_down_gently(self) -> None:
        # Step 1: readiness down, so that balancers look elsewhere while we still answer.
        self._runtime.draining.touch(mode=0o600)
        if not self._exit_code:
            await asyncio.sleep(_READINESS_S)
        # Step 2: nothing is started again from here on.
        await self._cancel_tasks()
        # Step 3: fronts first; their last records go to control.
        await asyncio.gather(*(slot.drain_and_stop() for slot in self._slots))
        # Step 4: the agent before whom it asks.
        if self._agent is not None:
            await self._agent.stop(_AGENT_STOP_S)
        if self._control is not None:
            await self._control.stop(self._settings.server.drain_s + 5)

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _policy_line(load: status.LoadState) -> str:
    """What a start says of the policy; a front may decide by its copy before control has any."""
    if not load.digest:
        return ", by the policy of the last run until control has read its source"
    from_disk = ", restored from the last run: its source can't be loaded" if load.restored else ""
    return f": {load.rules} rules, policy {load.digest[:12]}{from_disk}"


def _notify_systemd(message: str) -> None:
    """Tell systemd, where it asked to be told. Source: sd_notify(3), the protocol."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        notify.connect("\0" + name[1:] if name[0] == "@" else name)
        notify.sendall(message.encode())
