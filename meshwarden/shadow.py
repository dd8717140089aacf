"""What a machine keeps of a candidate beside the policy in force, and what it was seen to do.

The candidate itself is published as any policy is, in a folder of its own. Each process that
decides writes its counts to a small file; control adds them up, and keeps what the dead have seen.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from authz.replicas import ShadowCounts
from meshwarden.files import replace_file

__all__ = [
    "Candidate",
    "Seen",
    "Tally",
    "counts_dir",
    "read_candidate",
    "read_counts",
    "write_candidate",
    "write_counts",
]

_LOG = logging.getLogger(__name__)
_CANDIDATE = "candidate.json"
_TALLY = "counts.json"
_DEAD = "the dead"


class Candidate(msgspec.Struct, frozen=True):
    """Who put which candidate beside the policy in force.

    Attributes:
        digest: Of its Snapshot.
        rules: How many it has.
        author: As a revision has it.
        origin: From where it is: a folder, "revision 7".
        message: Why, in its author's words.
        set_ns: When, in nanoseconds since the epoch.
        number: In the store's sequence of candidates; 0 without a store.
        is_fixed: The configuration names it.
    """

    digest: str
    rules: int
    author: str
    origin: str
    message: str
    set_ns: int
    number: int = 0
    is_fixed: bool = False


class Seen(msgspec.Struct, frozen=True):
    """What one process has seen of one candidate.

    Attributes:
        published_ns: When the candidate was published: of two of the same text, this tells which.
        pid: The process.
        same: See ShadowCounts, as for the others.
    """

    published_ns: int
    pid: int
    same: int
    would_allow: int
    would_deny: int


def read_candidate(state_dir: Path) -> Candidate | None:
    """Read who set the candidate; None where a command has set none."""
    try:
        return msgspec.json.decode((state_dir / _CANDIDATE).read_bytes(), type=Candidate)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_candidate(state_dir: Path, candidate: Candidate | None) -> None:
    """Keep who set it; None forgets.

    Raises:
        OSError: The disk is full or read-only.
    """
    path = state_dir / _CANDIDATE
    if candidate is None:
        path.unlink(missing_ok=True)
    else:
        _replace(path, candidate)


def counts_dir(runtime_dir: Path) -> Path:
    """Where processes write what they have seen."""
    return runtime_dir / "shadow" / "counts"


def write_counts(runtime_dir: Path, name: str, seen: Seen) -> None:
    """Replace this process's file; a full disk makes it old, and ends nothing."""
    try:
        folder = counts_dir(runtime_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(folder / f"{name}.json", seen)
    except OSError as error:
        _LOG.warning("the shadow's counts are not up to date: %s", error.strerror)


def read_counts(runtime_dir: Path) -> Iterator[tuple[Path, Seen]]:
    """Give every process's file with what it says."""
    for path in counts_dir(runtime_dir).glob("*.json"):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=Seen)
        except (FileNotFoundError, msgspec.MsgspecError):
            continue


class _Kept(msgspec.Struct):
    published_ns: int = 0
    entries: dict[str, tuple[int, int, int]] = {}


class Tally:
    """Adds up what every process has seen of one candidate, over restarts of any of them."""

    def __init__(self, state_dir: Path, runtime_dir: Path) -> None:
        self._path = state_dir / _TALLY
        self._runtime_dir = runtime_dir
        self._kept = _Kept()
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            self._kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)

    def look(self, published_ns: int) -> None:
        """Read what processes say of the candidate that was published then.

        Raises:
            OSError: What was read can't be kept.
        """
        if self._kept.published_ns != published_ns:
            self._kept = _Kept(published_ns)
        before = dict(self._kept.entries)
        gone = []
        # Who is dead is known before the files are read: a last word is not missed.
        dead = {
            path
            for path, seen in read_counts(self._runtime_dir)
            if not Path(f"/proc/{seen.pid}").exists()
        }
        for path, seen in read_counts(self._runtime_dir):
            if seen.published_ns == published_ns:
                self._kept.entries[path.stem] = (seen.same, seen.would_allow, seen.would_deny)
            if path in dead:
                gone.append(path)
        if self._kept.entries != before or gone:
            for path in gone:
                self._bury(path.stem)
            _replace(self._path, self._kept)
        for path in gone:
            path.unlink(missing_ok=True)

    def _bury(self, name: str) -> None:
        """What the dead have seen is one sum: processes come and go for months."""
        last = self._kept.entries.pop(name, (0, 0, 0))
        sums = self._kept.entries.get(_DEAD, (0, 0, 0))
        both = zip(sums, last, strict=True)
        same, would_allow, would_deny = (one + other for one, other in both)
        self._kept.entries[_DEAD] = (same, would_allow, would_deny)

    def counts(self, digest: str) -> ShadowCounts:
        """Give the sums of all."""
        columns = list(zip(*self._kept.entries.values(), strict=True)) or [(0,)] * 3
        same, would_allow, would_deny = map(sum, columns)
        return ShadowCounts(digest, same, would_allow, would_deny)


def _replace(path: Path, value: msgspec.Struct) -> None:
    replace_file(path, msgspec.json.encode(value), durable=False)
