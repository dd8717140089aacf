"""What each process says of itself, in one small file each: read even when it no longer answers."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from authz.replicas import Replica
from meshwarden.files import replace_file

__all__ = [
    "EntriesState",
    "IdentityState",
    "LoadState",
    "ProcessStatus",
    "Replicas",
    "clear",
    "entries_answer",
    "identity_answer",
    "read_all",
    "read_entries",
    "read_identity",
    "read_load",
    "read_replicas",
    "until_all_decide_by",
    "write",
    "write_entries",
    "write_identity",
    "write_load",
    "write_replicas",
]

_LOG = logging.getLogger(__name__)
_FOLDER = "status"
_LOAD = "load.json"
_REPLICAS = "replicas.json"
_ENTRIES = "entries.json"
_IDENTITY = "identity.json"
_POLL_S = 0.02
_SPREAD_TIMEOUT_S = 10.0
_State = TypeVar("_State", bound=msgspec.Struct)


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
        revision: Its number in the store; 0 where it isn't from there.
        source: Where the policy came from, for people.
        version: What the source calls it: revision, digest and ETag of a bundle; "" where nothing
            is known of that.
        begun_ns: When the newest load began, on the machine's monotonic clock, so that a reader can
            await one that saw what it has just written.
    """

    digest: str = ""
    rules: int = 0
    published_ns: int = 0
    restored: bool = False
    errors: tuple[str, ...] = ()
    failed_ns: int = 0
    revision: int = 0
    source: str = ""
    version: str = ""
    begun_ns: int = 0


class EntriesState(msgspec.Struct, frozen=True):
    """How the newest look at the declared entries went; control writes it, all read it.

    Attributes:
        source: The file or folder that declares them.
        count: How many it declared when it was last taken.
        taken_ns: When that was; 0 for not since the start. What was in force before is so still.
        errors: "file:line: message" each, of the files as they are, or why they wait.
        failed_ns: Since when they are not taken; 0 where they are.
    """

    source: str
    count: int = 0
    taken_ns: int = 0
    errors: tuple[str, ...] = ()
    failed_ns: int = 0


class IdentityState(msgspec.Struct, frozen=True):
    """How the authority of a trust domain is; control writes it, all read it.

    Attributes:
        trust_domain: Whose it is.
        entries: Workloads that are registered.
        agents: Agents whose certificates hold.
        waits: Why nothing is signed; "" while it is.
        first_name: Which of the keys that sign ends first, for people; "" while nothing is signed.
        first_ends_ns: When that is, nanoseconds since the epoch.
    """

    trust_domain: str
    entries: int = 0
    agents: int = 0
    waits: str = ""
    first_name: str = ""
    first_ends_ns: int = 0


class Replicas(msgspec.Struct, frozen=True):
    """How every replica is that shares the store with this one.

    Attributes:
        replicas: All of them, this one too; it alone where there is nothing to share.
        error: Why this is older than it should be; "" where it is not.
        read_ns: When all this was so, in nanoseconds since the epoch; 0 before the first look.
    """

    replicas: tuple[Replica, ...] = ()
    error: str = ""
    read_ns: int = 0


def clear(runtime_dir: Path) -> None:
    """Forget what was said in an earlier run."""
    shutil.rmtree(runtime_dir / _FOLDER, ignore_errors=True)


def write(runtime_dir: Path, status: ProcessStatus) -> None:
    """Replace this process's file."""
    _replace(runtime_dir, f"{status.name}-{status.pid}.json", status)


def write_load(runtime_dir: Path, state: LoadState) -> None:
    """Replace the file about the policy's source."""
    _replace(runtime_dir, _LOAD, state)


def read_load(runtime_dir: Path) -> LoadState:
    """Read how the newest load went; an empty state before the first."""
    return _read(runtime_dir, _LOAD, LoadState) or LoadState()


def write_entries(runtime_dir: Path, state: EntriesState) -> None:
    """Replace the file about the declared entries."""
    _replace(runtime_dir, _ENTRIES, state)


def read_entries(runtime_dir: Path) -> EntriesState | None:
    """Read how the newest look at the declared entries went; None where no file declares any."""
    return _read(runtime_dir, _ENTRIES, EntriesState)


def entries_answer(state: EntriesState | None, now_ns: int) -> dict[str, Any] | None:
    """Say how the declared entries are, as `meshwarden status` does, here and from elsewhere."""
    if state is None:
        return None
    return {
        "source": state.source,
        "count": state.count,
        "age_s": round((now_ns - state.taken_ns) / 1e9, 1) if state.taken_ns else None,
        "errors": list(state.errors),
        "failing_for_s": round((now_ns - state.failed_ns) / 1e9, 1) if state.failed_ns else 0,
    }


def write_identity(runtime_dir: Path, state: IdentityState) -> None:
    """Replace the file about the trust domain's authority."""
    _replace(runtime_dir, _IDENTITY, state)


def read_identity(runtime_dir: Path) -> IdentityState | None:
    """Read how the authority is; None where there is none."""
    return _read(runtime_dir, _IDENTITY, IdentityState)


def identity_answer(state: IdentityState | None, now_ns: int) -> dict[str, Any] | None:
    """Say how the authority is, as `meshwarden status` does, here and from elsewhere."""
    if state is None:
        return None
    return {
        "trust_domain": state.trust_domain,
        "entries": state.entries,
        "agents": state.agents,
        "waits": state.waits,
        "first_to_end": state.first_name,
        "ends_in_s": round((state.first_ends_ns - now_ns) / 1e9, 1) if state.first_name else None,
    }


def write_replicas(runtime_dir: Path, replicas: Replicas) -> None:
    """Replace the file about the replicas."""
    _replace(runtime_dir, _REPLICAS, replicas)


def read_replicas(runtime_dir: Path) -> Replicas:
    """Read how the replicas are; nothing before control's first look."""
    return _read(runtime_dir, _REPLICAS, Replicas) or Replicas()


def read_all(runtime_dir: Path) -> list[ProcessStatus]:
    """Read every living process's file, by kind, name and epoch."""
    found = []
    for path in (runtime_dir / _FOLDER).glob("*-*.json"):
        try:
            status = msgspec.json.decode(path.read_bytes(), type=ProcessStatus)
        except FileNotFoundError:
            continue
        # The supervisor removes a dead child's file; until it has seen the death, this tells.
        if Path(f"/proc/{status.pid}").exists():
            found.append(status)
    return sorted(found, key=lambda status: (status.kind, status.name, status.epoch))


async def until_all_decide_by(runtime_dir: Path, digest: str) -> None:
    """Wait until every process that decides does so by this policy, at most 10 s."""
    try:
        async with asyncio.timeout(_SPREAD_TIMEOUT_S):
            while any(
                each.kind == "front" and each.digest != digest for each in read_all(runtime_dir)
            ):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        _LOG.warning("not every front took policy %s in time", digest[:12])


def _read(runtime_dir: Path, name: str, kind: type[_State]) -> _State | None:
    try:
        return msgspec.json.decode((runtime_dir / _FOLDER / name).read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _replace(runtime_dir: Path, name: str, value: msgspec.Struct) -> None:
    folder = runtime_dir / _FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(folder / name, msgspec.json.encode(value), durable=False)
    except OSError as error:
        # A full disk makes what is shown old; it must not end a process that decides.
        _LOG.warning("status is not up to date: %s: %s", folder / name, error.strerror)
