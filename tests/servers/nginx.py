"""A real nginx from Debian's package that serves one folder over TLS, in a temporary folder."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.demo.certificates import Credential
from deploy.demo.processes import Child, answers_tcp, wait_until

__all__ = ["COMMAND", "PACKAGE", "Nginx", "nginx"]

PACKAGE = "nginx"
COMMAND = "nginx"
_START_S = 20.0

_CONFIG = """\
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 64; }}
http {{
  log_format seen escape=json '{{"status": $status, "none_match": "$http_if_none_match"}}';
  access_log access.log seen;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp;
  scgi_temp_path tmp;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location / {{
      root files;
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
    }}
  }}
}}
"""


class Nginx:
    """One server; `stop` and `start` play an outage.

    Attributes:
        port: Where, on 127.0.0.1.
        files: What it serves.
    """

    def __init__(self, folder: Path, port: int, shown: Credential, token: str) -> None:
        self.port = port
        self.files = folder / "files"
        self.files.mkdir()
        (folder / "tmp").mkdir()
        self._folder = folder
        self._child: Child | None = None
        config = _CONFIG.format(
            port=port, certificate=shown.certificate, key=shown.key, token=token
        )
        (folder / "nginx.conf").write_text(config)

    def url(self, name: str) -> str:
        """Where a file is."""
        return f"https://127.0.0.1:{self.port}/{name}"

    def put(self, name: str, content: bytes) -> None:
        """Replace a file whole, as a deployment does."""
        fresh = self.files / f".{name}"
        fresh.write_bytes(content)
        fresh.chmod(0o644)
        fresh.replace(self.files / name)

    def seen(self) -> list[dict[str, Any]]:
        """Status and If-None-Match of each request so far."""
        lines = (self._folder / "access.log").read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = ["nginx", "-p", f"{self._folder}/", "-c", "nginx.conf", "-e", "stderr"]
        self._child = Child("nginx", command, self._folder / "nginx.log", os.environ)
        wait_until(lambda: answers_tcp(self.port), [self._child], _START_S)

    def stop(self) -> None:
        """Stop at once: connections are cut."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def freeze(self) -> None:
        """Take connections and say nothing, until thawed."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        if self._child is not None:
            # The master and its workers are one session of their own.
            os.killpg(self._child.pid, signum)


@contextmanager
def nginx(port: int, shown: Credential, token: str) -> Iterator[Nginx]:
    """Run a server until the `with` ends."""
    folder = Path(tempfile.mkdtemp(prefix="mw-nginx-"))
    # A worker that gave up root's rights reads in here too.
    folder.chmod(0o755)
    server = Nginx(folder, port, shown, token)
    try:
        server.start()
        yield server
    finally:
        server.thaw()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
