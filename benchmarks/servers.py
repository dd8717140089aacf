"""What is measured and what it is measured against, both running on the server's core."""

import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import SERVER_CORE, pinned
from deploy.demo.certificates import Credential
from deploy.demo.processes import Child, answers_tcp, free_ports, wait_until

__all__ = ["Baseline", "Service", "baseline", "parse_verdicts", "service"]

_READY_S = 60.0  # For the largest policies; the bar for a small one is a scenario of its own.
_CONFIG = """\
[listen]
address = "127.0.0.1:{port}"
{tls}
[runtime]
state_dir = "state"
runtime_dir = "run"

[server]
drain_s = 0
fronts = {fronts}

{policy}
[decisions]
sample_allows = {sample_allows}
{sinks}

{more}
"""
_TLS = """
[listen.tls]
certificate = "{certificate}"
key = "{key}"
"""
_OWN_TLS = """
[listen.tls]
svid = true
"""
_FOLDER = """\
[policy]
path = "policy"
watch = false
"""
_STORE = """\
[policy]
source = "store"

[store]
url = "{url}"
"""
_VERDICTS = re.compile(r"^meshwarden_checks_total\{(.*)\} ([\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Service:
    """A running Meshwarden.

    Attributes:
        port: Where it answers.
        front: Process id of its front; of one of them, where there are more.
        control: Process id of its control.
        ready_s: From its start until it said that it can decide.
        has_tls: Whether the port speaks TLS.
        folder: Has its config file, its state and its sockets.
    """

    port: int
    front: int
    control: int
    ready_s: float
    has_tls: bool
    folder: Path

    def metric(self, series: str) -> int:
        """Ask for one sample, named as in /metrics: `name_total{label="value"}`; 0 without it."""
        for line in _get(self.port, "/metrics", tls=self.has_tls)[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return int(float(value))
        return 0

    def verdicts(self) -> dict[str, int]:
        """Ask how many checks it has answered so far, by verdict."""
        return parse_verdicts(_get(self.port, "/metrics", tls=self.has_tls)[1])


@contextmanager
def service(  # noqa: PLR0913 - each is named by who calls
    folder: Path,
    policy: str = "",
    *,
    store: str | None = None,
    fronts: int = 1,
    sample_allows: float = 0.01,
    has_sinks: bool = True,
    tls: Credential | None = None,
    has_own_tls: bool = False,
    is_pinned: bool = True,
    more: str = "",
) -> Iterator[Service]:
    """Run Meshwarden as its users do.

    Args:
        folder: For its policy, state and sockets; made here. Sockets want a short path.
        policy: Lines of a mesh policy, in a folder that is read once.
        store: Where revisions are kept instead: a PostgreSQL's URL, or "" for a file.
        fronts: How many.
        sample_allows: Share of allowed requests that is recorded; the default is the settings'.
        has_sinks: Whether records are kept; the settings' default.
        tls: The port's certificate; None is plain text.
        has_own_tls: Whether the port serves TLS by an SVID of the service's own instead.
        is_pinned: Whether all its processes are on the server's core, or wherever there is room.
        more: Sections of settings that this file has no words for.

    Raises:
        DemoError: It does not start.
    """
    (folder / "policy").mkdir(parents=True)
    (folder / "policy" / "policy.csv").write_text(policy)
    (port,) = free_ports(1)
    section = _OWN_TLS if has_own_tls else ""
    if tls is not None:
        section = _TLS.format(certificate=tls.certificate, key=tls.key)
    has_tls = bool(section)
    config = folder / "meshwarden.toml"
    text = _CONFIG.format(
        port=port,
        tls=section,
        fronts=fronts,
        policy=_FOLDER if store is None else _STORE.format(url=store),
        sample_allows=sample_allows,
        sinks="" if has_sinks else "sinks = []",
        more=more,
    )
    config.write_text(text)
    # Settings of the user's own are meant for another service.
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("MESHWARDEN_")
    }
    command = [sys.executable, "-m", "meshwarden", "serve", "--config", str(config)]
    started = time.monotonic()
    with pinned(SERVER_CORE) if is_pinned else nullcontext():
        child = Child("meshwarden", command, folder / "meshwarden.log", environ)
    with child:
        wait_until(lambda: _is_ready(port, tls=has_tls), [child], _READY_S)
        ready_s = time.monotonic() - started
        pids = _process_ids(folder / "run" / "supervisor.sock")
        yield Service(port, pids["front"], pids["control"], ready_s, has_tls, folder)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The running baseline server.

    Attributes:
        port: Where it answers in plain text.
        tls_port: Where it answers over TLS.
        pid: Its process id.
    """

    port: int
    tls_port: int
    pid: int


@contextmanager
def baseline(folder: Path, tls: Credential) -> Iterator[Baseline]:
    """Run the grpc.aio server of baseline.py on the server's core.

    Raises:
        DemoError: It does not start.
    """
    port, tls_port = free_ports(2)
    command = [sys.executable, "-m", "benchmarks.baseline", str(port)]
    command += [str(tls.certificate), str(tls.key), str(tls_port)]
    with pinned(SERVER_CORE):
        child = Child("baseline", command, folder / "baseline.log", os.environ)
    with child:
        wait_until(lambda: answers_tcp(tls_port), [child], _READY_S)
        yield Baseline(port, tls_port, child.pid)


def parse_verdicts(metrics: str) -> dict[str, int]:
    """Read the checks answered so far, by verdict, from the text of /metrics."""
    counts: dict[str, int] = {}
    for labels, value in _VERDICTS.findall(metrics):
        verdict = re.search(r'verdict="(\w+)"', labels)
        if verdict is not None:
            counts[verdict[1]] = counts.get(verdict[1], 0) + int(float(value))
    return counts


def _is_ready(port: int, *, tls: bool) -> bool:
    try:
        return _get(port, "/readyz", tls=tls)[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _get(port: int, path: str, *, tls: bool) -> tuple[int, str]:
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=_unverified())
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _unverified() -> ssl.SSLContext:
    """A client that takes any certificate: h2load does too, and the server is our own child."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _process_ids(supervisor_socket: Path) -> dict[str, int]:
    """Ask the supervisor for the process of each kind."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(supervisor_socket))
        connection.sendall(b'{"op": "status"}\n')
        with connection.makefile("rb") as answer:
            processes = json.loads(answer.readline())["processes"]
    return {process["kind"]: process["pid"] for process in processes}
