"""Says how this instance is where the other replicas look, and keeps what they said, on disk.

The supervisor shows it, also while control or the store is away: what was last known, and how old
it is. The board is a service to people: whatever is wrong with it, policy goes on.
"""

import asyncio
import logging
import socket
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

from authz.errors import AuthzError
from authz.replicas import Replica, ReplicaBoard, ShadowCounts
from meshwarden import clock, status
from meshwarden.faults import fault_id
from meshwarden.files import RuntimeDir
from meshwarden.settings import Settings

__all__ = ["ReplicaReporter"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.5
_BEAT_S = 5.0
_FORGET_S = 3600.0
_ANSWER_S = 2.0
_ID = "replica-id"


class ReplicaReporter:
    """Beats for one instance.

    Attributes:
        known: How all replicas are, as of the last beat.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: RuntimeDir,
        board: ReplicaBoard | None,
        load: Callable[[], status.LoadState],
        shadow: Callable[[], ShadowCounts],
    ) -> None:
        """Beat, once it runs.

        Args:
            settings: Where this instance listens and keeps its state.
            runtime: Where the supervisor reads what is known.
            board: Where others look; None where there are no others.
            load: How the policy's newest load went.
            shadow: What was seen of the candidate.
        """
        self._runtime = runtime
        self._board = board
        self._load = load
        self._shadow = shadow
        self._is_failing = False
        self._beating: asyncio.Future[Sequence[Replica]] | None = None
        self._own = Replica(
            id=_id(settings),
            host=socket.gethostname(),
            address=str(settings.listen.address),
            version=version("meshwarden"),
            revision=0,
            digest="",
            loaded_ns=0,
            error="",
            started_ns=clock.now_ns(),
        )
        self.known = status.Replicas()

    async def run(self) -> None:
        """Beat slowly, and at once when something has changed; for ever."""
        told: Replica | None = None
        next_s = 0.0
        try:
            while True:
                own = self._now()
                # Counts alone can wait: they change with every request.
                news = replace(own, shadow=ShadowCounts(own.shadow.digest))
                if news != told or clock.monotonic_s() >= next_s:
                    await self._beat(own)
                    told, next_s = news, clock.monotonic_s() + _BEAT_S
                await asyncio.sleep(_LOOK_S)
        finally:
            if self._beating is not None:
                self._beating.cancel()

    async def leave(self) -> None:
        """Take this one off the board, if that is done soon: a stop waits for nobody."""
        # A store that does not answer would not answer this either.
        if self._board is None or self._beating is not None or self._is_failing:
            return
        leaving = asyncio.ensure_future(self._board.leave(self._own.id))
        done, _ = await asyncio.wait({leaving}, timeout=_ANSWER_S)
        if not done:
            leaving.cancel()
        elif error := leaving.exception():
            _LOG.debug("still on the board of replicas: %s", error)

    def _now(self) -> Replica:
        load = self._load()
        return replace(
            self._own,
            revision=load.revision,
            digest=load.digest,
            loaded_ns=load.published_ns,
            error="\n".join(load.errors),
            shadow=self._shadow(),
        )

    async def _beat(self, own: Replica) -> None:
        if self._board is None:
            self._keep(status.Replicas((own,), "", clock.now_ns()))
            return
        if self._beating is None:
            self._beating = asyncio.ensure_future(self._board.beat(own, _FORGET_S))
        # Not cancelled when it takes long: a database driver can take longer to give up than to
        # answer. What is wrong is told meanwhile.
        done, _ = await asyncio.wait({self._beating}, timeout=_ANSWER_S)
        if not done:
            self._failed(own, f"the store has not answered for {_ANSWER_S:g} s")
            return
        beaten, self._beating = self._beating, None
        error = beaten.exception()
        if error is None:
            self._is_failing = False
            self._keep(status.Replicas(tuple(beaten.result()), "", clock.now_ns()))
        else:
            # Not even a fault of ours may end control.
            self._failed(own, str(error) if isinstance(error, AuthzError) else fault_id(error))

    def _failed(self, own: Replica, told: str) -> None:
        if not self._is_failing:
            _LOG.warning("other replicas don't hear of this one: %s", told)
        self._is_failing = True
        self._keep(_aged(self.known, own, told))

    def _keep(self, known: status.Replicas) -> None:
        self.known = known
        status.write_replicas(self._runtime.path, known)


def _aged(known: status.Replicas, own: Replica, error: str) -> status.Replicas:
    """What was known, older by now; of this one there is always news."""
    now_ns = clock.now_ns()
    older_s = (now_ns - known.read_ns) / 1e9 if known.read_ns else 0.0
    others = (
        replace(each, seen_s_ago=each.seen_s_ago + older_s)
        for each in known.replicas
        if each.id != own.id
    )
    return status.Replicas((own, *others), error, now_ns)


def _id(settings: Settings) -> str:
    """Its own name, kept with its state; one that can't be kept is as good until the next start."""
    path = settings.runtime.state_dir / _ID
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        fresh = str(uuid.uuid4())
    try:
        path.write_text(f"{fresh}\n", encoding="ascii")
    except OSError as error:
        _LOG.warning("%s: %s", path, error.strerror)
    return fresh
