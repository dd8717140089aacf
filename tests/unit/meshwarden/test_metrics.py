"""Counts of a process, and their sum over all that ever were."""

import os
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import REGISTRY

from authz.check import Counts
from meshwarden.metrics import CheckCounts


def value(name: str, **labels: str) -> float:
    """Read one sample of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_flush_adds_what_is_new_since_the_last() -> None:
    """Running totals go in; each is counted once."""
    counts = CheckCounts()
    before = value("meshwarden_checks_total", verdict="deny", status="403")
    verdicts, odd = {("deny", 403): 2}, Counts(faults=1)
    counts.flush(verdicts, odd)
    counts.flush(verdicts, odd)
    verdicts[("deny", 403)], odd.faults = 5, 2
    counts.flush(verdicts, odd)
    assert value("meshwarden_checks_total", verdict="deny", status="403") == before + 5


def test_durations_fall_into_their_buckets() -> None:
    """As the library's own `observe` would put them."""
    counts = CheckCounts()
    name = "meshwarden_check_seconds"
    before = {
        bound: value(f"{name}_bucket", le=bound) for bound in ("1e-05", "0.0001", "1.0", "+Inf")
    }
    total = value(f"{name}_sum")
    for seconds in (0.00001, 0.00006, 0.5, 7):
        counts.time(seconds)
    counts.flush({}, Counts())
    added = [value(f"{name}_bucket", le=bound) - before[bound] for bound in before]
    assert added == [1, 2, 3, 4]
    assert round(value(f"{name}_sum") - total, 5) == 7.50007


def test_errors_are_counted_by_code_and_once() -> None:
    """RESOURCE_EXHAUSTED is what an operator looks for."""
    counts = CheckCounts()
    before = value("meshwarden_check_errors_total", code="RESOURCE_EXHAUSTED")
    counts.error("RESOURCE_EXHAUSTED")
    counts.flush({}, Counts())
    counts.flush({}, Counts())
    assert value("meshwarden_check_errors_total", code="RESOURCE_EXHAUSTED") == before + 1


PROCESS = """
import sys
from authz.check import Counts
from meshwarden import metrics
counts = metrics.CheckCounts()
counts.time(0.001)
counts.flush({("allow", 200): int(sys.argv[1])}, Counts())
metrics.POLICY_RULES.set(int(sys.argv[1]))
if sys.argv[2:]:
    sys.stdout.write(metrics.exposition().decode())
"""


def process(folder: Path, *arguments: object) -> str:
    """Run one process of a service; give what it shows of all."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_counts_of_the_dead_stay_and_their_gauges_go(tmp_path: Path) -> None:
    """The sum is over all processes there ever were; a gauge over those that live."""
    process(tmp_path, 3)
    for gauge in tmp_path.glob("gauge_live*.db"):  # As the supervisor does on a death.
        gauge.unlink()
    shown = process(tmp_path, 4, "show")
    assert re.search(r'^meshwarden_checks_total\{.*"allow".*\} 7.0$', shown, re.MULTILINE)
    assert re.search(r"^meshwarden_check_seconds_count 2.0$", shown, re.MULTILINE)
    assert re.search(r"^meshwarden_policy_rules 4.0$", shown, re.MULTILINE)
    assert "pid=" not in shown
