"""The socket that workloads connect to, in front of the gRPC server.

grpcio tells a handler nothing of the process that calls. So connections are taken here, where the
kernel names the caller, and carried on to the gRPC server from a socket that is bound to a name of
its own: `context.peer()` shows that name, and `Relay.caller` knows whose it is. The gRPC server's
own socket is in a folder that only the agent enters; who comes by another way is nobody.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import Counter
from pathlib import Path

from meshwarden.agent.peers import Caller, PeerError, caller_of
from meshwarden.agent.pipe import End
from meshwarden.faults import fault_id

__all__ = ["Relay"]

_LOG = logging.getLogger(__name__)
_NAME_BYTES = 16
_PAUSE_S = 0.1
_WARNINGS_APART_S = 10.0
_LAST_WORDS_S = 5.0


class Relay:
    """Takes connections and carries them to the gRPC server, each with a name.

    Attributes:
        look_every_s: How soon a connection is closed whose process has ended, in seconds.
        refused: Connections that were not carried on.
    """

    look_every_s = 5.0

    def __init__(self, inner: Path, names: Path, most: int) -> None:
        """Stand in front of one server.

        Args:
            inner: The gRPC server's own socket.
            names: A folder that only we can enter; names are bound in it for an instant.
            most: Connections at once. One user may hold half of them.
        """
        self._inner = inner
        self._names = names
        self._most = most
        self._callers: dict[str, Caller] = {}
        self._of_user: Counter[int] = Counter()
        self._ends: dict[str, tuple[End, End]] = {}
        self._next_warning_s = 0.0
        self.refused = 0

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._callers)

    def caller(self, peer: str) -> Caller | None:
        """Give who is behind a gRPC call by its `context.peer()`; None for none of ours."""
        scheme, _, path = peer.partition(":")
        return self._callers.get(path.rpartition("/")[2]) if scheme == "unix" else None

    def user(self, peer: str) -> int | None:
        """Give whose process is behind a gRPC call; None for none of ours."""
        caller = self.caller(peer)
        return None if caller is None else caller.peer.uid

    async def serve(self, listener: socket.socket) -> None:
        """Take connections until cancelled, then close those there are."""
        loop = asyncio.get_running_loop()
        listener.settimeout(0)
        sweeping = asyncio.create_task(self._sweep())
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # Out of descriptors, mostly: those that are open go on, and others wait.
                    _LOG.warning("no connection can be taken: %s", error.strerror)
                    await asyncio.sleep(_PAUSE_S)
                    continue
                try:
                    await self._carry(connection)
                except (OSError, PeerError) as error:
                    self._refuse(connection, str(error), loop.time())
                except Exception as error:  # noqa: BLE001 - one caller's, whatever it is
                    self._refuse(connection, fault_id(error), loop.time())
        finally:
            sweeping.cancel()
            for outside, _ in tuple(self._ends.values()):
                outside.abort()

    async def _sweep(self) -> None:
        """Close connections whose process has ended: a child that inherited one is another."""
        while True:
            await asyncio.sleep(self.look_every_s)
            for name, caller in tuple(self._callers.items()):
                if not caller.is_alive():
                    self._ends[name][0].abort()

    async def _carry(self, connection: socket.socket) -> None:
        """Name a connection and join it with one to the server.

        Raises:
            PeerError: Nobody can tell who it is, or there are too many.
            OSError: The server can't be reached.
        """
        caller = caller_of(connection)
        uid = caller.peer.uid
        name = secrets.token_hex(_NAME_BYTES)
        try:
            self._check_room(uid)
            onward = await self._connect(name)
        except (OSError, PeerError):
            caller.close()
            raise
        self._callers[name] = caller
        self._of_user[uid] += 1

        outside = End(lambda: self._over(name))
        inside = End(lambda: outside.close_within(_LAST_WORDS_S))
        outside.other, inside.other = inside, outside
        self._ends[name] = (outside, inside)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: inside, sock=onward)
            await loop.connect_accepted_socket(lambda: outside, connection)
        except BaseException:
            self._over(name)
            onward.close()
            raise

    def _check_room(self, uid: int) -> None:
        if len(self._callers) >= self._most:
            raise PeerError(f"{self._most} connections are open already")
        if self._of_user[uid] >= max(1, self._most // 2):
            raise PeerError(f"user {uid} has {self._of_user[uid]} connections open already")

    def _over(self, name: str) -> None:
        """The caller's side is gone: nobody reads what the server still says."""
        caller = self._callers.pop(name)
        uid = caller.peer.uid
        self._of_user[uid] -= 1
        if not self._of_user[uid]:
            del self._of_user[uid]
        caller.close()
        self._ends.pop(name)[1].abort()

    def _refuse(self, connection: socket.socket, reason: str, now_s: float) -> None:
        """Close what isn't carried on; a process may provoke it without end, so log it seldom."""
        connection.close()
        self.refused += 1
        if now_s >= self._next_warning_s:
            self._next_warning_s = now_s + _WARNINGS_APART_S
            _LOG.warning("a connection was refused: %s", reason)

    async def _connect(self, name: str) -> socket.socket:
        """Connect to the server from a name that it will see; nothing stays on the disk."""
        onward = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            onward.settimeout(0)
            path = self._names / name
            onward.bind(os.fspath(path))
            try:
                await asyncio.get_running_loop().sock_connect(onward, os.fspath(self._inner))
            finally:
                path.unlink()
        except BaseException:
            onward.close()
            raise
        return onward
