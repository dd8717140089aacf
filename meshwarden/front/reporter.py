"""Carries decision records from where decisions are made to control, never making one wait.

A bounded queue, batches over the internal socket, and a count of what had to be dropped. A batch
leaves the queue when control has answered, which it does when the batch is written: a control that
is killed loses none of it. While it is away the queue fills and the oldest stay: what is dropped is
counted and said.
"""

import asyncio
import logging
from collections import deque
from itertools import islice
from pathlib import Path

import grpc
import grpc.aio

from meshwarden import metrics
from protos.meshwarden.v1 import internal_pb2, internal_pb2_grpc
from telemetry.record import DecisionRecord, record_line

__all__ = ["Reporter"]

_LOG = logging.getLogger(__name__)
_BATCH = 500
# What is written as lines before checks have their turn again: 0.1 ms of work.
_SLICE = 100
_FLUSH_S = 0.2
_CALL_TIMEOUT_S = 5.0
# Control is started again within a second; the library's own pauses grow to two minutes.
_CHANNEL = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.initial_reconnect_backoff_ms", 100)]


class Reporter:
    """One process's queue of records."""

    def __init__(self, internal_socket: Path, max_records: int, front: str) -> None:
        self._target = f"unix:{internal_socket}"
        self._max_records = max_records
        self._front = front
        self._queue: deque[DecisionRecord] = deque()
        self._dropped = 0
        self._untold = 0
        self._closing = asyncio.Event()

    def offer(self, record: DecisionRecord) -> None:
        """Take a record, or count it as dropped when the queue is full; never waits."""
        if len(self._queue) >= self._max_records:
            self._dropped += 1
        else:
            self._queue.append(record)

    async def run(self) -> None:
        """Send batches until `close`; one that fails stays queued and is sent again."""
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            async with grpc.aio.insecure_channel(self._target, options=_CHANNEL) as channel:
                stub = internal_pb2_grpc.InternalStub(channel)
                while not closing.done():
                    await asyncio.wait({closing}, timeout=_FLUSH_S)
                    await self._send_all(stub)
        finally:
            closing.cancel()
            self._count_dropped()
            if self._queue:
                _LOG.warning("%d decision records were not delivered", len(self._queue))

    def close(self) -> None:
        """Let `run` send what is queued once more and end. No batch is cut off and sent twice."""
        self._closing.set()

    async def _send_all(self, stub: "internal_pb2_grpc.InternalAsyncStub") -> None:
        self._count_dropped()
        try:
            while self._queue:
                await self._send(stub)
        except grpc.aio.AioRpcError as error:
            _LOG.debug("control takes no records: %s", error.code())

    async def _send(self, stub: "internal_pb2_grpc.InternalAsyncStub") -> None:
        batch = list(islice(self._queue, _BATCH))
        untold = self._untold
        request = internal_pb2.ReportRequest(dropped=untold)
        for start in range(0, len(batch), _SLICE):
            for record in batch[start : start + _SLICE]:
                record.front = self._front
                request.lines.append(record_line(record))
            await asyncio.sleep(0)
        reply = await stub.Report(request, timeout=_CALL_TIMEOUT_S)
        # What control could not take is gone too: its disk is the bottleneck, not the wire.
        for _ in batch:
            self._queue.popleft()
        self._untold -= untold
        metrics.RECORDS.labels("logged").inc(reply.accepted)
        metrics.RECORDS.labels("dropped").inc(len(batch) - reply.accepted)
        if untold:
            _LOG.warning("%d decision records were dropped: the queue was full", untold)

    def _count_dropped(self) -> None:
        """Show drops while control is away, not only when it is back."""
        dropped, self._dropped = self._dropped, 0
        self._untold += dropped
        metrics.RECORDS.labels("dropped").inc(dropped)
