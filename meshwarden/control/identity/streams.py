"""The streams that agents follow: how many there are, what they are told, and when one is stuck."""

import asyncio
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
        self._open: dict[str, list[int]] = {}

    @contextmanager
    def opened(self, agent_id: str, expires_ns: int) -> Iterator[None]:
        """Count a stream while it is open.

        Args:
            agent_id: Whose it is.
            expires_ns: When the certificate ends that it was opened by.

        Raises:
            OverloadedError: The agent has too many.
        """
        ends = self._open.setdefault(agent_id, [])
        if len(ends) >= _PER_AGENT:
            raise OverloadedError(f"{agent_id} has {_PER_AGENT} streams already")
        ends.append(expires_ns)
        try:
            yield
        finally:
            ends.remove(expires_ns)
            if not ends:
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
        """Have streams look at themselves once their certificates have expired, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ns = self._now_ns()
            if any(end_ns < now_ns for ends in self._open.values() for end_ns in ends):
                self._registry.pulse()
