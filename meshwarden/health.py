"""Whether a process should be asked: one word of truth behind every way to ask it.

`grpc.health.v1`, `/readyz` and the process's status file all read this object. Ready means that a
policy is in force, that it isn't staler than the operator allows, and that nobody is stopping us.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from grpc_health.v1 import health_pb2

from meshwarden.follower import PolicyState

__all__ = ["SERVED", "Health", "health_reply"]

SERVED = ("", "envoy.service.auth.v3.Authorization")
"""Names that grpc.health.v1 knows here; "" is the whole server."""


class Health:
    """Readiness of one process, and the reason when it isn't ready."""

    def __init__(
        self,
        state: Callable[[], PolicyState],
        draining: Path,
        stale_s: Callable[[], float],
        max_stale_s: float,
        expired: Callable[[], str] = str,
    ) -> None:
        """Read from the places where the truth is.

        Args:
            state: The policy in force here.
            draining: A file whose presence turns readiness down before listeners close.
            stale_s: For how long the policy's source has failed to load, in seconds.
            max_stale_s: From when that counts, in seconds; 0 for never.
            expired: Says which authority or certificate in use has expired; "" for none.
        """
        self._state = state
        self._marker = draining
        self._stale_s = stale_s
        self._max_stale_s = max_stale_s
        self._expired = expired
        self._changed = asyncio.Event()
        self.trouble = "starting"

    def refresh(self) -> None:
        """Look again; wakes whoever watches if the answer changed."""
        before, self.trouble = self.trouble, self._look()
        if before != self.trouble:
            self._changed.set()
            self._changed = asyncio.Event()

    def _look(self) -> str:
        if self._marker.exists():
            return "draining"
        if not self._state().digest:
            return "no policy in force"
        stale_s = self._stale_s()
        if self._max_stale_s and stale_s > self._max_stale_s:
            return f"the policy's source has not loaded for {stale_s:.0f} s"
        return self._expired()

    @property
    def changed(self) -> asyncio.Event:
        """Is set when readiness is no longer what it is now; take it before looking."""
        return self._changed


def health_reply(service: str, health: Health) -> bytes | None:
    """Answer HealthCheckRequest.service with a serialized HealthCheckResponse; None if unknown."""
    if service not in SERVED:
        return None
    kinds = health_pb2.HealthCheckResponse.ServingStatus
    status = kinds.NOT_SERVING if health.trouble else kinds.SERVING
    reply: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return reply
