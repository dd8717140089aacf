"""Replies of the Entries stream, written once for all agents that get the same.

Thousands of agents may have the same entries, and one change of them goes to all: its bytes are
made for the first and shared by the others.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from ca.entries import WorkloadEntry
from ca.entry_index import AgentEntries
from meshwarden.identity_messages import workload_message
from protos.meshwarden.v1 import agent_pb2

__all__ = ["EntriesReplies"]

# What a reader that is stuck can make us hold; far below what a gRPC client takes by default.
_REPLY_BYTES = 64 * 1024
# More that are gone make a larger reply than all that are left.
_MANY = 5_000
_KEPT = 64
_KEPT_BYTES = 16 * 1024 * 1024


class EntriesReplies:
    """Replies that were made lately, by what they lead from and to."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[bytes, bytes], Sequence[bytes]] = OrderedDict()
        self._bytes = 0

    def between(self, before: AgentEntries | None, after: AgentEntries) -> Sequence[bytes]:
        """Give the replies that lead from what an agent has to what it should have.

        Args:
            before: What it has; None for nothing.
            after: What it should have.
        """
        key = (before.digest if before else b"", after.digest)
        made = self._made.get(key)
        if made is None:
            made = [*_replies(before, after)]
            self._made[key] = made
            self._bytes += sum(map(len, made))
            while len(self._made) > _KEPT or (self._bytes > _KEPT_BYTES and len(self._made) > 1):
                _, dropped = self._made.popitem(last=False)
                self._bytes -= sum(map(len, dropped))
        else:
            self._made.move_to_end(key)
        return made

    @staticmethod
    def unchanged(entries: AgentEntries) -> bytes:
        """Give the reply to an agent that has just these."""
        return agent_pb2.EntriesReply(digest=entries.digest).SerializeToString()


def _replies(before: AgentEntries | None, after: AgentEntries) -> Iterator[bytes]:
    there = before.entries if before else {}
    changed = [entry for entry_id, entry in after.entries.items() if there.get(entry_id) != entry]
    removed = [entry_id for entry_id in there if entry_id not in after.entries]
    if len(removed) > _MANY:
        yield from _replies(None, after)
        return
    parts = [*_parts(changed)]
    for number, part in enumerate(parts, 1):
        is_last = number == len(parts)
        yield agent_pb2.EntriesReply(
            whole=before is None and number == 1,
            changed=part,
            removed=removed if is_last else (),
            digest=after.digest if is_last else b"",
            more=not is_last,
        ).SerializeToString()


def _parts(entries: Iterable[WorkloadEntry]) -> Iterator[list[agent_pb2.WorkloadEntry]]:
    """Put entries into replies; always at least one."""
    part: list[agent_pb2.WorkloadEntry] = []
    size = 0
    for entry in entries:
        message = workload_message(entry)
        if size + message.ByteSize() > _REPLY_BYTES and part:
            yield part
            part, size = [], 0
        part.append(message)
        size += message.ByteSize()
    yield part
