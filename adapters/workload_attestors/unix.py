"""What the kernel says of a process: its user, its groups, its program.

The names and forms of the selectors are those of SPIRE's unix attestor, so that entries written
for it hold here: uid, gid, user, group, supplementary_gid, supplementary_group, path, sha256.
"""

import asyncio
import contextlib
import grp
import hashlib
import os
import pwd
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from adapters.spec import Adapter
from ca.selectors import Selector
from ca.workload import Findings, Peer, WorkloadAttestor

__all__ = ["ADAPTER"]

_KIND = "unix"
_REMEMBERED = 256  # Programs; one hash is 100 bytes or so.
_CHUNK_BYTES = 1024 * 1024
_DELETED = " (deleted)"  # proc(5), /proc/pid/exe


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the unix attestor.

    Attributes:
        max_program_bytes: Programs above it get no sha256 selector.
        proc: Where procfs is mounted.
    """

    max_program_bytes: int = 1 << 30
    proc: Path = Path("/proc")


class UnixAttestor(WorkloadAttestor):
    """Reads the socket's credentials and /proc/PID."""

    def __init__(self, config: Config) -> None:
        self._config = config
        # Which program has which hash: device, inode, size and change time tell programs apart,
        # and nobody but the kernel sets a change time.
        self._hashes: OrderedDict[tuple[int, int, int, int], str] = OrderedDict()

    @override
    async def attest(self, peer: Peer) -> Findings:
        # Hashing a program may take a while, and the loop has others to serve.
        return await asyncio.to_thread(self._look, peer)

    def _look(self, peer: Peer) -> Findings:
        notes: list[str] = []
        found = [*_owner(peer), *self._groups(peer, notes), *self._program(peer, notes)]
        return Findings(frozenset(Selector(_KIND, each) for each in found), tuple(notes))

    def _groups(self, peer: Peer, notes: list[str]) -> Iterator[str]:
        groups = peer.groups
        if groups is None:
            try:
                groups = _status_groups(self._process(peer) / "status")
            except (OSError, ValueError) as error:
                notes.append(f"no supplementary groups: {_reason(error)}")
                return
        for gid in groups:
            yield f"supplementary_gid:{gid}"
            if name := _group_name(gid):
                yield f"supplementary_group:{name}"

    def _program(self, peer: Peer, notes: list[str]) -> Iterator[str]:
        """Give path and hash of the program that runs.

        The link /proc/PID/exe is opened itself, and leads to the file that was executed whatever
        its name is by now; a file that took its name later is another one.

        A setuid program counts only where it connected itself. Who connects, leaves the connection
        to a child and executes such a program does not direct it, and would speak in its name.
        """
        link = self._process(peer) / "exe"
        try:
            if _owner_now(self._process(peer) / "status") != (peer.uid, peer.gid):
                notes.append(
                    "no path and no sha256: the process has another user or group than when it "
                    "connected, as one has that executed a setuid program"
                )
                return
            program = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            notes.append(f"no path and no sha256: its program can't be opened: {_reason(error)}")
            return
        try:
            path = str(link.readlink())
            if path.endswith(_DELETED) and os.fstat(program).st_nlink == 0:
                notes.append("no path: its program was removed or replaced since it was started")
            elif self._is_here(path, program):
                yield f"path:{path}"
            else:
                notes.append(f"no path: {path} of its mount namespace is another file here")
            size = os.fstat(program).st_size
            if size > self._config.max_program_bytes:
                notes.append(f"no sha256: its program has {size} bytes")
            else:
                yield f"sha256:{self._hash(program)}"
        except OSError as error:
            notes.append(f"its program can't be read: {_reason(error)}")
        finally:
            os.close(program)

    def _is_here(self, path: str, program: int) -> bool:
        """Whether a path leads this machine to the program as well.

        Every user may make a mount namespace with any file at any path. The init process's root is
        tried too: an agent in a container sees other files than the machine does.
        """
        for root in (Path("/"), self._config.proc / "1" / "root"):
            with contextlib.suppress(OSError):
                if os.path.samestat((root / path[1:]).stat(), os.fstat(program)):
                    return True
        return False

    def _hash(self, program: int) -> str:
        status = os.fstat(program)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        if (known := self._hashes.get(identity)) is not None:
            return known
        digest = hashlib.sha256()
        while chunk := os.read(program, _CHUNK_BYTES):
            digest.update(chunk)
        self._hashes[identity] = digest.hexdigest()
        while len(self._hashes) > _REMEMBERED:
            self._hashes.popitem(last=False)
        return digest.hexdigest()

    def _process(self, peer: Peer) -> Path:
        return self._config.proc / str(peer.pid)


def _owner(peer: Peer) -> Iterator[str]:
    yield f"uid:{peer.uid}"
    yield f"gid:{peer.gid}"
    # Many containers run as a number without a name: nothing to say, nothing wrong.
    with contextlib.suppress(KeyError):
        yield f"user:{pwd.getpwuid(peer.uid).pw_name}"
    if name := _group_name(peer.gid):
        yield f"group:{name}"


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _status_groups(status: Path) -> tuple[int, ...]:
    """Read the line "Groups:" of /proc/PID/status; proc(5)."""
    for line in status.read_text(errors="replace").splitlines():
        if line.startswith("Groups:"):
            return tuple(map(int, line.split()[1:]))
    return ()


def _owner_now(status: Path) -> tuple[int, int]:
    """Read the effective user and group from /proc/PID/status; proc(5)."""
    found = {"Uid": -1, "Gid": -1}
    for line in status.read_text(errors="replace").splitlines():
        name, _, values = line.partition(":")
        if name in found:
            found[name] = int(values.split()[1])  # Real, effective, saved, of the file system.
    return found["Uid"], found["Gid"]


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; the agent needs CAP_SYS_PTRACE, or the same user"
    return getattr(error, "strerror", None) or type(error).__name__


ADAPTER: Adapter[WorkloadAttestor, Config] = Adapter(config=Config, build=UnixAttestor)
