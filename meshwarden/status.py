"""What each process says of itself, in one small file each: read even when it no longer answers."""

import os
from pathlib import Path

import msgspec

__all__ = ["LoadState", "ProcessStatus", "read_all", "read_load", "write", "write_load"]

_FOLDER = "status"
_LOAD = "load.json"


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process, as it was when it last changed.

    Attributes:
        kind: "control" or "front".
        name: Unique among those that live at once, such as "front-0".
        pid: Its process id.
        epoch: Counts a front's hot restarts.
        started_ns: When it started, nanoseconds since the epoch.
        digest: The policy it decides by; empty when it doesn't decide.
        rules: How many rules that has.
        ready: Whether it should be asked.
        error: The last thing that went wrong; empty when nothing is.
    """

    kind: str
    name: str
    pid: int
    epoch: int
    started_ns: int
    digest: str = ""
    rules: int = 0
    ready: bool = False
    error: str = ""


class LoadState(msgspec.Struct, frozen=True):
    """How the newest load of the policy's source went; control writes it, all read it.

    Attributes:
        digest: Of the policy published last.
        rules: Its rules.
        published_ns: When it was published.
        restored: It is the local copy: the source could not be loaded since the start.
        errors: "file:line: message" each, of the newest load, if that failed.
        failed_ns: Since when loads fail; 0 after a good one.
        attempt: Counts loads since control started, so that a reader can await the next.
    """

    digest: str = ""
    rules: int = 0
    published_ns: int = 0
    restored: bool = False
    errors: tuple[str, ...] = ()
    failed_ns: int = 0
    attempt: int = 0


def write(runtime_dir: Path, status: ProcessStatus) -> None:
    """Replace this process's file."""
    _replace(runtime_dir, f"{status.name}-{status.pid}.json", status)


def write_load(runtime_dir: Path, state: LoadState) -> None:
    """Replace the file about the policy's source."""
    _replace(runtime_dir, _LOAD, state)


def read_load(runtime_dir: Path) -> LoadState:
    """Read how the newest load went; an empty state before the first."""
    try:
        return msgspec.json.decode((runtime_dir / _FOLDER / _LOAD).read_bytes(), type=LoadState)
    except FileNotFoundError:
        return LoadState()


def read_all(runtime_dir: Path) -> list[ProcessStatus]:
    """Read every living process's file, by kind and name; removes those of the dead."""
    found = []
    for path in (runtime_dir / _FOLDER).glob("*-*.json"):
        try:
            status = msgspec.json.decode(path.read_bytes(), type=ProcessStatus)
        except FileNotFoundError:
            continue
        if Path(f"/proc/{status.pid}").exists():
            found.append(status)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda status: (status.kind, status.name, status.epoch))


def _replace(runtime_dir: Path, name: str, value: msgspec.Struct) -> None:
    folder = runtime_dir / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = folder / f".{name}.{os.getpid()}"
    fresh.write_bytes(msgspec.json.encode(value))
    fresh.replace(folder / name)
