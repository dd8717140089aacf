"""A front alone, with an app of a test's own in place of ours: no supervisor, no control."""

import json
import os
import sys
from pathlib import Path

import pytest

from deploy.demo.processes import Child, answers_tcp, wait_until
from meshwarden.front.bootstrap import FrontBootstrap, bootstrap
from meshwarden.supervisor.front_programs import find_programs
from tests.e2e.support.service import service_port

__all__ = ["BareFront"]

READY_S = 20.0


class BareFront(Child):
    """An Envoy with Python inside, by the bootstrap that our fronts have.

    Attributes:
        port: On 127.0.0.1.
    """

    def __init__(self, folder: Path, app: str) -> None:
        """Start it.

        Args:
            folder: There already; its path is short.
            app: "module:attribute", importable from the root of the repository.
        """
        self.port = service_port()
        programs = find_programs()
        if isinstance(programs, str):
            pytest.skip(f"fronts can't run here: {programs}")
        front = FrontBootstrap(
            host="127.0.0.1",
            port=self.port,
            module=str(programs.module),
            app=app,
            public_socket=folder / "public.sock",
            admin_socket=folder / "admin.sock",
        )
        config = folder / "front.json"
        config.write_text(json.dumps(bootstrap(front)))
        (folder / "metrics").mkdir()
        command = [str(programs.envoy), "--config-path", str(config), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warn"]
        environ = {
            "PATH": os.environ["PATH"],
            "LD_PRELOAD": str(programs.libpython),
            "PYTHONHOME": f"{sys.prefix}:{sys.exec_prefix}",
            "PYTHONPATH": ":".join([str(Path.cwd()), *(entry for entry in sys.path if entry)]),
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        }
        super().__init__("the front", command, folder / "front.log", environ)

    def wait_ready(self) -> None:
        """Wait until it listens, which it does when its app has started.

        Raises:
            DemoError: It ended or takes too long.
        """
        wait_until(lambda: answers_tcp(self.port), [self], READY_S)
