"""Asks a running service for something, over the supervisor's socket.

One JSON line goes out, one comes back. The socket's folder has mode 0700: being able to connect is
the authority, so there is no other.
"""

import errno
import socket
from pathlib import Path
from typing import Any

import msgspec

from meshwarden.errors import SupervisorError
from meshwarden.files import RuntimeDir

__all__ = ["ask", "why"]

# A status of 64 fronts takes some 20 KiB; more than this is no answer of ours.
_ANSWER_BYTES = 4 * 1024 * 1024


def ask(runtime_dir: Path, op: str, timeout_s: float) -> dict[str, Any]:
    """Send one operation and wait for its end.

    Args:
        runtime_dir: Where the service keeps its sockets.
        op: "status", "reload" or "restart_fronts".
        timeout_s: For the whole answer, in seconds; above 0.

    Returns:
        The answer, without its "ok".

    Raises:
        SupervisorError: No service runs there, it did not answer in time, or it says no.
    """
    path = RuntimeDir(runtime_dir).supervisor_socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode({"op": op}) + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(_ANSWER_BYTES)
    except TimeoutError as error:
        raise SupervisorError(f"{path}: no answer to {op} within {timeout_s:g} s") from error
    except OSError as error:
        raise SupervisorError(why(path, error)) from error
    return _understood(line, path)


def why(path: Path, error: OSError) -> str:
    """Say what to do about a socket that can't be reached."""
    match error.errno:
        case errno.ENOENT | errno.ECONNREFUSED | errno.ENOTDIR:
            return (
                f"no service runs on {path.parent}: start one by 'meshwarden serve', or name the "
                "config file that it runs on by --config"
            )
        case errno.EACCES | errno.EPERM:
            return f"{path} is not yours: ask as the user that the service runs as"
        case _:
            return f"{path}: {error.strerror or error}"


def _understood(line: bytes, path: Path) -> dict[str, Any]:
    if not line:
        raise SupervisorError(f"{path}: the service stopped before it answered")
    try:
        answer = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise SupervisorError(f"{path}: no answer of Meshwarden: {error}") from error
    if answer.pop("ok", None) is not True:
        reason = str(answer.get("error") or "the service refused, and gave no reason")
        raise SupervisorError(reason, answer)
    return answer
