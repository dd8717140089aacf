"""Children: how they are started, ended, and when they are started again."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from meshwarden.supervisor.child import Backoff, Child

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
DEAF_PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


def test_each_quick_death_doubles_the_pause_up_to_the_limit() -> None:
    """From a tenth of a second on."""
    backoff = Backoff(max_s=1)
    assert [backoff.pause_s(lived_s=0) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1, 1]


def test_a_long_life_is_forgiven() -> None:
    """The next pause is the first again."""
    backoff = Backoff(max_s=30)
    for _ in range(5):
        backoff.pause_s(lived_s=1)
    assert backoff.pause_s(lived_s=10) == 0.1
    assert backoff.pause_s(lived_s=1) == 0.2


def test_the_limit_holds_for_the_first_pause_too() -> None:
    """A limit below the first pause is one."""
    assert Backoff(max_s=0.05).pause_s(lived_s=0) == 0.05


def test_a_child_ends_when_told_and_says_how() -> None:
    """By the signal's number."""

    async def scenario() -> None:
        child = await Child.start("sleeper", SLEEP, {})
        assert child.alive
        assert child.code is None
        await child.stop()
        assert not child.alive
        assert await child.wait() == child.code == -signal.SIGTERM
        child.signal(signal.SIGTERM)  # Nobody is there: no error either.
        await child.stop()
        await child.kill()

    asyncio.run(scenario())


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """After the time-out."""

    async def scenario() -> None:
        child = await Child.start(
            "deaf", [sys.executable, "-c", DEAF_PROGRAM, str(tmp_path / "deaf")], {}
        )
        while not (tmp_path / "deaf").exists():
            await asyncio.sleep(0.01)
        await child.stop(timeout_s=0.1)
        assert child.code == -signal.SIGKILL

    asyncio.run(scenario())


def test_a_child_is_out_of_reach_of_the_terminals_signals() -> None:
    """A Ctrl-C goes to the supervisor alone: it has a session of its own, and no SIGHUP ends it."""

    async def scenario() -> None:
        child = await Child.start("sleeper", SLEEP, {})
        try:
            assert os.getsid(child.pid) == child.pid
            child.signal(signal.SIGHUP)
            await asyncio.sleep(0.05)
            assert child.alive
        finally:
            await child.kill()

    asyncio.run(scenario())


def test_a_program_that_is_not_there_is_an_error_of_the_system() -> None:
    """Whoever starts it tries again or gives up."""
    with pytest.raises(FileNotFoundError):
        asyncio.run(Child.start("nothing", ["/no/such/program"], {}))
