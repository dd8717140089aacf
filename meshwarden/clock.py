"""The one file that reads a clock; everything else takes the time as an argument."""

import time

__all__ = ["monotonic_s", "now_ns"]

now_ns = time.time_ns
"""Nanoseconds since the Unix epoch."""

monotonic_s = time.monotonic
"""Seconds on a clock that never goes back."""
