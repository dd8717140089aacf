"""The supervisor's socket: one JSON line in, one JSON line out.

It works while control is dead, which is when status matters most. The socket's folder has mode
0700: being able to connect is the authority.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from authz.replicas import STALE_S, Replica
from meshwarden import clock, status
from meshwarden.files import RuntimeDir
from meshwarden.supervisor.fronts import FrontStartError

__all__ = ["CommandServer"]

_LOG = logging.getLogger(__name__)
_POLL_S = 0.02
_RELOAD_TIMEOUT_S = 30.0


class CommandServer:
    """Answers `meshwarden status`, `reload` and `restart fronts`."""

    def __init__(
        self,
        runtime: RuntimeDir,
        is_ready: Callable[[], bool],
        reload: Callable[[], None],
        restart_fronts: Callable[[], Awaitable[None]],
    ) -> None:
        """Answer for one instance.

        Args:
            runtime: Where its processes write how they are.
            is_ready: Whether every process that should run does, and serves.
            reload: Asks control for a load; doesn't wait for it.
            restart_fronts: Renews the fronts; raises FrontStartError.
        """
        self._runtime = runtime
        self._is_ready = is_ready
        self._reload_soon = reload
        self._restart = restart_fronts
        self._server: asyncio.Server | None = None
        self._ops: dict[str, Callable[[], Awaitable[Mapping[str, Any]]]] = {
            "status": self._status,
            "reload": self._reload,
            "restart_fronts": self._restart_fronts,
        }

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(
            self._converse, self._runtime.supervisor_socket
        )
        self._runtime.supervisor_socket.chmod(0o600)

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.json.encode(await self._answer(await reader.readline())) + b"\n")
            await writer.drain()
        except (ConnectionError, ValueError) as error:
            _LOG.debug("a command's caller went away: %s", error)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            op = msgspec.json.decode(line, type=dict[str, Any]).get("op")
        except msgspec.MsgspecError:
            return {"ok": False, "error": "the command is no JSON object"}
        handler = self._ops.get(str(op))
        if handler is None:
            return {"ok": False, "error": f"no command {op!r}; there are: {', '.join(self._ops)}"}
        return await handler()

    async def _status(self) -> Mapping[str, Any]:
        load = status.read_load(self._runtime.path)
        now_ns = clock.now_ns()
        processes = status.read_all(self._runtime.path)
        known = status.read_replicas(self._runtime.path)
        known_for_s = (now_ns - known.read_ns) / 1e9
        return {
            "ok": True,
            "ready": self._is_ready(),
            "policy": {
                "digest": load.digest,
                "rules": load.rules,
                "revision": load.revision,
                "source": load.source,
                "version": load.version,
                "age_s": round((now_ns - load.published_ns) / 1e9, 1) if load.digest else None,
                "restored": load.restored,
                "errors": load.errors,
                "failing_for_s": round((now_ns - load.failed_ns) / 1e9, 1) if load.failed_ns else 0,
            },
            "identity": status.identity_answer(status.read_identity(self._runtime.path), now_ns),
            "entries": status.entries_answer(status.read_entries(self._runtime.path), now_ns),
            "processes": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "pid": each.pid,
                    "epoch": each.epoch,
                    "ready": each.ready,
                    "digest": each.digest,
                    "rules": each.rules,
                    "age_s": round((now_ns - each.started_ns) / 1e9, 1),
                    "error": each.error,
                }
                for each in processes
            ],
            "replicas": [_replica(each, known_for_s, now_ns) for each in known.replicas],
            "replicas_error": known.error,
        }

    async def _reload(self) -> Mapping[str, Any]:
        asked_ns = clock.monotonic_ns()
        self._reload_soon()
        try:
            async with asyncio.timeout(_RELOAD_TIMEOUT_S):
                # One that was under way already may have missed what the caller has just written.
                while (load := status.read_load(self._runtime.path)).begun_ns < asked_ns:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return {"ok": False, "error": "control did not load the policy; is it starting?"}
        if load.errors:
            still = f"policy {load.digest[:12]} stays in force" if load.digest else "no policy"
            return {
                "ok": False,
                "error": "\n".join((*load.errors, still)),
                "errors": load.errors,
                "digest": load.digest,
            }
        await status.until_all_decide_by(self._runtime.path, load.digest)
        return {"ok": True, "digest": load.digest, "rules": load.rules}

    async def _restart_fronts(self) -> Mapping[str, Any]:
        try:
            await self._restart()
        except FrontStartError as error:
            return {"ok": False, "error": f"a front could not be renewed: {error}"}
        fronts = [each for each in status.read_all(self._runtime.path) if each.kind == "front"]
        return {"ok": True, "fronts": [{"name": each.name, "pid": each.pid} for each in fronts]}


def _replica(replica: Replica, known_for_s: float, now_ns: int) -> Mapping[str, Any]:
    seen_s_ago = replica.seen_s_ago + known_for_s
    return {
        "id": replica.id,
        "host": replica.host,
        "address": replica.address,
        "version": replica.version,
        "revision": replica.revision,
        "digest": replica.digest,
        "age_s": round((now_ns - replica.loaded_ns) / 1e9, 1) if replica.digest else None,
        "error": replica.error,
        "up_s": round((now_ns - replica.started_ns) / 1e9, 1),
        "seen_s_ago": round(max(0.0, seen_s_ago), 1),
        "stale": seen_s_ago > STALE_S,
    }
