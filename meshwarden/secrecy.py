"""Keeps what a process holds out of files: for processes with private keys."""

import ctypes
import logging
import os
import resource

__all__ = ["forbid_cores", "forbid_dumps"]

_LOG = logging.getLogger(__name__)
_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_cores() -> None:
    """Let no crash of this process leave its memory on a disk, and hide nothing else of it.

    For a workload: an agent without CAP_SYS_PTRACE knows the program of those alone that its user
    may trace.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    # Not 0, which a pipe in core_pattern ignores: no core has so little room, and fs/coredump.c
    # takes just this for a word that even a pipe gets none.
    resource.setrlimit(resource.RLIMIT_CORE, (hard and 1, hard))


def forbid_dumps() -> None:
    """Let no crash of this process leave its memory on a disk, and no process of its user read it.

    Not dumpable also means that /proc/PID/mem and ptrace need CAP_SYS_PTRACE (ptrace(2)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        # A pipe in core_pattern ignores the limit above, so this one says something new.
        _LOG.warning("this process can be dumped: prctl: %s", os.strerror(ctypes.get_errno()))
