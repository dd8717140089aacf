"""Keeps a process that holds keys out of core dumps, and out of the reach of its user's others."""

import ctypes
import os
import resource

__all__ = ["protect_memory"]

_PR_SET_DUMPABLE = 4  # prctl(2)


def protect_memory() -> None:
    """Make this process undumpable: no core file, no ptrace or /proc/PID/mem by the same user.

    Raises:
        OSError: The kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
