"""Policy from a folder: its files in the order of their names, then those of its subfolders.

What a file means is said in authz/policy/files.py; here is what a disk may have in its place:
links, pipes, files that change while they are read, and more than a policy ever needs.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from adapters.spec import Adapter
from authz.policy.errors import Fault, PolicyError
from authz.policy.files import MAX_BYTES, PolicyFiles, is_case_file, is_passed_over
from authz.policy.rules import PolicyText
from authz.policy_source import PolicySource

__all__ = ["ADAPTER", "Config", "FolderSource", "fingerprint", "read_files"]

# Somebody's home folder, named by mistake, must not hold a load for minutes.
_ENTRIES = 10_000
_ATTEMPTS = 3
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the folder source.

    Attributes:
        path: The folder, absolute. It may itself be a symbolic link, as a deployment tool swaps it.
    """

    path: Path = field(default_factory=lambda: Path("policy").absolute())


class FolderSource(PolicySource):
    """Reads one folder, all of it or none."""

    def __init__(self, config: Config) -> None:
        self._path = config.path

    @property
    @override
    def where(self) -> str:
        return str(self._path)

    @override
    def state(self) -> str:
        # A look at every file, not the kernel's notices: those miss a folder that is swapped by a
        # symbolic link or a rename, a network's file system, and whatever is past their limits.
        return fingerprint(self._path)

    @override
    def load(self) -> PolicyText:
        """Read the folder as it is at one moment.

        Raises:
            PolicyError: The folder or a file can't be read as policy; every fault is in it.
            OSError: Somebody went on writing while it was read.
        """
        return _settled(self._path, _read)


def read_files(path: Path) -> dict[str, bytes]:
    """Read what a bundle of a folder holds: its policy and the cases that test it, as bytes.

    Raises:
        PolicyError: The folder or a file can't be read as policy; every fault is in it.
        OSError: Somebody went on writing while it was read.
    """
    return _settled(path, _read_files)


def _settled(path: Path, read: Callable[[Path], _Read]) -> _Read:
    """Read a folder while nothing in it changes.

    Raises:
        PolicyError: It can't be read, though nothing changed.
        OSError: It changed each time.
    """
    for _ in range(_ATTEMPTS):
        before = fingerprint(path)
        try:
            found = read(path)
        except PolicyError:
            if fingerprint(path) != before:
                continue
            raise
        # Half of a checkout's files, or half of one, would be a policy that nobody wrote.
        if fingerprint(path) == before:
            return found
    raise OSError(f"{path} changed each time it was read; try again")


def fingerprint(path: Path) -> str:
    """Tell one state of a folder from another without reading its files.

    Cost: one stat for each entry, some microseconds each.
    """
    digest = hashlib.sha256()
    for entry in _entries(path, []):
        try:
            status = entry.stat()
        except OSError:
            continue
        seen = (entry.relative_to(path), status.st_ino, status.st_size, status.st_mtime_ns)
        digest.update(repr(seen).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _read(path: Path) -> PolicyText:
    files = PolicyFiles()
    for name, content in _contents(path, files, lambda _: False):
        files.add(name, content)
    return files.text(str(path))


def _read_files(path: Path) -> dict[str, bytes]:
    files = PolicyFiles()
    found = {}
    for name, content in _contents(path, files, is_case_file):
        found[name] = content
        if not is_case_file(name):
            files.add(name, content)
    files.text(str(path))
    return found


def _contents(
    path: Path, files: PolicyFiles, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """Give name and content of each file that is policy, or wanted besides."""
    left = MAX_BYTES
    for entry in _entries(path, files.faults):
        name = entry.relative_to(path).as_posix()
        if not (files.is_policy(name) or is_wanted(name)):
            continue
        if not name.isprintable():
            # A reader of the history would see another one; bundles refuse it too.
            files.faults.append(Fault(name, 0, "its name holds what can't be printed"))
            continue
        content = _content(entry, name, path, left, files.faults)
        if content is not None:
            left -= len(content)
            yield name, content


def _entries(folder: Path, faults: list[Fault]) -> Iterator[Path]:
    """Walk to every file that may count: a folder's own by name, then those of its subfolders."""
    waiting = [folder]
    seen = 0
    while waiting:
        current = waiting.pop()
        try:
            entries = sorted(current.iterdir())
        except OSError as error:
            faults.append(Fault(str(current), 0, f"can't be read: {error.strerror}"))
            continue
        inner = []
        for entry in entries:
            seen += 1
            if seen > _ENTRIES:
                faults.append(Fault(str(folder), 0, f"holds more than {_ENTRIES} entries"))
                return
            if is_passed_over(entry.name):
                continue
            if not entry.is_dir():
                yield entry
            elif entry.is_symlink():
                # It would lead out, around in a circle, or to rows that are read already.
                name = entry.relative_to(folder).as_posix()
                faults.append(Fault(name, 0, "is a link to a folder; only folders are entered"))
            else:
                inner.append(entry)
        waiting += reversed(inner)


def _content(file: Path, name: str, folder: Path, left: int, faults: list[Fault]) -> bytes | None:
    """Read one file of at most `left` bytes; None with a fault where it is none that may count."""
    try:
        if not file.resolve(strict=True).is_relative_to(folder.resolve(strict=True)):
            faults.append(Fault(name, 0, "is a link out of the policy folder"))
            return None
        # A pipe would hold the load for ever, so it isn't even opened to read.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - it is a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                faults.append(Fault(name, 0, "is no regular file"))
                return None
            # Told by its size, a file beyond all measure costs nothing; one that grows is cut off.
            if os.fstat(descriptor).st_size <= left:
                content = stream.read(left + 1)
                if len(content) <= left:
                    return content
    except RuntimeError:  # Path.resolve before Python 3.13
        faults.append(Fault(name, 0, "is a link to itself"))
        return None
    except OSError as error:
        faults.append(Fault(name, 0, f"can't be read: {error.strerror}"))
        return None
    size = f"{MAX_BYTES // 1024**2} MiB"
    faults.append(Fault(name, 0, f"makes the policy larger than {size}, the most that is read"))
    return None


ADAPTER: Adapter[PolicySource, Config] = Adapter(config=Config, build=FolderSource)
