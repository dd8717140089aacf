"""A real PostgreSQL from Debian's package, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.demo.processes import answers_tcp

__all__ = ["COMMAND", "PACKAGE", "Postgresql", "postgresql"]

PACKAGE = "postgresql"
COMMAND = "pg_ctlcluster"  # Of postgresql-common; the programs themselves are not on PATH.
_USER = "meshwarden"
_START_S = 30


class Postgresql:
    """One server; `with` starts and stops it, `stop` and `start` play an outage."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._data = folder / "data"
        self._folder = folder

    @property
    def url(self) -> str:
        """How to connect."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        """Make the cluster and start it."""
        self._run("initdb", "-D", self._data, "-U", _USER, "-A", "trust", "--no-sync")
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self._folder} -c fsync=off"
        log = self._folder / "log"
        self._run(
            "pg_ctl", "start", "-w", "-t", str(_START_S), "-D", self._data, "-l", log, "-o", options
        )

    def stop(self, mode: str = "immediate") -> None:
        """Stop at once, as a crash would, unless told otherwise."""
        if answers_tcp(self.port):
            self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def _run(self, program: str, *arguments: object) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        command = [str(binaries[-1] / program), *map(str, arguments)]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root.
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(
            command, check=True, timeout=60, cwd="/", stdout=subprocess.DEVNULL, stderr=None
        )


@contextmanager
def postgresql(port: int) -> Iterator[Postgresql]:
    """Run a server until the `with` ends."""
    folder = Path(tempfile.mkdtemp(prefix="mw-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        with Postgresql(folder, port) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
