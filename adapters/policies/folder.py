"""Policy from a folder: `*.csv` in the order of their names, and `model.conf` if there is one.

Subfolders are read too; names that begin with a dot, Markdown and editors' backups are not. What
looks like policy but would not be read, such as `rules.cvs`, is a fault: it must not silently do
nothing.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from typing_extensions import override

from adapters.spec import Adapter
from authz.policy.csv_rows import parse_csv
from authz.policy.errors import Fault, PolicyError
from authz.policy.rules import PolicyText, Row
from authz.policy_source import PolicySource

__all__ = ["ADAPTER", "Config", "FolderSource", "fingerprint"]

_MODEL = "model.conf"
# Suffixes that somebody meant as policy: read if spelt right, else a fault.
_LIKE_POLICY = frozenset({".csv", ".cvs", ".tsv", ".conf"})
_FILE_BYTES = 64 * 1024 * 1024
# Somebody's home folder, named by mistake, must not hold a load for minutes.
_ENTRIES = 10_000
_ATTEMPTS = 3


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
        for _ in range(_ATTEMPTS):
            before = fingerprint(self._path)
            try:
                text = _read(self._path)
            except PolicyError:
                if fingerprint(self._path) != before:
                    continue
                raise
            # Half of a checkout's files, or half of one, would be a policy that nobody wrote.
            if fingerprint(self._path) == before:
                return text
        raise OSError(f"{self._path} changed each time it was read; try again")


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
    faults: list[Fault] = []
    rows: list[Row] = []
    model: str | None = None
    has_rows = False
    for entry in _entries(path, faults):
        name = entry.relative_to(path).as_posix()
        if name == _MODEL:
            model = _text(entry, name, path, faults)
        elif entry.suffix == ".csv":
            has_rows = True
            text = _text(entry, name, path, faults)
            if text is not None:
                found, wrong = parse_csv(text, name)
                rows += found
                faults += wrong
        elif entry.suffix.lower() in _LIKE_POLICY:
            expected = (
                "*.csv, in lower case" if entry.suffix != ".conf" else "the folder's model.conf"
            )
            faults.append(Fault(name, 0, f"is not read: policy is {expected}; rename or remove it"))
    if not has_rows and not faults:
        faults.append(
            Fault(str(path), 0, "holds no *.csv; a policy without rules is an empty one, written")
        )
    if faults:
        raise PolicyError(faults)
    if model is None:
        mesh = resources.files("authz.policy").joinpath("mesh.conf").read_text(encoding="utf-8")
        return PolicyText(mesh, tuple(rows))
    return PolicyText(model, tuple(rows), _MODEL)


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
            if entry.name.startswith((".", "#")) or entry.name.endswith(("~", ".md")):
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


def _text(file: Path, name: str, folder: Path, faults: list[Fault]) -> str | None:
    """Read one file; None with a fault where it is no text that may count."""
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
            content = stream.read(_FILE_BYTES + 1)
    except RuntimeError:  # Path.resolve before Python 3.13
        faults.append(Fault(name, 0, "is a link to itself"))
        return None
    except OSError as error:
        faults.append(Fault(name, 0, f"can't be read: {error.strerror}"))
        return None
    if len(content) > _FILE_BYTES:
        faults.append(Fault(name, 0, f"is larger than {_FILE_BYTES // 1024**2} MiB; split it"))
        return None
    return _decoded(content, name, faults)


def _decoded(content: bytes, name: str, faults: list[Fault]) -> str | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # utf-8-sig counts from after the byte-order mark.
        at = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, at) + 1
        said = f"is not UTF-8: byte 0x{content[at]:02x} at offset {at}"
        faults.append(Fault(name, line, said))
        return None
    at = content.find(b"\0")
    if at >= 0:
        line = content.count(b"\n", 0, at) + 1
        faults.append(Fault(name, line, f"is not text: a NUL byte at offset {at}"))
        return None
    return text


ADAPTER: Adapter[PolicySource, Config] = Adapter(config=Config, build=FolderSource)
