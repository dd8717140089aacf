"""The decision log: one JSON line a record, in files bounded in size and number."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

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
        self._file: BinaryIO | None = None
        self._failing = False

    def append(self, records: Iterable[internal_pb2.DecisionRecord]) -> bool:
        """Write a batch with one call; False when the disk took none of it."""
        lines = b"".join(_encode(_line(record)) + b"\n" for record in records)
        try:
            file = self._open()
            if file.tell() + len(lines) > self._max_bytes and file.tell():
                self._rotate()
                file = self._open()
            file.write(lines)
            file.flush()
        except OSError as error:
            # Decisions go on: a full disk must not become a denial of service. The caller counts
            # these records as dropped; the log says it once until writing works again.
            if not self._failing:
                _LOG.exception("the decision log can't be written: %s", error.strerror)
            self._failing = True
            self.close()
            return False
        if self._failing:
            _LOG.warning("the decision log is written again")
        self._failing = False
        return True

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._path.touch(mode=0o600)
            self._file = self._path.open("ab")
        return self._file

    def _rotate(self) -> None:
        self.close()
        for number in range(self._max_files - 1, 0, -1):
            older = self._path.with_name(f"{_NAME}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{_NAME}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        if self._max_files == 1:
            self._path.unlink()


def _line(record: internal_pb2.DecisionRecord) -> dict[str, object]:
    """Every field that holds something, in the order of the message's definition."""
    return {
        field.name: list(value) if field.is_repeated else value
        for field, value in record.ListFields()
    }
