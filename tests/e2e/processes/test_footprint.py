"""What the service takes at rest and how soon it is there; benchmarks have the exact numbers."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.instance import Instance

MIB = 1024 * 1024
# A busy machine is no fault of ours; three times the promise would be one.
SLACK = 3


def pss_bytes(pid: int) -> int:
    """Give a process's share of memory: what it shares is split among those who do."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel doesn't tell")


def test_it_is_ready_soon_and_small_at_rest(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Ready within 3 s; a front within 160 MiB, control within 150 MiB."""
    begun_s = time.monotonic()
    instance = run(new_place()).wait_ready()
    assert time.monotonic() - begun_s < 3 * SLACK
    assert pss_bytes(instance.front()) <= 160 * MIB
    assert pss_bytes(instance.control) <= 150 * MIB
