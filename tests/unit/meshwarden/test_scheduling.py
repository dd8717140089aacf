"""Which of a front's threads may interrupt which, in a process of its own."""

import subprocess
import sys
import textwrap

import pytest

# A thread with the name that Envoy gives its workers stands in for one.
FRONT = """
import asyncio, os, threading
from pathlib import Path
from meshwarden.front.scheduling import let_envoy_interrupt, let_python_wait

ids, stop = {}, threading.Event()

def work(name):
    ids[name] = threading.get_native_id()
    Path(f"/proc/self/task/{ids[name]}/comm").write_text(name)
    stop.wait()

def start(name):
    threading.Thread(target=work, args=(name,)).start()
    while name not in ids or Path(f"/proc/self/task/{ids[name]}/comm").read_text() != name + "\\n":
        pass

async def main():
    let_python_wait()
    start("pyvoy")
    waiting = asyncio.create_task(let_envoy_interrupt())
    await asyncio.sleep(0)
    start("wrk:worker_0")
    await waiting

asyncio.run(main())
names = {os.SCHED_OTHER: "other", os.SCHED_BATCH: "batch"}
print({name: names[os.sched_getscheduler(thread)] for name, thread in ids.items()})
stop.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a policy of Linux")
def test_pythons_threads_wait_and_envoys_workers_do_not() -> None:
    """Workers inherit the wrong policy, and are given the right one."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FRONT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.strip() == "{'pyvoy': 'batch', 'wrk:worker_0': 'other'}"
