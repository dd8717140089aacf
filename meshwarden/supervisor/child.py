"""One child process: started with a clean environment, awaited, stopped, never left behind."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence

from meshwarden.supervisor.lifecycle import child_environment, die_with_parent

__all__ = ["Backoff", "Child"]

_LOG = logging.getLogger(__name__)
_TERM_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.1
_HEALTHY_AFTER_S = 10.0


class Backoff:
    """How long to wait before starting something again that has just died."""

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._next_s = _FIRST_PAUSE_S

    def pause_s(self, lived_s: float) -> float:
        """Give the pause after a life of `lived_s` seconds: 0.1, doubling; a long life resets."""
        if lived_s >= _HEALTHY_AFTER_S:
            self._next_s = _FIRST_PAUSE_S
        pause, self._next_s = self._next_s, min(self._next_s * 2, self._max_s)
        return min(pause, self._max_s)


class Child:
    """A running process of ours."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        given: bytes = b"",
    ) -> "Child":
        """Start a process that dies when we do and inherits nothing that we don't name.

        Args:
            name: For messages.
            command: Program and arguments.
            environment: Added to the little that every child gets.
            given: What it reads from its standard input; it never touches a disk.

        Raises:
            OSError: The program can't be executed.
        """
        with os.fdopen(os.memfd_create(name), "wb+") as stdin:
            stdin.write(given)
            stdin.seek(0)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=stdin,
                env=child_environment(environment),
                preexec_fn=die_with_parent(),
                # A Ctrl-C at the terminal reaches the supervisor alone: it stops its children in
                # order.
                start_new_session=True,
            )
        return cls(name, process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return self._process.returncode is None

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end; give the exit code, negative for a signal."""
        return await self._process.wait()

    def signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)

    async def stop(self, timeout_s: float = _TERM_TIMEOUT_S) -> None:
        """End it: SIGTERM, and SIGKILL when that was not enough."""
        if not self.alive:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            _LOG.warning("%s did not stop in %g s and is killed", self.name, timeout_s)
            await self.kill()

    async def kill(self) -> None:
        """End it now."""
        if self.alive:
            self.signal(signal.SIGKILL)
            await self._process.wait()
