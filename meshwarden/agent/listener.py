"""The socket for workloads: made at the start, or the start fails and says why."""

import logging
import os
import socket
import stat
from pathlib import Path

from meshwarden.agent.places import Places
from meshwarden.supervisor.lifecycle import RuntimeDirError, make_private_dir

__all__ = ["open_listener"]

_LOG = logging.getLogger(__name__)
_BACKLOG = 1024


def open_listener(where: Places) -> socket.socket:
    """Make the folders and listen.

    The socket is open to every user of the machine, as the SPIFFE Workload Endpoint standard has it
    (section 5): callers are recognised, not let in.

    Raises:
        RuntimeDirError: Something is in the way; the message says what, and which setting.
    """
    _make_passable(where.runtime, "agent.runtime_dir")
    _make_passable(where.socket.parent, "agent.socket")
    for folder in {where.runtime, where.socket.parent}:
        _warn_if_open(folder)
    make_private_dir(where.private, "agent.runtime_dir", holds_sockets=True)
    return _listen(where.socket)


def _make_passable(folder: Path, setting: str) -> None:
    """Make a folder, and those above it, for others to pass through."""
    before = os.umask(0o022)
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RuntimeDirError(f"{setting}: {error.filename} is no folder") from error
    except OSError as error:
        raise RuntimeDirError(f"{setting}: {error.filename}: {error.strerror}") from error
    finally:
        os.umask(before)


def _warn_if_open(folder: Path) -> None:
    """Tell of a folder in which others could put a socket of theirs in place of ours.

    No more than that: a volume that containers share mostly has this mode.
    """
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        _LOG.warning(
            "%s has mode %04o: every user can put a socket of his own in place of ours there, and "
            "hand out identities of his own; 'chmod o-w' it",
            folder,
            stat.S_IMODE(mode),
        )


def _listen(path: Path) -> socket.socket:
    setting = "agent.socket"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _check_free(path, setting)
        listener.bind(os.fspath(path))
        path.chmod(0o777)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise RuntimeDirError(f"{setting}: {path}: {error.strerror or error}") from error
    except RuntimeDirError:
        listener.close()
        raise
    return listener


def _check_free(path: Path, setting: str) -> None:
    """Remove what a dead agent left; a file of somebody else's is not ours to remove."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise RuntimeDirError(f"{setting}: {path} is there, and is no socket")
    if _answers(path):
        raise RuntimeDirError(f"{setting}: another process serves {path}")
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
        return True
