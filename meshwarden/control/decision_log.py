"""The decision log: hands records to every sink, and waits for none of them.

Each sink has a thread and a bounded queue of its own: a disk that stalls under one neither holds up
the event loop nor keeps records from another.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import override

from meshwarden import metrics
from telemetry.sink import DecisionSink, RecordMessage, Written

__all__ = ["DecisionLog"]

_LOG = logging.getLogger(__name__)
# What is written at once: large enough that a transaction's own cost is shared by many.
_BATCH = 2_000
_TRIM_S = 10.0
_CLOSE_S = 5.0


class DecisionLog:
    """All sinks of one process."""

    def __init__(
        self,
        sinks: Mapping[str, DecisionSink],
        max_records: int,
        now_ns: Callable[[], int],
        trim_s: float = _TRIM_S,
    ) -> None:
        """Start a writer for each sink.

        Args:
            sinks: Name to sink.
            max_records: How many wait for each of them; more are dropped and counted.
            now_ns: The time.
            trim_s: How often what is past its days is looked for.
        """
        self._writers = [
            _Writer(name, sink, max_records, now_ns, trim_s) for name, sink in sinks.items()
        ]
        for writer in self._writers:
            writer.start()

    def append(self, records: Sequence[RecordMessage]) -> int:
        """Queue a batch for every sink; never waits.

        Returns:
            How many, counted from the first, at least one sink has room for.
        """
        return max((writer.offer(records) for writer in self._writers), default=len(records))

    def close(self) -> None:
        """Write what is queued, within a few seconds, and close the sinks."""
        for writer in self._writers:
            writer.finish()
        for writer in self._writers:
            writer.join(_CLOSE_S)


class _Writer(threading.Thread):
    """One sink, its queue, and the only thread that touches it."""

    def __init__(
        self,
        sink_name: str,
        sink: DecisionSink,
        max_records: int,
        now_ns: Callable[[], int],
        trim_s: float,
    ) -> None:
        # A daemon: a disk that never answers must not keep the process from ending.
        super().__init__(name=f"decisions-{sink_name}", daemon=True)
        self._sink_name = sink_name
        self._sink = sink
        self._max_records = max_records
        self._now_ns = now_ns
        self._trim_s = trim_s
        self._queue: deque[RecordMessage] = deque()
        self._changed = threading.Condition()
        self._is_finishing = False
        self._is_failing = False
        self._is_trim_failing = False
        self._written = metrics.SINK_RECORDS.labels(sink_name, "written")
        self._dropped = metrics.SINK_RECORDS.labels(sink_name, "dropped")

    def offer(self, records: Sequence[RecordMessage]) -> int:
        """Queue as many as there is room for, from the first on; give their number."""
        with self._changed:
            count = min(len(records), self._max_records - len(self._queue))
            self._queue.extend(records[:count])
            self._changed.notify()
        self._dropped.inc(len(records) - count)
        return count

    def finish(self) -> None:
        """End once the queue is empty."""
        with self._changed:
            self._is_finishing = True
            self._changed.notify()

    @override
    def run(self) -> None:
        """Write and trim until `finish`."""
        trim_ns = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_finishing, self._trim_s)
                batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                if not batch and self._is_finishing:
                    break
            if batch:
                self._write(batch)
            now_ns = self._now_ns()
            # Also when the clock was put back.
            if not 0 <= now_ns - trim_ns < self._trim_s * 1e9:
                trim_ns = now_ns
                self._trim(now_ns)
        self._sink.close()

    def _write(self, batch: Sequence[RecordMessage]) -> None:
        try:
            written = self._sink.write(batch)
        except Exception as error:  # noqa: BLE001 - a sink's fault must not end the log
            written = Written(0, f"{type(error).__name__}: {error}")
        self._written.inc(written.count)
        self._dropped.inc(len(batch) - written.count)
        # Decisions go on: a full disk must not become a denial of service. It is said once, and
        # once more when it is over; the count goes on.
        if written.fault and not self._is_failing:
            _LOG.error("decision log: %s", written.fault)
        if self._is_failing and not written.fault:
            _LOG.warning("decision log: %s is written again", self._sink_name)
        self._is_failing = bool(written.fault)

    def _trim(self, now_ns: int) -> None:
        try:
            fault = self._sink.trim(now_ns)
        except Exception as error:  # noqa: BLE001 - likewise
            fault = f"{type(error).__name__}: {error}"
        if fault and not (self._is_failing or self._is_trim_failing):
            _LOG.error("decision log: %s", fault)
        self._is_trim_failing = bool(fault)
