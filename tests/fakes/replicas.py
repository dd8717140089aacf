"""A board of replicas in memory."""

import asyncio
import contextlib
from collections.abc import Sequence

from typing_extensions import override

from authz.replicas import Replica, ReplicaBoard

__all__ = ["FakeBoard"]


class FakeBoard(ReplicaBoard):
    """Keeps the last word of each.

    Attributes:
        rows: Id to what it last said.
        error: What each call raises, if anything.
        hangs: Whether no call ever ends, not even when it is cancelled at first.
        beats: How often somebody beat.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Replica] = {}
        self.error: Exception | None = None
        self.hangs = False
        self.beats = 0

    @override
    async def beat(self, replica: Replica, forget_after_s: float) -> Sequence[Replica]:
        self.beats += 1
        while self.hangs:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        self.rows[replica.id] = replica
        return list(self.rows.values())

    @override
    async def leave(self, replica_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.rows.pop(replica_id, None)
