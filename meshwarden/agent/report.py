"""How an agent is doing, told by a file: as other processes of Meshwarden do."""

import contextlib
import os
from pathlib import Path

import msgspec

from meshwarden.files import replace_file

__all__ = ["AgentStatus", "is_running", "read_status", "write_status"]


class AgentStatus(msgspec.Struct, frozen=True):
    """What an agent says of itself.

    Attributes:
        pid: Its process.
        started_ns: When it started.
        told_ns: When it said this.
        agent: Its SPIFFE ID to the server; "" before it attested.
        server: Where the server is.
        connected: Whether it follows the server now.
        since_ns: Since when that is so.
        fault: Why it doesn't; "" where it does.
        own_expires_ns: When its own certificate expires; 0 without one.
        entries: Entries it follows; -1 before it knows them.
        identities: Certificates it has.
        next_expires_ns: When the first of them expires; 0 without any.
        refusals: What could not be signed, "SPIFFE ID: reason" each.
        streams: Calls of workloads that go on.
        connections: Open connections of workloads.
        socket: Where workloads connect.
    """

    pid: int
    started_ns: int
    told_ns: int
    agent: str
    server: str
    connected: bool
    since_ns: int
    fault: str
    own_expires_ns: int
    entries: int
    identities: int
    next_expires_ns: int
    refusals: list[str]
    streams: int
    connections: int
    socket: str


def write_status(path: Path, status: AgentStatus) -> None:
    """Replace what was said before.

    Raises:
        OSError: It can't be written.
    """
    replace_file(path, msgspec.json.encode(status))


def read_status(path: Path) -> AgentStatus | None:
    """Read what an agent said last; None where none did."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=AgentStatus)
    return None


def is_running(status: AgentStatus) -> bool:
    """Whether the process that said it is there still."""
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
