"""What it takes, from whom, and how soon it is there; benchmarks have the exact numbers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness import cpu_s, pss_bytes
from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.instance import Instance

MIB = 1024 * 1024
READY_S = 3.0


def test_it_is_ready_soon_and_small_at_rest(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Ready within 3 s; a front within 160 MiB, control within 150 MiB.

    On a busy machine the clock says nothing: what counts is the work of all processes together.
    """
    instance = run(new_place()).wait_ready()
    assert sum(map(cpu_s, (instance.pid, instance.control, instance.front()))) < READY_S
    assert pss_bytes(instance.front()) <= 160 * MIB
    assert pss_bytes(instance.control) <= 150 * MIB


@pytest.mark.parametrize(
    ("transport", "policy"), [("front", os.SCHED_BATCH), ("grpcio", os.SCHED_OTHER)]
)
def test_control_gives_way_to_those_who_decide_and_to_nobody_if_it_does_itself(
    new_place: NewPlace, run: Callable[..., Instance], transport: str, policy: int
) -> None:
    """With every thread that it has."""
    control = run(new_place({"server.transport": transport})).wait_ready().control
    threads = [int(each.name) for each in Path(f"/proc/{control}/task").iterdir()]
    assert len(threads) > 1
    assert {os.sched_getscheduler(each) for each in threads} == {policy}
