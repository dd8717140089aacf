"""How an agent that is a child of the service itself gets to it: by control's internal socket.

Whoever can enter the service's runtime directory is the service's own user, and that is the proof:
no token, no certificate of its own.
"""

import asyncio
from pathlib import Path

import grpc.aio
from typing_extensions import override

from meshwarden.agent.door import CHANNEL_OPTIONS, Door

__all__ = ["LocalDoor"]


class LocalDoor(Door):
    """A Unix socket that only the service's own processes reach."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    @property
    @override
    def agent_id(self) -> str:
        return "the embedded agent"

    @property
    @override
    def not_after_ns(self) -> int:
        return 0

    @override
    async def enter(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"unix:{self._socket}", options=CHANNEL_OPTIONS)

    @override
    async def hold(self, channel: grpc.aio.Channel) -> None:
        await asyncio.Event().wait()  # There is nothing that could expire.

    @override
    def rejected(self) -> None:
        pass

    @override
    async def close(self) -> None:
        pass
