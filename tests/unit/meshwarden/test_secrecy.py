"""A process with keys leaves no dump."""

import subprocess
import sys

STORY = """\
import ctypes, resource
from meshwarden.secrecy import forbid_dumps
forbid_dumps()
PR_GET_DUMPABLE = 3
dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
print(dumpable, *resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_no_dump_can_be_made_of_it() -> None:
    """Neither by the kernel at a crash nor by another process of its user."""
    words = [sys.executable, "-c", STORY]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.split() == ["0", "0", "0"]
