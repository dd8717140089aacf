"""The Python inside a front's Envoy: what pyvoy imports as `meshwarden.front.app:app`.

Start-up (ASGI lifespan) loads settings and the last published policy; Envoy opens the port only
after it. From then on the app answers, and two tasks run beside it: one keeps up with policy,
health and counts, the other carries decision records to control.
"""

import asyncio
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from meshwarden import metrics
from meshwarden.config import restore
from meshwarden.decider import Decider
from meshwarden.files import (
    EPOCH_VARIABLE,
    NAME_VARIABLE,
    RESTARTED_VARIABLE,
    RUNTIME_VARIABLE,
    RuntimeDir,
)
from meshwarden.front.grpc_http import Receive, Scope, Send
from meshwarden.front.reporter import Reporter
from meshwarden.front.scheduling import let_envoy_interrupt, let_python_wait
from meshwarden.logs import configure_logging
from meshwarden.secrecy import forbid_dumps

__all__ = ["app"]

_REPORT_S = 3.0  # For the last records, at a stop.
_LOG = logging.getLogger(__name__)


class _Process:
    """One front."""

    def __init__(self) -> None:
        runtime = RuntimeDir(Path(os.environ[RUNTIME_VARIABLE]))
        name = os.environ[NAME_VARIABLE]
        settings = restore(runtime.settings.read_bytes())
        configure_logging(settings.server.log_level, name)
        if settings.listen.tls.is_on:
            forbid_dumps()  # Envoy around us has the port's key.
        self._reporter = Reporter(runtime.internal_socket, settings.decisions.queue_records, name)
        self._decider = Decider(
            settings, runtime, name, int(os.environ[EPOCH_VARIABLE]), self._reporter.offer
        )
        self.answer = self._decider.app
        self._tasks: list[asyncio.Task[None]] = []
        is_restart = os.environ.get(RESTARTED_VARIABLE) == "1"
        metrics.RESTARTS.labels("front").inc(is_restart)

    async def start(self) -> None:
        await self._decider.start()
        for work in (self._reporter.run(), self._decider.run(), let_envoy_interrupt()):
            task = asyncio.create_task(work)
            task.add_done_callback(_end_process_on_fault)
            self._tasks.append(task)

    async def stop(self) -> None:
        self._reporter.close()
        await asyncio.wait(self._tasks[:1], timeout=_REPORT_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._decider.flush()


def _end_process_on_fault(task: asyncio.Task[None]) -> None:
    """A front that no longer follows its policy must not go on answering: end, be restarted."""
    if not task.cancelled() and task.exception() is not None:
        _LOG.critical("a front's task ended", exc_info=task.exception())
        os._exit(70)  # EX_SOFTWARE; Envoy around us knows no gentler word from Python.


_process: _Process | None = None


def app(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    """Start, answer, stop: pyvoy's one entry. Gives the coroutine that does it."""
    if _process is not None and scope["type"] == "http":
        return _process.answer(scope, receive, send)
    return _lifespan(scope, receive, send)


# No coroutine of its own around each request's; by this mark (asgiref's) pyvoy sees what it is.
setattr(app, "_asgi_single_callable", True)  # noqa: B010 - a function's type has no such attribute


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    global _process  # noqa: PLW0603 - pyvoy knows only a module's attribute
    if scope["type"] != "lifespan":
        return
    await receive()
    let_python_wait()
    try:
        process = _Process()
        await process.start()
    except Exception as error:  # noqa: BLE001 - whatever it is, Envoy must be told
        _LOG.exception("this front can't start")
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    _process = process
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await process.stop()
    await send({"type": "lifespan.shutdown.complete"})
