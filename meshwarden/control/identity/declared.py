"""Keeps the entries that files declare: what enters a file is added, what leaves it is removed.

A set with a fault changes nothing, and the last good one stays in force: half of an edit would take
identities away from workloads that nobody wanted to change.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import uuid_utils

from ca.doubts import doubts
from ca.entries import API, Entry, fingerprint
from ca.entry_draft import EntryRules
from ca.errors import IdentityError
from ca.registry import Audit
from meshwarden import metrics
from meshwarden.control.identity.registry import Registry
from meshwarden.entry_files import EntryFileError, check_drafts, doubt_text, files_of, read_drafts
from meshwarden.status import EntriesState

__all__ = ["Declared"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0
_WHO = "files"
# Faults that are shown; a file may have as many as lines.
_SHOWN = 100


class _ConflictError(EntryFileError):
    """The files are sound, and something that was registered by command is in their way."""


class Declared:
    """The declared entries of one service.

    Attributes:
        state: How the newest look went.
    """

    def __init__(
        self,
        path: Path,
        registry: Registry,
        rules: EntryRules,
        now_ns: Callable[[], int],
        tell: Callable[[EntriesState], None],
    ) -> None:
        """Look at nothing yet.

        Args:
            path: A file, or a folder.
            registry: Where entries go.
            rules: What they must keep to.
            now_ns: The time.
            tell: Told of each new state.
        """
        self.state = EntriesState(str(path))
        self._tell = tell
        self._faults: tuple[str, ...] = ()
        self._path = path
        self._registry = registry
        self._rules = rules
        self._now_ns = now_ns
        self._seen: object = None
        # Set when the registry has changed: what was in the way may be gone.
        self._freed: asyncio.Event | None = None

    async def run(self) -> None:
        """Look at the files once a second, and obey what changes; for ever."""
        while True:
            try:
                await self.look()
            except IdentityError as error:
                # The store's, or somebody else wrote at the same time: the next look tries again.
                self._seen = None
                if (str(error),) != self._faults:
                    _LOG.warning(
                        "declared entries of %s are not in force yet: %s", self._path, error
                    )
                self._failed((str(error),))
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Obey the files as they are, if they changed.

        Raises:
            IdentityError: They could not be put in force; they may be soon.
        """
        state = await asyncio.to_thread(_state, self._path)
        if state == self._seen and (self._freed is None or not self._freed.is_set()):
            return
        self._freed = self._registry.changed
        try:
            wanted = await asyncio.to_thread(self._read)
            # Somebody was writing: what was read may be half of it. The next look sees it whole.
            if await asyncio.to_thread(_state, self._path) != state:
                return
            await self._reconcile(wanted)
        except EntryFileError as error:
            if not isinstance(error, _ConflictError):
                self._freed = None
            if error.faults != self._faults:
                for fault in error.faults:
                    _LOG.error("declared entries: %s", fault)
                _LOG.error("declared entries: nothing of %s was taken", self._path)
            self._failed(error.faults)
        else:
            self._freed = None
            self._faults = ()
            self._changed(EntriesState(str(self._path), len(wanted), self._now_ns()))
        self._seen = state

    def _failed(self, faults: Sequence[str]) -> None:
        self._faults = tuple(faults)
        metrics.ENTRY_FAULTS.set(len(faults))
        shown = tuple(faults[:_SHOWN])
        if len(faults) > _SHOWN:
            shown += (f"{len(faults) - _SHOWN} faults more: 'meshwarden entry apply' tells all",)
        failed_ns = self.state.failed_ns or self._now_ns()
        self._changed(msgspec.structs.replace(self.state, errors=shown, failed_ns=failed_ns))

    def _changed(self, state: EntriesState) -> None:
        if not state.errors:
            metrics.ENTRY_FAULTS.set(0)
        if state != self.state:
            self.state = state
            self._tell(state)

    def _read(self) -> Mapping[str, tuple[Entry, str]]:
        return check_drafts(read_drafts(self._path), self._rules)

    async def _reconcile(self, wanted: Mapping[str, tuple[Entry, str]]) -> None:
        await self._registry.refresh()
        there = {_fingerprint(each): each for each in self._registry.entries.all()}
        faults = [
            f"{where}: the same as entry {there[key].workload.id}, which was registered by command"
            for key, (_, where) in wanted.items()
            if key in there and there[key].origin == API
        ]
        if faults:
            raise _ConflictError(faults)
        puts = []
        for key, (entry, _) in wanted.items():
            before = there.get(key)
            if before is None:
                puts.append(_with_id(entry, str(uuid_utils.uuid7())))
            elif not _is_same(before, entry):
                puts.append(_with_id(entry, before.workload.id))
        removals = [
            each.workload.id
            for key, each in there.items()
            if each.origin != API and key not in wanted
        ]
        if not puts and not removals:
            return
        told = f"{len(puts)} put, {len(removals)} removed, of {len(wanted)}"
        audit = Audit(
            self._now_ns(), _WHO, "local", "entry.declare", "done", f"{self._path}: {told}"
        )
        await self._registry.store.write_entries(puts, removals, audit)
        for doubt in dict.fromkeys(doubt for each in puts for doubt in doubts(each)):
            _LOG.warning("declared entries of %s: %s", self._path, doubt_text(doubt))
        _LOG.info("declared entries of %s: %s", self._path, told)
        await self._registry.refresh()


def _state(path: Path) -> object:
    """Tell one state of the files from another without reading them."""
    try:
        found = [(file, file.stat()) for file in files_of(path)]
    except OSError as error:
        return str(error)
    return [
        (str(file), status.st_ino, status.st_size, status.st_mtime_ns) for file, status in found
    ]


def _fingerprint(entry: Entry) -> str:
    return fingerprint(entry.parent_id, entry.workload.spiffe_id, entry.workload.selectors)


def _with_id(entry: Entry, entry_id: str) -> Entry:
    return replace(entry, workload=replace(entry.workload, id=entry_id))


def _is_same(before: Entry, entry: Entry) -> bool:
    alike = replace(entry.workload, id=before.workload.id, version=before.workload.version)
    return replace(entry, workload=alike, created_ns=before.created_ns) == before
