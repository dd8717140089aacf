"""Where an agent's files and sockets are, as its settings say or leave open."""

from dataclasses import dataclass
from pathlib import Path

from meshwarden.settings import Settings

__all__ = ["Places", "places"]


@dataclass(frozen=True, slots=True)
class Places:
    """One agent's folders and sockets.

    Attributes:
        state: What is kept over restarts; 0700.
        runtime: Holds what is below; others may enter it.
        private: Sockets between parts of the agent, and its status; 0700.
        socket: Where workloads connect.
    """

    state: Path
    runtime: Path
    private: Path
    socket: Path

    @property
    def inner(self) -> Path:
        """The gRPC server's own socket, behind the relay."""
        return self.private / "inner.sock"

    @property
    def status(self) -> Path:
        """How the agent is doing, as `meshwarden agent status` reads it."""
        return self.private / "status.json"


def places(settings: Settings) -> Places:
    """Give the places that settings mean."""
    own = settings.agent
    near = settings.runtime.runtime_dir
    runtime = own.runtime_dir or near.with_name(f"{near.name}-agent")
    return Places(
        own.state_dir or settings.runtime.state_dir / "agent",
        runtime,
        runtime / "private",
        own.socket or runtime / "api.sock",
    )
