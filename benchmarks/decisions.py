"""What the decision log costs a Check, and whether it keeps up with them.

README.md beside this file says how it is measured.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import policies
from benchmarks.h2load import H2load, LoadError
from benchmarks.harness import Options, Result, Scenario, interleaved, run
from benchmarks.requests import check_request, framed
from benchmarks.servers import Service, service

__all__ = ["BESIDE_NONE", "beside_none", "main", "measure"]

BESIDE_NONE = Scenario("check/10+decisions", "checks/s", "higher", bar=0.8)
"""A service with the decision log of the default settings, beside one without any."""
_ALL = Scenario("check/10+all-decisions", "checks/s", "higher")
_STEADY = Scenario("decisions/kept-5000", "share", "higher", bar=1)
_FULL_SPEED = Scenario("decisions/kept-full", "share", "higher")
_STEADY_RATE = 5_000
_SINKS = ("jsonl", "sqlite")
_WRITTEN = 'meshwarden_decision_sink_records_total{{outcome="written",sink="{}"}}'
_SETTLE_S = 30.0
_SHORT = 0.9  # Connections open one after the other: the first beats are fewer.


@dataclass(frozen=True, slots=True)
class _Effort:
    """How long is measured."""

    rounds: int
    seconds: float
    steady_seconds: float


_FULL = _Effort(rounds=7, seconds=2.0, steady_seconds=30.0)
_QUICK = _Effort(rounds=3, seconds=0.3, steady_seconds=2.0)


def measure(options: Options) -> Iterator[Result]:
    """Measure a service that records every decision, beside one that records none.

    Raises:
        LoadError: There is no h2load, or a server answers wrong.
        DemoError: A server does not start.
    """
    if not options.wants(_ALL.name, _STEADY.name, _FULL_SPEED.name):
        return
    effort = _QUICK if options.quick else _FULL
    with tempfile.TemporaryDirectory(prefix="mwb-") as name, ExitStack() as stack:
        folder = Path(name)
        body = _body(folder)
        ours = stack.enter_context(service(folder / "1", policies.shop(10), sample_allows=1))
        load = H2load(ours.port, body)
        if options.wants(_STEADY.name):
            yield _kept(
                _STEADY, ours, lambda: load.latencies_us(_STEADY_RATE, effort.steady_seconds)
            )
        if options.wants(_ALL.name, _FULL_SPEED.name):
            without = stack.enter_context(_without(folder))
            yield from _at_full_speed(effort, ours, load, H2load(without.port, body))


def beside_none(options: Options) -> Result:
    """Measure what the default settings' log costs a Check.

    Raises:
        LoadError: There is no h2load, or a server answers wrong.
        DemoError: A server does not start.
    """
    effort = _QUICK if options.quick else _FULL
    with tempfile.TemporaryDirectory(prefix="mwb-") as name:
        folder = Path(name)
        body = _body(folder)
        with _without(folder) as without, service(folder / "1", policies.shop(10)) as ours:
            loads = H2load(ours.port, body), H2load(without.port, body)
            return _compared(BESIDE_NONE, effort, *loads)


def _body(folder: Path) -> Path:
    body = folder / "body"
    body.write_bytes(framed(check_request()))
    return body


def _without(folder: Path) -> AbstractContextManager[Service]:
    return service(folder / "0", policies.shop(10), sample_allows=0, has_sinks=False)


def _at_full_speed(
    effort: _Effort, ours: Service, load: H2load, other_load: H2load
) -> Iterator[Result]:
    rates: list[Result] = []
    kept = _kept(_FULL_SPEED, ours, lambda: rates.append(_compared(_ALL, effort, load, other_load)))
    yield from rates
    yield kept


def _compared(scenario: Scenario, effort: _Effort, load: H2load, other_load: H2load) -> Result:
    # The first calls of a process fill caches; they are not what a day looks like.
    load.at_full_speed(effort.seconds / 2)
    other_load.at_full_speed(effort.seconds / 2)
    mine, theirs = interleaved(
        effort.rounds,
        lambda: load.at_full_speed(effort.seconds).per_second,
        lambda: other_load.at_full_speed(effort.seconds).per_second,
    )
    return scenario.compare(mine, theirs)


def _kept(scenario: Scenario, ours: Service, work: Callable[[], object]) -> Result:
    """Give the share of decisions that the sink which kept fewer of them has kept."""
    checks = sum(ours.verdicts().values())
    before = {sink: ours.metric(_WRITTEN.format(sink)) for sink in _SINKS}
    started_s = time.monotonic()
    work()
    elapsed_s = time.monotonic() - started_s
    checks = sum(ours.verdicts().values()) - checks
    if scenario is _STEADY and checks < _SHORT * _STEADY_RATE * elapsed_s:
        # A machine with other work may not answer so many: the share is then one of fewer.
        rate = checks / elapsed_s
        print(f"{scenario.name}: {rate:,.0f} a second is all there was", file=sys.stderr)
    until_s = time.monotonic() + _SETTLE_S
    kept, last = _fewest(ours, before), -1
    # Records are on their way for a second; what no more comes was dropped.
    while kept < checks and kept != last and time.monotonic() < until_s:
        time.sleep(1.0)
        kept, last = _fewest(ours, before), kept
    if not kept:
        raise LoadError("no decision was recorded")
    if scenario is _FULL_SPEED:
        print(f"{scenario.name}: {checks - kept:,} of {checks:,} were dropped", file=sys.stderr)
    return scenario.compare([kept / checks], [1.0])


def _fewest(ours: Service, before: dict[str, int]) -> int:
    return min(ours.metric(_WRITTEN.format(sink)) - count for sink, count in before.items())


def main() -> int:
    """Run as a program; give the exit code."""
    return run(__doc__.splitlines()[0], measure)


if __name__ == "__main__":
    sys.exit(main())
