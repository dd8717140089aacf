"""What the kernel says of a process: its user, its groups, its program.

The names and forms of the selectors are those of SPIRE's unix attestor, so that entries written
for it hold here: uid, gid, user, group, supplementary_gid, supplementary_group, path, sha256.
"""

import asyncio
import contextlib
import errno
import grp
import hashlib
import os
import pwd
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from typing_extensions import override

from adapters.spec import Adapter
from ca.selectors import Selector
from ca.workload import Findings, Peer, WorkloadAttestor

__all__ = ["ADAPTER"]

_KIND = "unix"
_REMEMBERED = 256  # Programs; one hash is 100 bytes or so.
_CHUNK_BYTES = 1024 * 1024
_HASHED_AT_ONCE = 2
# Below the 15 s that the agent gives an attestor: what else was found is told then all the same.
_HASH_TIMEOUT_S = 12.0
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


_Program = tuple[int, int, int, int]
"""Device, inode, size and change time: they tell programs apart, and nobody but the kernel sets a
change time."""


class UnixAttestor(WorkloadAttestor):
    """Reads the socket's credentials and /proc/PID.

    Every user may start ever other programs of a gigabyte, which cost nothing on a disk and seconds
    to hash. So hashing has threads of its own, and each user one turn at a time.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._hashes: OrderedDict[_Program, str] = OrderedDict()
        self._under_way: dict[_Program, asyncio.Task[str]] = {}
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._hashing = ThreadPoolExecutor(_HASHED_AT_ONCE, "hashing")

    @override
    async def attest(self, peer: Peer) -> Findings:
        found, notes, program = await asyncio.to_thread(self._look, peer)
        if program is not None:
            try:
                async with asyncio.timeout(_HASH_TIMEOUT_S):
                    found.append(f"sha256:{await self._sha256(peer, program)}")
            except TimeoutError:
                notes.append("no sha256: programs of its user take too long to be hashed")
            except OSError as error:
                notes.append(f"no sha256: its program can't be read: {_reason(error)}")
        return Findings(frozenset(Selector(_KIND, each) for each in found), tuple(notes))

    def _look(self, peer: Peer) -> tuple[list[str], list[str], _Program | None]:
        """Give what is found at once, notes, and the program that is to be hashed."""
        notes: list[str] = []
        found = [*_owner(peer), *self._groups(peer, notes)]
        program = self._program(peer, found, notes)
        return found, notes, program

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

    def _program(self, peer: Peer, found: list[str], notes: list[str]) -> _Program | None:
        """Find the path of the program that runs; give what is to be hashed, None for nothing.

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
                return None
            program = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            notes.append(f"no path and no sha256: its program can't be opened: {_reason(error)}")
            return None
        try:
            path = str(link.readlink())
            if path.endswith(_DELETED) and os.fstat(program).st_nlink == 0:
                notes.append("no path: its program was removed or replaced since it was started")
            elif self._is_here(path, program):
                found.append(f"path:{path}")
            else:
                notes.append(f"no path: {path} of its mount namespace is another file here")
            size = os.fstat(program).st_size
            if size > self._config.max_program_bytes:
                notes.append(f"no sha256: its program has {size} bytes")
            else:
                return _identity(program)
        except OSError as error:
            notes.append(f"its program can't be read: {_reason(error)}")
        finally:
            os.close(program)
        return None

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

    async def _sha256(self, peer: Peer, program: _Program) -> str:
        """Give a program's hash; those who ask at once share one look.

        Raises:
            OSError: The process does not run it any more, or it can't be read.
        """
        while (known := self._hashes.get(program)) is None:
            hashing = self._under_way.get(program)
            if hashing is None:
                hashing = asyncio.create_task(self._hash(peer, program))
                # Looked at, so that nobody is told where whoever asked has given up.
                hashing.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._under_way[program] = hashing
                await asyncio.wait({hashing})
                return hashing.result()
            # Another process', which may end meanwhile: the next look is by our own.
            await asyncio.wait({hashing})
        self._hashes.move_to_end(program)
        return known

    async def _hash(self, peer: Peer, program: _Program) -> str:
        turn = self._turns.get(peer.uid)
        if turn is None:
            turn = self._turns[peer.uid] = asyncio.Lock()
        try:
            async with turn:
                made = await asyncio.get_running_loop().run_in_executor(
                    self._hashing, _read_hash, self._process(peer) / "exe", program
                )
            self._hashes[program] = made
            while len(self._hashes) > _REMEMBERED:
                self._hashes.popitem(last=False)
        finally:
            del self._under_way[program]
        return made

    def _process(self, peer: Peer) -> Path:
        return self._config.proc / str(peer.pid)


def _identity(program: int) -> _Program:
    status = os.fstat(program)
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def _read_hash(link: Path, expected: _Program) -> str:
    """Hash the program that a process runs, if it is still that one.

    Raises:
        OSError: It isn't, or can't be read.
    """
    program = os.open(link, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if _identity(program) != expected:
            raise OSError(errno.ESTALE, "the process runs another one by now")
        digest = hashlib.sha256()
        while chunk := os.read(program, _CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()
    finally:
        os.close(program)


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
