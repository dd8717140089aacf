"""Carries decision records from where decisions are made to control, never making one wait.

A bounded queue, batches over the internal socket, and a count of what had to be dropped. When
control is away the queue fills and the oldest stay: what is dropped is counted and said.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio

from meshwarden import metrics
from protos.meshwarden.v1 import internal_pb2, internal_pb2_grpc
from telemetry.record import DecisionRecord

__all__ = ["Reporter", "record_message"]

_LOG = logging.getLogger(__name__)
_BATCH = 500
_FLUSH_S = 0.2
_CALL_TIMEOUT_S = 5.0


class Reporter:
    """One process's queue of records."""

    def __init__(self, internal_socket: Path, max_records: int, front: str) -> None:
        self._target = f"unix:{internal_socket}"
        self._max_records = max_records
        self._front = front
        self._queue: deque[DecisionRecord] = deque()
        self._dropped = 0

    def offer(self, record: DecisionRecord) -> None:
        """Take a record, or count it as dropped when the queue is full; never waits."""
        if len(self._queue) >= self._max_records:
            self._dropped += 1
        else:
            self._queue.append(record)

    async def run(self) -> None:
        """Send batches, for ever; a batch that fails stays queued and is sent again."""
        async with grpc.aio.insecure_channel(self._target, options=_CHANNEL) as channel:
            stub = internal_pb2_grpc.InternalStub(channel)
            while True:
                await asyncio.sleep(_FLUSH_S)
                try:
                    while self._queue or self._dropped:
                        await self._send(stub)
                except grpc.aio.AioRpcError as error:
                    _LOG.debug("control takes no records: %s", error.code())

    async def flush(self, timeout_s: float) -> None:
        """Send what is queued, once, at a stop; gives up at the time-out."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                grpc.aio.insecure_channel(self._target) as channel,
            ):
                stub = internal_pb2_grpc.InternalStub(channel)
                while self._queue or self._dropped:
                    await self._send(stub)
        except (TimeoutError, grpc.aio.AioRpcError):
            _LOG.warning("%d decision records were not delivered", len(self._queue))

    async def _send(self, stub: "internal_pb2_grpc.InternalAsyncStub") -> None:
        batch = [self._queue[i] for i in range(min(_BATCH, len(self._queue)))]
        dropped = self._dropped
        request = internal_pb2.ReportRequest(
            records=[record_message(record, self._front) for record in batch], dropped=dropped
        )
        reply = await stub.Report(request, timeout=_CALL_TIMEOUT_S)
        # What control could not take is gone too: its disk is the bottleneck, not the wire.
        _forget(self._queue, batch)
        self._dropped -= dropped
        metrics.RECORDS.labels("logged").inc(reply.accepted)
        lost = dropped + len(batch) - reply.accepted
        if lost:
            metrics.RECORDS.labels("dropped").inc(lost)


_CHANNEL = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.initial_reconnect_backoff_ms", 100)]


def _forget(queue: deque[DecisionRecord], sent: Sequence[DecisionRecord]) -> None:
    for _ in sent:
        queue.popleft()


def record_message(record: DecisionRecord, front: str) -> internal_pb2.DecisionRecord:
    """Put a record into the form that crosses to control."""
    return internal_pb2.DecisionRecord(
        id=record.id,
        time_ns=record.time_ns,
        verdict=record.verdict,
        status=record.status,
        rule_file=record.rule_file,
        rule_line=record.rule_line,
        rule_text=record.rule_text,
        reason=record.reason,
        digest=record.digest,
        principal=record.principal,
        user=record.user,
        service=record.service,
        method=record.method,
        path=record.path,
        source_ip=record.source_ip,
        host=record.host,
        misses=record.misses,
        faults=record.faults,
        front=front,
    )
