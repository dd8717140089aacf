"""Which of a front's threads may interrupt which.

A request goes to and fro between Envoy's worker and two threads of Python's: pyvoy's, which takes
the interpreter's lock, and the event loop's. Where they share a core, the kernel's usual policy
lets a wake-up interrupt the thread that caused it, for one event at a time. With SCHED_BATCH
Python's threads wait until the others have finished what they have: a check then costs a fifth to a
quarter less CPU. The worker keeps the usual policy: with SCHED_BATCH too, the front as a whole
would come last beside other programs. Where threads don't share a core, nothing changes.

Source: sched(7), "SCHED_BATCH: Scheduling batch processes".
"""

import asyncio
import contextlib
import os
import threading
from pathlib import Path

__all__ = ["let_envoy_interrupt", "let_python_wait"]

_THREADS = Path("/proc/self/task")
_POLL_S = 0.05
_POLLS = 600


def let_python_wait() -> None:
    """Set the policy of Python's threads; call it from the event loop, before start-up is over.

    pyvoy's thread inherits it from the main thread, which starts that one right after. So do
    Envoy's workers, later: `let_envoy_interrupt` sees to them.
    """
    _set_policy(os.SCHED_BATCH, os.getpid(), threading.get_native_id())


async def let_envoy_interrupt() -> None:
    """Give Envoy's workers the usual policy again, once they are there."""
    for _ in range(_POLLS):
        if workers := _workers():
            _set_policy(os.SCHED_OTHER, os.getpid(), *workers)
            return
        await asyncio.sleep(_POLL_S)


def _workers() -> list[int]:
    """The ids of Envoy's worker threads, by the name it gives them."""
    try:
        return [
            int(thread.name)
            for thread in _THREADS.iterdir()
            if (thread / "comm").read_text().startswith("wrk:")
        ]
    except OSError:
        return []  # A thread ended while we looked.


def _set_policy(policy: int, *threads: int) -> None:
    # A sandbox may forbid it; that is no reason not to serve.
    with contextlib.suppress(OSError):
        for thread in threads:
            os.sched_setscheduler(thread, policy, os.sched_param(0))
