"""An instance as its operator sees it: started, asked, told to stop, started again in its place."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.demo.processes import Child, wait_until
from meshwarden.control_socket import ask
from meshwarden.errors import SupervisorError
from tests.e2e.support.clients import send
from tests.e2e.support.service import config_text, service_port

__all__ = ["Instance", "Place", "is_alive"]

READY_S = 40.0
WITHIN_S = 20.0
COMMAND = [sys.executable, "-m", "meshwarden"]


class Place:
    """Where an instance lives over several starts.

    Attributes:
        folder: Holds meshwarden.toml, policy/, state/ and run/, and the log of the last start.
        prefix: What a start is run by, such as a program that takes rights away.
        port: The public port, on 127.0.0.1.
        http_port: Where the HTTP endpoints are without fronts.
    """

    def __init__(
        self, folder: Path, policy: Mapping[str, str], settings: Mapping[str, object] | None = None
    ) -> None:
        """Write policy and settings.

        Args:
            folder: Empty, with a short path: the kernel limits those of sockets.
            policy: File name to text.
            settings: Dotted key to value, over ours.
        """
        self.folder = folder
        self.prefix: tuple[str, ...] = ()
        self.port = service_port()
        self.http_port = service_port()
        self.policy = folder / "policy"
        self.policy.mkdir()
        for name, text in policy.items():
            (self.policy / name).write_text(text)
        self.config = folder / "meshwarden.toml"
        self.run_dir = folder / "run"
        self.state_dir = folder / "state"
        self.settings: dict[str, object] = {
            "listen.address": f"127.0.0.1:{self.port}",
            "fallback.http_address": f"127.0.0.1:{self.http_port}",
            "runtime.state_dir": str(self.state_dir),
            "runtime.runtime_dir": str(self.run_dir),
            "policy.path": str(self.policy),
            "server.drain_s": 2,
            "server.restart_backoff_max_s": 1,
            "decisions.sample_allows": 1.0,
            **(settings or {}),
        }

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> "Instance":
        """Start an instance here; it may not be ready, or refuse, when this returns."""
        self.config.write_text(config_text(self.settings))
        return Instance(self, options, environ or {})

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `meshwarden ... --config` of this place to its end."""
        return subprocess.run(
            [*COMMAND, *words, "--config", str(self.config)],
            env=_environ({}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


class Instance(Child):
    """A running `meshwarden serve`."""

    def __init__(self, place: Place, options: Sequence[str], environ: Mapping[str, str]) -> None:
        self.place = place
        command = [*place.prefix, *COMMAND, "serve", "--config", str(place.config), *options]
        super().__init__("meshwarden", command, place.folder / "meshwarden.log", _environ(environ))

    def wait_ready(self) -> "Instance":
        """Wait until every process says that it is ready.

        Raises:
            DemoError: It ended or takes too long; the message has the end of its log.
        """
        wait_until(self.is_ready, [self], READY_S)
        return self

    def is_ready(self) -> bool:
        """Whether it says that every process is ready."""
        try:
            return bool(self.status()["ready"])
        except SupervisorError:
            return False

    def wait_for(self, condition: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Wait for a condition while it runs.

        Raises:
            DemoError: It ended or takes too long; the message has the end of its log.
        """
        wait_until(lambda: bool(condition()), [self], within_s)

    def status(self) -> dict[str, Any]:
        """What `meshwarden status -o json` shows."""
        return ask(self.place.run_dir, "status", 10)

    def pids(self, kind: str) -> dict[str, int]:
        """Name to process id, of the living ones of a kind."""
        told = self.status()["processes"]
        return {each["name"]: each["pid"] for each in told if each["kind"] == kind}

    @property
    def control(self) -> int:
        """The process id of control."""
        return self.pids("control")["control"]

    def front(self, index: int = 0) -> int:
        """The process id of a front."""
        return self.pids("front")[f"front-{index}"]

    def get(self, path: str) -> tuple[int, str]:
        """Read one of the HTTP endpoints."""
        is_edge = self.place.settings.get("server.transport") == "grpcio"
        answer = send(self.place.http_port if is_edge else self.place.port, "GET", path)
        return answer.status, answer.body.decode()

    def answers(self) -> bool:
        """Whether /readyz says so."""
        try:
            return self.get("/readyz")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample of /metrics; 0 where there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(pair in series for pair in wanted):
                return float(value)
        return 0.0

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, signum)

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def ended(self, within_s: float = WITHIN_S) -> int:
        """Wait for its end; give the exit code."""
        return self._process.wait(within_s)

    def said(self) -> str:
        """Its whole log, children's included."""
        return self.log.read_text(errors="replace")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """A developer's own overrides are meant for another service."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("MESHWARDEN_")
    }
    return {**clean, **more}
