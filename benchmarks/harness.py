"""What every benchmark shares: scenarios and results, options, pinning, figures of processes."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

__all__ = [
    "LOAD_CORE",
    "SERVER_CORE",
    "Options",
    "Result",
    "Scenario",
    "anonymous_bytes",
    "cpu_s",
    "interleaved",
    "parse_bytes",
    "pinned",
    "pss_bytes",
    "run",
]

T = TypeVar("T")

_CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, SERVER_CORE = _CORES[0], _CORES[-1]
"""Where load comes from and where what is measured runs; the same where there is one core only."""

_TICKS_S = os.sysconf("SC_CLK_TCK")
_NOISE = "a run during which other work shares the two cores measures that work too"


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario's outcome.

    The name is stable: results of different versions are compared by it.

    Attributes:
        scenario: Such as "check/10".
        value: What was measured, in `unit`.
        unit: Such as "checks/s".
        baseline: What it is compared with, in the same unit and from the same run; or the bar
            itself, where that is an absolute one.
        ratio: How much better than the baseline: above 1 is better, whichever way the unit counts.
        bar: The least ratio that is promised; None promises nothing.
    """

    scenario: str
    value: float
    unit: str
    baseline: float
    ratio: float
    bar: float | None = None

    @property
    def as_json(self) -> str:
        """The one line that other programs read."""
        return json.dumps(
            {
                "scenario": self.scenario,
                "value": _rounded(self.value),
                "unit": self.unit,
                "baseline": _rounded(self.baseline),
                "ratio": _rounded(self.ratio),
            }
        )

    @property
    def as_row(self) -> str:
        """The one line that people read."""
        promise = ""
        if self.bar is not None:
            word = "ok" if self.ratio >= self.bar else "BELOW"
            promise = f"  {word}, bar {self.bar:g}"
        return (
            f"{self.scenario:<24}{_shown(self.value):>12} {self.unit:<10}"
            f"{_shown(self.baseline):>12}{self.ratio:>9.2f}{promise}"
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured, and which way is better.

    Attributes:
        name: Its stable name.
        unit: Unit of the values.
        better: Whether a higher or a lower value is better.
        bar: The least ratio promised; None promises nothing.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    bar: float | None = None

    def compare(self, values: Sequence[float], baselines: Sequence[float]) -> Result:
        """Compare the medians of what was measured and of its baseline.

        Args:
            values: One for each round, at least one; all above 0.
            baselines: Likewise.
        """
        value, baseline = statistics.median(values), statistics.median(baselines)
        ratio = value / baseline if self.better == "higher" else baseline / value
        return Result(self.name, value, self.unit, baseline, ratio, self.bar)


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark was asked for.

    Attributes:
        quick: Whether to end within 40 s, at the price of more noise.
        only: Scenario names to run; a name ending in "/" is all that begin with it. Empty is all.
    """

    quick: bool = False
    only: tuple[str, ...] = ()

    def wants(self, *scenarios: str) -> bool:
        """Tell whether any of these is asked for."""
        if not self.only:
            return True
        return any(
            name == wanted or (wanted.endswith("/") and name.startswith(wanted))
            for name in scenarios
            for wanted in self.only
        )


def interleaved(
    rounds: int, first: Callable[[], T], second: Callable[[], T]
) -> tuple[list[T], list[T]]:
    """Measure two things in turns, A B A B: what slows this machine for a while slows both."""
    pairs = [(first(), second()) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Start processes on one core: what is started inside, and all that it starts, stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """Give the CPU time of a process so far, user and system, all threads, in seconds."""
    # The second field, the program's name, may hold spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    utime, stime = fields[11], fields[12]  # proc(5) counts them as 14 and 15, from 1.
    return (int(utime) + int(stime)) / _TICKS_S


def pss_bytes(pid: int) -> int:
    """Give the memory of a process, with pages it shares counted by their share."""
    return parse_bytes(_rollup(pid), "Pss")


def anonymous_bytes(pid: int) -> int:
    """Give what a process has allocated itself.

    Its share of what is mapped from files grows when others that map them end: where those come
    and go, only this tells what a process has come to hold.
    """
    return parse_bytes(_rollup(pid), "Anonymous")


def parse_bytes(rollup: str, field: str) -> int:
    """Read a line as "Pss:  1234 kB" of a smaps_rollup file.

    Raises:
        ValueError: There is none.
    """
    for line in rollup.splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise ValueError(f"no line '{field}:' in smaps_rollup")


def _rollup(pid: int) -> str:
    return Path(f"/proc/{pid}/smaps_rollup").read_text()


def run(description: str, measure: Callable[[Options], Iterable[Result]]) -> int:
    """Run a benchmark as a program: options in, one line for each result out; give the exit code.

    The code is 0 whatever the ratios are: a busy machine is no failure of the code measured.
    """
    parser = argparse.ArgumentParser(description=description, epilog=f"Noise: {_NOISE}.")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="end within 40 s; noisier")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help='a scenario, or with a final "/" all of that name; may be repeated',
    )
    given = parser.parse_args()
    if LOAD_CORE == SERVER_CORE:
        print("one core only: load and server share it, ratios mean little", file=sys.stderr)
    if not given.json:
        print(f"{'scenario':<24}{'value':>12} {'unit':<10}{'baseline':>12}{'ratio':>9}")
    for result in measure(Options(quick=given.quick, only=tuple(given.only))):
        # At once: somebody is waiting, and a benchmark that breaks later keeps what it has.
        print(result.as_json if given.json else result.as_row, flush=True)
    return 0


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
