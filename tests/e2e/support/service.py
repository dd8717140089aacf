"""`meshwarden serve` with a policy and settings of a test's own, in a folder of its own."""

import http.client
import json
import os
import random
import socket
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.demo.processes import Child, wait_until

__all__ = ["Service", "config_text", "service_port"]

READY_S = 60.0
RECORDED_S = 10.0
# Below the range from which the kernel takes ports for outgoing connections: nobody gets one
# between our look and the service's bind.
PORTS = range(20_000, 30_000)


class Service(Child):
    """A running service.

    Attributes:
        port: Its public port, on 127.0.0.1.
        folder: Holds meshwarden.toml, policy/, state/ and run/; give it a short path, since the
            kernel limits those of sockets.
    """

    def __init__(
        self,
        folder: Path,
        policy: Mapping[str, str] | Path,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Start it.

        Args:
            folder: There already, and empty.
            policy: File name to text, or a folder to serve as it stands.
            settings: Dotted key to value, over ours: every allowed request is recorded.
        """
        self.folder = folder
        self.port = service_port()
        source = policy if isinstance(policy, Path) else folder / "policy"
        if not isinstance(policy, Path):
            source.mkdir()
            for name, text in policy.items():
                (source / name).write_text(text)
        values: dict[str, object] = {
            "listen.address": f"127.0.0.1:{self.port}",
            "runtime.state_dir": str(folder / "state"),
            "runtime.runtime_dir": str(folder / "run"),
            "policy.path": str(source),
            "decisions.sample_allows": 1.0,
            **(settings or {}),
        }
        self._tls = "listen.tls.certificate" in values
        self.config = folder / "meshwarden.toml"
        self.config.write_text(config_text(values))
        command = [sys.executable, "-m", "meshwarden", "serve", "--config", str(self.config)]
        # A developer's own overrides are meant for another service.
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("MESHWARDEN_")
        }
        super().__init__("meshwarden", command, folder / "meshwarden.log", environ)

    def wait_ready(self) -> None:
        """Wait until it can decide.

        Raises:
            DemoError: It ended or takes too long; the message has the end of its log.
        """
        wait_until(self._is_ready, [self], READY_S)

    def get(self, path: str) -> tuple[int, bytes]:
        """Read one of its HTTP endpoints; give status and body."""
        connection: http.client.HTTPConnection
        if self._tls:
            # Whether it is the right certificate is not the question here.
            context = ssl._create_unverified_context()  # noqa: S323
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """Read one sample of /metrics; 0 where there is none yet."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for line in self.get("/metrics")[1].decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(pair in series for pair in wanted):
                return float(value)
        return 0.0

    def record(self, decision_id: str) -> dict[str, Any]:
        """Wait for a decision's line in the decision log.

        Raises:
            DemoError: It is not written in time.
        """
        found: dict[str, dict[str, Any]] = {}

        def is_written() -> bool:
            log = self.folder / "state" / "decisions.jsonl"
            # Only whole lines: the last one may be half written.
            lines = log.read_text().split("\n")[:-1] if log.exists() else []
            found.update((entry["id"], entry) for entry in map(json.loads, lines))
            return decision_id in found

        wait_until(is_written, [self], RECORDED_S)
        return found[decision_id]

    def _is_ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def config_text(values: Mapping[str, object]) -> str:
    """Write settings as TOML: JSON's text, numbers, truths and lists of text are TOML's too."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f'{key}."{name}" = {json.dumps(each)}' for name, each in value.items()]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def service_port() -> int:
    """Find a loopback port that nobody listens on and that no outgoing connection will take."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            # As servers bind, so that connections that are ending don't count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
