"""Decision records as JSON lines, in files bounded in size, number and age."""

import errno
import os
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import accumulate
from pathlib import Path

import msgspec
from typing_extensions import override

from adapters.spec import Adapter
from telemetry.sink import DecisionSink, Written

__all__ = ["ADAPTER", "Config", "JsonLines"]

_NAME = "decisions.jsonl"
_DAY_NS = 86_400 * 10**9
_LONGEST_BYTES = 1 << 20  # No line is as long.


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the JSON lines.

    Attributes:
        state_dir: The folder of the files; it has to exist when records come.
        file_bytes: Size at which a new file is begun.
        files: How many files are kept.
        days: How old a line may get.
    """

    state_dir: Path = field(default_factory=Path)
    file_bytes: int = 67_108_864
    files: int = 8
    days: int = 30


class JsonLines(DecisionSink):
    """Appends records to `decisions.jsonl`; full files become `decisions.jsonl.1` and so on."""

    def __init__(self, config: Config) -> None:
        self._path = config.state_dir / _NAME
        self._max_bytes = config.file_bytes
        self._max_files = config.files
        self._max_age_ns = config.days * _DAY_NS
        self._file: FileIO | None = None

    @override
    def write(self, lines: Sequence[bytes]) -> Written:
        written = 0
        try:
            while written < len(lines):
                written += self._write(lines[written:])
        except OSError as error:
            self.close()
            return Written(written, f"{self._path} can't be written: {error.strerror}")
        return Written(written)

    @override
    def trim(self, now_ns: int) -> str:
        try:
            # A file goes as a whole: each holds such a share of the days that all files together
            # hold no more than the days.
            if self._begun_ns() < now_ns - self._max_age_ns // self._max_files:
                self._rotate()
            for number in range(1, self._max_files):
                older = self._path.with_name(f"{_NAME}.{number}")
                if older.exists() and older.stat().st_mtime_ns < now_ns - self._max_age_ns:
                    older.unlink()
        except OSError as error:
            return f"{self._path} can't be trimmed: {error.strerror}"
        return ""

    @override
    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begun_ns(self) -> int:
        """When the first record of the current file was decided; never, where there is none."""
        try:
            with self._path.open("rb") as file:
                first = file.readline()
            begun: int = msgspec.json.decode(first)["time_ns"]
        except (FileNotFoundError, msgspec.DecodeError, LookupError, TypeError):
            return 1 << 63
        return begun

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write as many lines as the file has room for, but one at least; give their number."""
        file = self._open()
        size = file.seek(0, os.SEEK_END)
        if size and size + len(lines[0]) + 1 > self._max_bytes:
            self._rotate()
            file, size = self._open(), 0
        ends = list(accumulate((len(line) + 1 for line in lines), initial=size))[1:]
        count = max(1, bisect_right(ends, self._max_bytes))
        text = b"\n".join((*lines[:count], b""))
        if file.write(text) != len(text):
            # Half a line would spoil the next one too.
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return count

    def _open(self) -> FileIO:
        if self._file is not None and not self._is_current(self._file):
            self.close()  # Somebody moved or removed it: what follows belongs into a new one.
        if self._file is None:
            self._mend()
            # Not buffered: what could not be written would be tried again by close.
            self._file = FileIO(self._path, "a", opener=_private)
        return self._file

    def _mend(self) -> None:
        """Take away half a line, as a process that was killed leaves it: its batch comes again."""
        with suppress(FileNotFoundError), self._path.open("r+b") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _LONGEST_BYTES)
            file.seek(start)
            end = file.read()
            whole = end.rfind(b"\n") + 1
            if whole != len(end) and (whole or not start):
                file.truncate(start + whole)

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


ADAPTER: Adapter[DecisionSink, Config] = Adapter(config=Config, build=JsonLines)
