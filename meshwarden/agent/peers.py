"""Who is at the other end of a Unix socket, and whether it is still that process.

A pid alone names a process only while that lives. A pidfd names it for ever: if it says, after all
looks at /proc/PID, that the process is alive, then the pid was its own during each of them.
"""

import contextlib
import errno
import os
import select
import socket
import struct

from ca.workload import Peer

__all__ = ["Caller", "PeerError", "caller_of"]

# Numbers of asm-generic/socket.h that Python's socket module has no names for.
_SO_PEERGROUPS = 59
_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("iII")  # struct ucred; of users all 32 bits are in use.
_MOST_GROUPS_BYTES = 1024  # Python asks for no more.


class PeerError(Exception):
    """A connection whose other end can't be told; refuse it. The message says why."""


class Caller:
    """A process that connected, held by a pidfd until `close`.

    Attributes:
        peer: What the kernel said of it when it connected.
    """

    def __init__(self, peer: Peer, pidfd: int) -> None:
        self.peer = peer
        self._pidfd = pidfd

    def is_alive(self) -> bool:
        """Whether the process that connected has not ended."""
        if self._pidfd < 0:
            return False
        # A pidfd can be read once its process has ended: pidfd_open(2). poll, since select knows
        # no descriptor above 1,023.
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Let go of the process; it counts as ended from then on."""
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)


def caller_of(connection: socket.socket) -> Caller:
    """Ask the kernel who connected.

    Raises:
        PeerError: It has ended already, or is of a PID namespace that can't be seen from here.
    """
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(data)
    if pid < 1:
        raise PeerError(
            "the process that connected is of a PID namespace that the agent doesn't see; run the "
            "agent in the machine's own"
        )
    pidfd = _pidfd_of(connection, pid)
    groups = None
    with contextlib.suppress(OSError):  # More groups than fit: they are read from /proc then.
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS_BYTES)
        groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Caller(Peer(pid, uid, gid, groups), pidfd)


def _pidfd_of(connection: socket.socket, pid: int) -> int:
    """Get a pidfd of the very process that connected.

    Before Linux 6.5 the kernel only tells the pid, and there is a gap between the accept and this
    call in which the process may end and its pid go to another one. A process that ended has
    closed its socket, which is looked for after the pidfd is there.
    """
    try:
        data = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
        return int(struct.unpack("i", data)[0])
    except OSError as error:
        # An older kernel doesn't know the question; any other fault says that the process is gone.
        if error.errno != errno.ENOPROTOOPT:
            raise PeerError("the process that connected has ended") from error
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise PeerError("the process that connected has ended") from error
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLRDHUP)
    if poll.poll(0):
        os.close(pidfd)
        raise PeerError("the process that connected has ended")
    return pidfd
