"""`meshwarden agent` beside a service with TLS of its own, and the workloads that ask it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc

from deploy.demo.processes import Child, wait_until
from protos.spiffe.workload import workload_pb2 as pb
from protos.spiffe.workload import workload_pb2_grpc
from tests.e2e.support.instance import COMMAND, Place

__all__ = [
    "SETTINGS",
    "TRUST_DOMAIN",
    "Agent",
    "AgentPlace",
    "create_entry",
    "new_token",
    "served",
    "served_to",
    "served_token",
]

TRUST_DOMAIN = "td.example"
SETTINGS: Mapping[str, object] = {
    "listen.tls.svid": True,
    "identity.trust_domain": TRUST_DOMAIN,
    "identity.nodes.attestations_per_s": 1000,
}
READY_S = 30.0
ROOT = Path(__file__).resolve().parents[3]
HEADER = (("workload.spiffe.io", "true"),)


def new_token(place: Place, *options: str) -> str:
    """Make a join token, as an operator does."""
    made = place.command("token", "create", "-o", "json", *options)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


def create_entry(place: Place, agent_id: str, name: str, *selectors: str, ttl_s: int = 0) -> str:
    """Register a workload; give the entry's id."""
    chosen = [word for each in selectors for word in ("--selector", each)]
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/{name}"
    made = place.command(
        "entry", "create", spiffe_id, "--parent", agent_id, *chosen,
        "--x509-ttl", str(ttl_s), "-o", "json",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["id"])


class AgentPlace:
    """Where an agent lives over several starts.

    Attributes:
        folder: Holds its state, sockets and the log of the last start.
        socket: Where workloads connect.
    """

    def __init__(self, folder: Path, server: str) -> None:
        """Choose a place.

        Args:
            folder: Empty, with a short path.
            server: HOST:PORT.
        """
        # Workloads of other users pass through.
        folder.parent.chmod(0o711)
        folder.chmod(0o711)
        self.folder = folder
        self.server = server
        self.socket = folder / "run" / "api.sock"
        self.log = folder / "agent.log"

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> "Agent":
        """Start an agent here; it may not have attested, or refuse, when this returns."""
        return Agent(self, options, environ or {})

    def with_token(self, token: str, *options: str) -> "Agent":
        """Start an agent here that has a join token."""
        file = self.folder / "token"
        file.write_text(token)
        file.chmod(0o600)
        return self.start("--join-token-file", str(file), *options)

    def told_token(self, token: str) -> "Agent":
        """Start an agent here that reads its join token from standard input."""
        file = self.folder / "told"
        file.write_text(token + "\n")
        options = ("--join-token-file", "-")
        return Agent(self, options, {}, ("sh", "-c", 'exec "$@" < "$0"', str(file)))

    def command(self, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run `meshwarden WORDS` as a workload of this machine, to its end."""
        return subprocess.run(
            [*COMMAND, *words],
            env={**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.socket}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **how,
        )


class Agent(Child):
    """A running agent."""

    def __init__(
        self,
        place: AgentPlace,
        options: Sequence[str],
        environ: Mapping[str, str],
        before: Sequence[str] = (),
    ) -> None:
        self.place = place
        command = [
            *before, *COMMAND, "agent", "--server", place.server,
            "--state-dir", str(place.folder / "state"), "--runtime-dir", str(place.folder / "run"),
            *options,
        ]  # fmt: skip
        super().__init__("agent", command, place.log, {**os.environ, **environ})

    def wait_ready(self) -> "Agent":
        """Wait until it follows the server."""
        wait_until(lambda: bool(self.status().get("connected")), [self], READY_S)
        return self

    def status(self) -> dict[str, Any]:
        """What `meshwarden agent status -o json` shows; empty before it says anything."""
        file = self.place.folder / "run" / "private" / "status.json"
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return found

    @property
    def agent_id(self) -> str:
        """Its SPIFFE ID."""
        return str(self.status()["agent"])

    def kill(self) -> None:
        """Kill it, as a machine out of memory does."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def ended(self, within_s: float = 20) -> int:
        """Wait for its end; give the exit code."""
        return self._process.wait(within_s)

    def said(self) -> str:
        """Its whole log."""
        return self.log.read_text(errors="replace")


def served_to(socket: Path, uid: int, audience: str = "") -> dict[str, Any]:
    """Ask as another user; give the code, the message and the SPIFFE IDs. Only root can.

    Args:
        socket: Whom.
        uid: As whom.
        audience: For a token for it; "" for certificates.
    """
    module = "tests.e2e.support.other_user"
    command = [sys.executable, "-m", module, str(socket), str(uid), audience]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def served_token(
    socket: Path | str, audience: str, spiffe_id: str = "", timeout_s: float = 15
) -> pb.JWTSVIDResponse:
    """Ask once for JWT-SVIDs, over a connection of its own.

    Raises:
        grpc.RpcError: There are none.
    """
    with _channel(socket) as channel:
        ask: Any = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel).FetchJWTSVID
        request = pb.JWTSVIDRequest(audience=[audience], spiffe_id=spiffe_id)
        reply: pb.JWTSVIDResponse = ask(
            request, metadata=HEADER, timeout=timeout_s, wait_for_ready=True
        )
        return reply


def _channel(socket: Path | str) -> grpc.Channel:
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.default_authority", "localhost"))
    return grpc.insecure_channel(f"unix:{socket}", options=options)


def served(socket: Path | str, timeout_s: float = 15) -> pb.X509SVIDResponse:
    """Ask once for X509-SVIDs, over a connection of its own.

    Raises:
        grpc.RpcError: There are none.
    """
    with _channel(socket) as channel:
        call: Any = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel).FetchX509SVID(
            pb.X509SVIDRequest(), metadata=HEADER, timeout=timeout_s, wait_for_ready=True
        )
        reply: pb.X509SVIDResponse = next(call)
        call.cancel()
        return reply
