"""Meshwarden itself, on free loopback ports and with folders of its own."""

import http.client
import os
import sys
from pathlib import Path

from deploy.demo.processes import Child, wait_until

__all__ = ["Service"]

READY_S = 30.0
CONFIG = """\
[listen]
address = "127.0.0.1:{port}"

[fallback]
http_address = "127.0.0.1:{http_port}"

[runtime]
state_dir = "state"
runtime_dir = "run"

[server]
transport = "{transport}"
embedded_agent = true

[identity]
trust_domain = "shop.example"
key_file = "keys/sealing.key"
entries = "entries.yaml"

[policy]
path = "policy"

[decisions]
sample_allows = 1.0
"""


class Service(Child):
    """A running `meshwarden serve`; everything that the config leaves out has its default."""

    def __init__(self, folder: Path, port: int, http_port: int, transport: str) -> None:
        """Start it.

        Args:
            folder: The demo's folder, which holds policy and entries; config, state and sockets go
                there.
            port: Where to serve.
            http_port: Where to serve HTTP if that takes a port of its own.
            transport: The setting server.transport.
        """
        self.port = port
        self.agent_socket = folder / "run-agent" / "api.sock"
        self._http_port = http_port
        config = folder / "meshwarden.toml"
        config.write_text(CONFIG.format(port=port, http_port=http_port, transport=transport))
        # The user's own overrides are meant for another service.
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith("MESHWARDEN_")
        }
        command = [sys.executable, "-m", "meshwarden", "serve"]
        command += ["--config", str(config)]
        super().__init__("meshwarden", command, folder / "meshwarden.log", environ)
        self.http_port = self.port

    def wait_ready(self) -> None:
        """Wait until it says that it can decide.

        Raises:
            DemoError: It ended or takes too long.
        """
        wait_until(self._is_ready, [self], READY_S)

    def _is_ready(self) -> bool:
        # Without fronts, HTTP is served on a port of its own.
        for port in (self.port, self._http_port):
            if _says_ready(port):
                self.http_port = port
                return True
        return False


def _says_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        # Nobody there yet, or a server that speaks gRPC only.
        return False
    finally:
        connection.close()
