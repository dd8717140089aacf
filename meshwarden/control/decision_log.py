"""The decision log: hands records to every sink, and waits for none of them.

Each sink has a thread and a bounded queue of its own: a disk that stalls under one neither holds up
the event loop nor keeps records from another.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import override

from meshwarden import metrics
from telemetry.sink import DecisionSink, Written

__all__ = ["DecisionLog"]

_LOG = logging.getLogger(__name__)
# What is written at once: large enough that a transaction's own cost is shared by many.
_BATCH = 2_000
_TRIM_S = 10.0
_CLOSE_S = 5.0
# How long who hands in waits for a sink that hangs; once, then it is not waited for until it has
# written again.
_KEEP_S = 1.0
_RETRY_S = (0.1, 5.0)


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

    def append(self, lines: Sequence[bytes]) -> int:
        """Queue a batch of `record_line`s for every sink; never waits.

        Returns:
            How many, counted from the first, at least one sink has room for.
        """
        return max((writer.offer(lines) for writer in self._writers), default=len(lines))

    async def keep(self, lines: Sequence[bytes]) -> int:
        """Queue a batch as `append` does, and wait until it is written.

        A sink that fails is not waited for, one that hangs for a second and then no more: they cost
        their own records only.
        """
        taken = self.append(lines)
        loop = asyncio.get_running_loop()
        waiting: dict[asyncio.Future[None], _Writer] = {}
        for writer in self._writers:
            if writer.is_prompt:
                waiting[writer.written(loop)] = writer
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_KEEP_S)
            for future in late:
                waiting[future].is_prompt = False
        return taken

    def close(self) -> None:
        """Write what is queued, within a few seconds, and close the sinks."""
        for writer in self._writers:
            writer.finish()
        for writer in self._writers:
            writer.join(_CLOSE_S)


class _Writer(threading.Thread):
    """One sink, its queue, and the only thread that touches it.

    Attributes:
        is_prompt: Whether it is worth waiting for: it neither fails nor hangs.
    """

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
        self.is_prompt = True
        self._sink_name = sink_name
        self._sink = sink
        self._max_records = max_records
        self._now_ns = now_ns
        self._trim_s = trim_s
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition()
        # Counted since the start: what was queued, and what became of it, whatever that was.
        self._queued = self._settled = 0
        self._waiting: deque[tuple[int, Callable[[], object]]] = deque()
        self._retry_s = 0.0
        self._is_finishing = False
        self._is_failing = False
        self._is_trim_failing = False
        self._written = metrics.SINK_RECORDS.labels(sink_name, "written")
        self._dropped = metrics.SINK_RECORDS.labels(sink_name, "dropped")

    def offer(self, lines: Sequence[bytes]) -> int:
        """Queue as many as there is room for, from the first on; give their number."""
        with self._changed:
            count = min(len(lines), self._max_records - len(self._queue))
            self._queue.extend(lines[:count])
            self._queued += count
            self._changed.notify()
        self._dropped.inc(len(lines) - count)
        return count

    def written(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
        """Give what is done when all that is queued by now was written or dropped."""
        future = loop.create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        with self._changed:
            if self._settled == self._queued:
                done()
            else:
                self._waiting.append((self._queued, lambda: loop.call_soon_threadsafe(done)))
        return future

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

    def _write(self, batch: Sequence[bytes]) -> None:
        try:
            written = self._sink.write(batch)
        except Exception as error:  # noqa: BLE001 - a sink's fault must not end the log
            written = Written(0, f"{type(error).__name__}: {error}")
        self._written.inc(written.count)
        # Decisions go on: a full disk must not become a denial of service. It is said once, and
        # once more when it is over; the count goes on.
        if written.fault and not self._is_failing:
            _LOG.error("decision log: %s", written.fault)
        if self._is_failing and not written.fault:
            _LOG.warning("decision log: %s is written again", self._sink_name)
        self._is_failing = bool(written.fault)
        self.is_prompt = not self._is_failing
        rest = batch[written.count :]
        if rest and written.may_retry:
            self._settle(written.count)
            self._wait_with(rest)
        else:
            self._retry_s = 0.0
            self._dropped.inc(len(rest))
            self._settle(len(batch))

    def _wait_with(self, rest: Sequence[bytes]) -> None:
        """Put back what could not be written, and pause before the next attempt.

        The oldest stay; at a stop there is no next attempt.
        """
        first_s, longest_s = _RETRY_S
        self._retry_s = min(max(first_s, 2 * self._retry_s), longest_s)
        with self._changed:
            self._queue.extendleft(reversed(rest))
            kept = 0 if self._is_finishing else self._max_records
            over = max(0, len(self._queue) - kept)
            for _ in range(over):
                self._queue.pop()
            self._dropped.inc(over)
            self._settle(over)
            self._changed.wait_for(lambda: self._is_finishing, self._retry_s)

    def _settle(self, count: int) -> None:
        """Tell those who wait for these records, or all who wait where the sink is away."""
        with self._changed:
            self._settled += count
            while self._waiting and (self._is_failing or self._waiting[0][0] <= self._settled):
                try:
                    self._waiting.popleft()[1]()
                except RuntimeError:
                    _LOG.debug("who waited for records is gone: its loop is closed")

    def _trim(self, now_ns: int) -> None:
        try:
            fault = self._sink.trim(now_ns)
        except Exception as error:  # noqa: BLE001 - likewise
            fault = f"{type(error).__name__}: {error}"
        if fault and not (self._is_failing or self._is_trim_failing):
            _LOG.error("decision log: %s", fault)
        self._is_trim_failing = bool(fault)
