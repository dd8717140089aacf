"""Child processes: each has a log, is waited for until it is ready, and is stopped by its id."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

__all__ = ["Child", "DemoError", "answers_tcp", "free_ports", "wait_until"]

LOG_LINES = 20
POLL_S = 0.02
# After this long a child that was told to stop is killed; longer than the service's own drain.
STOP_S = 15.0


class DemoError(Exception):
    """The demo can't go on; the message says why and shows the log that tells more."""


class Child:
    """A program that runs beside the demo, from its making until the `with` block ends."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]
    ) -> None:
        """Start the program.

        Args:
            name: For messages.
            command: Program and arguments.
            log: Takes its standard output and error.
            environ: Its whole environment.

        Raises:
            DemoError: There is no such program.
        """
        self.name = name
        self.log = log
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environ),
                    # A terminal's Ctrl-C must reach us alone: we stop the children in our order.
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"{name} did not start: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            DemoError: It ended; the message has the end of its log.
        """
        status = self._process.poll()
        if status is not None:
            raise DemoError(f"{self.name} ended early, with status {status}{self.tail()}")

    def tail(self) -> str:
        """Give the last lines of its log, as a paragraph for a message."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(["; the end of its log:", *(f"  {line}" for line in lines)])

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        """Give the running child."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, whatever happened."""
        self.stop()


def wait_until(ready: Callable[[], bool], children: Sequence[Child], within_s: float) -> None:
    """Wait for a condition as long as every child lives.

    Raises:
        DemoError: A child ended, or the time is over; the message has the end of a log.
    """
    deadline = time.monotonic() + within_s
    while not ready():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            last = children[-1]
            raise DemoError(f"{last.name} is not ready after {within_s:g} s{last.tail()}")
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Find loopback ports that nobody listens on now, all different."""
    with ExitStack() as held:
        # Held together: one that has been closed may be given out again at once.
        servers = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def answers_tcp(port: int) -> bool:
    """Tell whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
