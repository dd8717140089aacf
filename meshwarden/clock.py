"""The one file that reads a clock; everything else takes the time as an argument."""

import time
from datetime import datetime

__all__ = ["local_now", "monotonic_ns", "monotonic_s", "now_ns", "thread_s"]

now_ns = time.time_ns
"""Nanoseconds since the Unix epoch."""

monotonic_ns = time.monotonic_ns
"""Nanoseconds on a clock that never goes back, the same for every process of the machine."""

monotonic_s = time.monotonic
"""Seconds on a clock that never goes back."""

thread_s = time.thread_time
"""Seconds that the calling thread has run on a core."""


def local_now() -> datetime:
    """Give the time on this machine's wall clock, for rules about office hours."""
    return datetime.now().astimezone()  # noqa: TID251 - the one file that may
