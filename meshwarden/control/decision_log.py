"""The decision log: one JSON line a record, in files bounded in size and number."""

import errno
import logging
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from io import FileIO
from itertools import accumulate
from pathlib import Path

import msgspec

from protos.meshwarden.v1 import internal_pb2

__all__ = ["DecisionLog"]

_LOG = logging.getLogger(__name__)
_NAME = "decisions.jsonl"
_encode = msgspec.json.Encoder().encode


class DecisionLog:
    """Appends records to `decisions.jsonl`; full files become `decisions.jsonl.1` and so on."""

    def __init__(self, state_dir: Path, max_bytes: int, max_files: int) -> None:
        self._path = state_dir / _NAME
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._file: FileIO | None = None
        self._failing = False

    def append(self, records: Iterable[internal_pb2.DecisionRecord]) -> int:
        """Write a batch; give how many of it, counted from the first, the disk took."""
        lines = [_encode(_line(record)) + b"\n" for record in records]
        written = 0
        try:
            while written < len(lines):
                written += self._write(lines[written:])
        except OSError as error:
            # Decisions go on: a full disk must not become a denial of service. The caller counts
            # these records as dropped; the log says it once until writing works again.
            if not self._failing:
                _LOG.error("the decision log can't be written: %s", error.strerror)
            self._failing = True
            self.close()
            return written
        if self._failing:
            _LOG.warning("the decision log is written again")
        self._failing = False
        return written

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write as many lines as the file has room for, but one at least; give their number."""
        file = self._open()
        size = file.seek(0, os.SEEK_END)
        if size and size + len(lines[0]) > self._max_bytes:
            self._rotate()
            file, size = self._open(), 0
        ends = list(accumulate(map(len, lines), initial=size))[1:]
        count = max(1, bisect_right(ends, self._max_bytes))
        text = b"".join(lines[:count])
        if file.write(text) != len(text):
            # Half a line would spoil the next one too.
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return count

    def _open(self) -> FileIO:
        if self._file is not None and not self._is_current(self._file):
            self.close()  # Somebody moved or removed it: what follows belongs into a new one.
        if self._file is None:
            # Not buffered: what could not be written would be tried again by close.
            self._file = FileIO(self._path, "a", opener=_private)
        return self._file

    def _is_current(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _rotate(self) -> None:
        self.close()
        for number in range(self._max_files - 1, 0, -1):
            older = self._path.with_name(f"{_NAME}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{_NAME}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        if self._max_files == 1:
            self._path.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(record: internal_pb2.DecisionRecord) -> dict[str, object]:
    """Every field that holds something, in the order of the message's definition."""
    return {
        field.name: list(value) if field.is_repeated else value
        for field, value in record.ListFields()
    }
