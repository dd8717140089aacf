"""Starting, renewing and stopping fronts: what Envoy must be told, and in which order.

A front is renewed by Envoy's hot restart: its heir takes over the listening sockets, and the old
process finishes what it has. Source: Envoy's documentation, "Hot restart" and "Draining".
"""

import asyncio
import contextlib
import json
import logging
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from meshwarden import status
from meshwarden.control.needs import GUARDED_SERVICES
from meshwarden.files import (
    EPOCH_VARIABLE,
    METRICS_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    RuntimeDir,
)
from meshwarden.front.bootstrap import (
    PUBLIC_SERVICES,
    FrontBootstrap,
    bootstrap,
)
from meshwarden.front.tls import TlsFiles, TlsSecrets
from meshwarden.settings import Settings
from meshwarden.supervisor.child import Backoff, Child
from meshwarden.supervisor.envoy_admin import EnvoyAdmin
from meshwarden.supervisor.front_programs import FrontPrograms
from meshwarden.supervisor.hot_restart import new_base_id, remove_sockets, shared_memory
from meshwarden.supervisor.port_secrets import PortSecrets

__all__ = ["FrontSlot", "FrontStartError"]

_LOG = logging.getLogger(__name__)
_READY_TIMEOUT_S = 45.0
_POLL_S = 0.05
# How long the first start of a front waits for control before it takes what an earlier run has
# kept: control is there within a second or two, and nobody has been served yet.
_CONTROL_START_S = 5.0
_PARENT_GRACE_S = 2  # After the drain, before Envoy's heir ends its parent.


class FrontStartError(Exception):
    """A front did not become ready; its log says why."""


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
        self._secrets = PortSecrets(settings.listen.tls, runtime)
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
            await self._secrets.wait(self.name, 0.0 if is_restart else _CONTROL_START_S)
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
        base_id = heir_of.base_id if heir_of else new_base_id()
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
        front = self._bootstrap(admin_socket, await self._secrets.source())
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
        remove_sockets(self._runtime, envoy.base_id, envoy.epoch)
        if all(each.base_id != envoy.base_id for each in self._running):
            shared_memory(envoy.base_id).unlink(missing_ok=True)
