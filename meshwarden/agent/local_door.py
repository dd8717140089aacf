"""How an agent that is a child of the service itself gets to it: by control's socket for its owner.

Whoever can enter the service's runtime directory is the service's own user, and that is the proof:
no token, no certificate of its own.
"""

import asyncio
from pathlib import Path

import grpc.aio
from typing_extensions import override

from ca.attestation import EMBEDDED_PATH
from ca.entry_draft import agent_spiffe_id
from ca.keys import KeyType, generate
from meshwarden.agent.door import CHANNEL_OPTIONS, Door
from meshwarden.agent.evidence import Embedded
from meshwarden.agent.exchange import attested
from meshwarden.agent.renewer import LinkDownError

__all__ = ["LocalDoor"]

_START_S = 10.0
_LOOK_S = 0.05


class LocalDoor(Door):
    """A Unix socket that only the service's own processes reach."""

    def __init__(self, socket: Path, trust_domain: str) -> None:
        """Use control's socket.

        Args:
            socket: Where control serves its owner.
            trust_domain: Says who the agent is before the service does: what it has kept is its
                own again after a restart, also while control is away.
        """
        self._socket = socket
        self._agent_id = agent_spiffe_id(trust_domain, EMBEDDED_PATH)
        self._is_rejected = True

    @property
    @override
    def agent_id(self) -> str:
        return self._agent_id

    @property
    @override
    def not_after_ns(self) -> int:
        return 0

    @override
    async def enter(self) -> grpc.aio.Channel:
        await self._awaited()
        channel = grpc.aio.insecure_channel(f"unix:{self._socket}", options=CHANNEL_OPTIONS)
        if self._is_rejected:
            # The service has to know that there is such an agent; the certificate is of no use.
            try:
                reply = await attested(channel, Embedded(), b"", generate(KeyType.EC_P256))
            except BaseException:
                await channel.close(None)
                raise
            self._agent_id = reply.svid.spiffe_id
            self._is_rejected = False
        return channel

    async def _awaited(self) -> None:
        """Wait for control, which starts at the same time as the agent.

        Raises:
            LinkDownError: It isn't there for long.
        """
        try:
            async with asyncio.timeout(_START_S):
                while not self._socket.exists():
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            raise LinkDownError("the service's control isn't there") from error

    @property
    @override
    def fault(self) -> str:
        return ""

    @override
    async def hold(self, channel: grpc.aio.Channel) -> None:
        await asyncio.Event().wait()  # There is nothing that could expire.

    @override
    def rejected(self) -> None:
        self._is_rejected = True

    @override
    async def close(self) -> None:
        pass
