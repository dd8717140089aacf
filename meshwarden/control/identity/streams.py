"""The streams that agents follow: how many there are, what they are told, and when one is stuck."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ca.bundle import Bundle
from ca.errors import IdentityError, OverloadedError
from meshwarden.control.identity.edge import Context
from meshwarden.control.identity.issuer import Issuer
from meshwarden.control.identity.registry import Registry
from meshwarden.control.identity.replies import EntriesReplies
from meshwarden.identity_messages import bundle_message
from protos.meshwarden.v1 import agent_pb2

__all__ = ["Streams", "StuckError"]

# For one agent: the one it lives by, and those whose connection died unnoticed.
_PER_AGENT = 4
_STUCK_S = 60.0
_SWEEP_S = 5.0


class StuckError(IdentityError):
    """A stream is not read; it is cut, and its reader may open another one."""

    code = "RESOURCE_EXHAUSTED"


class Streams:
    """All streams of one process.

    Attributes:
        replies: Of entries, shared.
        bundles: What a reply says of the bundles of now; empty before there are any.
    """

    def __init__(self, registry: Registry, now_ns: Callable[[], int]) -> None:
        self.replies = EntriesReplies()
        self.bundles = b""
        self._registry = registry
        self._now_ns = now_ns
        self._open: Counter[str] = Counter()

    @contextmanager
    def opened(self, agent_id: str) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            OverloadedError: The agent has too many.
        """
        if self._open[agent_id] >= _PER_AGENT:
            raise OverloadedError(f"{agent_id} has {_PER_AGENT} streams already")
        self._open[agent_id] += 1
        try:
            yield
        finally:
            self._open[agent_id] -= 1
            if not self._open[agent_id]:
                del self._open[agent_id]

    async def write(self, context: Context, reply: bytes) -> None:
        """Send one reply; only the newest is ever waiting, since the next is made after it.

        Raises:
            StuckError: The other end doesn't read.
        """
        try:
            async with asyncio.timeout(_STUCK_S):
                await context.write(reply)
        except TimeoutError as error:
            raise StuckError(f"nobody read the stream for {_STUCK_S:.0f} s") from error

    async def follow(self, issuer: Issuer) -> None:
        """Tell streams of new bundles, for ever."""
        async for bundle in issuer.bundles():
            self.take(bundle)

    def take(self, bundle: Bundle) -> None:
        """Tell streams of a bundle."""
        self.bundles = agent_pb2.EntriesReply(bundles=[bundle_message(bundle)]).SerializeToString()
        self._registry.pulse()

    async def sweep(self) -> None:
        """Have streams of agents that expired look at themselves, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ns = self._now_ns()
            agents = map(self._registry.agent, tuple(self._open))
            if any(agent is not None and agent.svid_expires_ns <= now_ns for agent in agents):
                self._registry.pulse()
