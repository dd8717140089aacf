"""Check, from a sidecar's bytes to ours and back, against a grpc.aio server.

README.md beside this file says how it is measured; docs/benchmarks.md has figures.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks import decisions, policies
from benchmarks.h2load import H2load, LoadError, Rate, quantile
from benchmarks.harness import Options, Result, Scenario, cpu_s, interleaved, pss_bytes, run
from benchmarks.requests import check_request, framed
from benchmarks.servers import Baseline, Service, baseline, service
from deploy.demo.certificates import Authority, Credential

__all__ = ["main", "measure"]

_MIB = 1024 * 1024
_FRONT_BAR_MIB = 160
_CONTROL_BAR_MIB = 150
_READY_BAR_S = 3.0
_STEADY_RATE = 2_000
_P99 = 0.99
_SETTLE_S = 2.0


_CPU = Scenario("check/cpu", "us", "lower")
_LATENCY = Scenario("check/latency-2000", "ms p99", "lower", bar=1)
_FRONT_MEMORY = Scenario("memory/front", "MiB", "lower", bar=1)
_CONTROL_MEMORY = Scenario("memory/control", "MiB", "lower", bar=1)
_READY = Scenario("start/ready", "s", "lower", bar=1)
_FLAT = Scenario("check/100000-to-10", "checks/s", "higher", bar=0.8)


@dataclass(frozen=True, slots=True)
class _Case:
    """One policy under full load.

    Attributes:
        scenario: Its stable name.
        policy: Makes the policy.
        tls: Whether both servers speak TLS.
        sample_allows: Share of allowed requests that is recorded.
        bar: The least ratio promised.
        also: Scenarios that are measured on the same service.
        is_quick: Whether there is time for it in a quick run.
    """

    scenario: str
    policy: Callable[[], str]
    tls: bool = False
    sample_allows: float = 0.01
    bar: float | None = None
    also: tuple[str, ...] = ()
    is_quick: bool = True


_CASES = (
    _Case("check/constant", policies.at_once, bar=4),
    _Case(
        "check/10",
        partial(policies.shop, 10),
        bar=3.5,
        also=tuple(each.name for each in (_CPU, _LATENCY, _FRONT_MEMORY, _CONTROL_MEMORY, _READY)),
    ),
    _Case("check/1000", partial(policies.shop, 1000)),
    _Case("check/10000", partial(policies.shop, 10_000), is_quick=False),
    _Case("check/100000", partial(policies.shop, 100_000)),
    _Case("check/10+tls", partial(policies.shop, 10), tls=True),
)


@dataclass(frozen=True, slots=True)
class _Effort:
    """How long is measured."""

    rounds: int
    seconds: float
    steady_seconds: float
    rest_s: float


_FULL = _Effort(rounds=7, seconds=2.0, steady_seconds=4.0, rest_s=2.0)
_QUICK = _Effort(rounds=3, seconds=0.3, steady_seconds=0.6, rest_s=0.3)


class _Bench:
    """One run: the baseline, the request, and a folder for everything."""

    def __init__(self, folder: Path, effort: _Effort, credential: Credential) -> None:
        self.folder = folder
        self.effort = effort
        self.credential = credential
        self._body = folder / "body"
        self._body.write_bytes(framed(check_request()))

    def flat(self) -> Result:
        """A service of very many rules against one of ten, in turns and on the same machine."""
        with ExitStack() as stack:
            loads = []
            for rules in (100_000, 10):
                made = stack.enter_context(
                    service(self.folder / f"flat{rules}", policies.shop(rules), sample_allows=0.01)
                )
                loads.append(self.load(made.port))
                loads[-1].at_full_speed(self.effort.seconds / 2)
            # What a start leaves behind, of a hundred thousand rules most of all, is no day's work.
            time.sleep(_SETTLE_S)
            many, few = loads
            seconds = self.effort.seconds
            ours, theirs = interleaved(
                self.effort.rounds,
                lambda: many.at_full_speed(seconds).per_second,
                lambda: few.at_full_speed(seconds).per_second,
            )
        return _FLAT.compare(ours, theirs)

    def load(self, port: int, *, tls: bool = False) -> H2load:
        return H2load(port, self._body, tls=tls)

    def measure(self, case: _Case, against: Baseline, options: Options) -> Iterator[Result]:
        """Measure a case and what is measured beside it."""
        with service(
            # Sockets live below: their paths must be short.
            self.folder / str(_CASES.index(case)),
            case.policy(),
            sample_allows=case.sample_allows,
            tls=self.credential if case.tls else None,
        ) as ours:
            yield from self._full_speed(case, ours, against)
            if _LATENCY.name in case.also and options.wants(_LATENCY.name):
                yield self._latency(ours, against)
            if case.also:
                time.sleep(self.effort.rest_s)
                yield from _at_rest(ours)

    def _full_speed(self, case: _Case, ours: Service, against: Baseline) -> Iterator[Result]:
        effort = self.effort
        load = self.load(ours.port, tls=case.tls)
        other_load = self.load(against.tls_port if case.tls else against.port, tls=case.tls)

        def turn(load: H2load, pid: int) -> tuple[Rate, float]:
            before = cpu_s(pid)
            rate = load.at_full_speed(effort.seconds)
            return rate, (cpu_s(pid) - before) * 1e6 / rate.requests

        # The first calls of a process fill caches; they are not what a day looks like.
        load.at_full_speed(effort.seconds / 2)
        other_load.at_full_speed(effort.seconds / 4)
        before = ours.verdicts()
        mine, theirs = interleaved(
            effort.rounds, lambda: turn(load, ours.front), lambda: turn(other_load, against.pid)
        )
        _insist_on_allowed(before, ours.verdicts(), sum(rate.requests for rate, _ in mine))
        yield Scenario(case.scenario, "checks/s", "higher", case.bar).compare(
            [rate.per_second for rate, _ in mine], [rate.per_second for rate, _ in theirs]
        )
        if _CPU.name in case.also:
            yield _CPU.compare([cpu for _, cpu in mine], [cpu for _, cpu in theirs])

    def _latency(self, ours: Service, against: Baseline) -> Result:
        seconds = self.effort.steady_seconds

        def p99_ms(load: H2load) -> float:
            return quantile(load.latencies_us(_STEADY_RATE, seconds), _P99) / 1000

        load, other_load = self.load(ours.port), self.load(against.port)
        mine, theirs = interleaved(
            self.effort.rounds, lambda: p99_ms(load), lambda: p99_ms(other_load)
        )
        return _LATENCY.compare(mine, theirs)


def _at_rest(ours: Service) -> Iterator[Result]:
    """What a service that has had work takes while it has none, and how soon it could start."""
    yield _FRONT_MEMORY.compare([pss_bytes(ours.front) / _MIB], [_FRONT_BAR_MIB])
    yield _CONTROL_MEMORY.compare([pss_bytes(ours.control) / _MIB], [_CONTROL_BAR_MIB])
    yield _READY.compare([ours.ready_s], [_READY_BAR_S])


def _insist_on_allowed(before: dict[str, int], after: dict[str, int], requests: int) -> None:
    """Make sure that what was counted were verdicts, and the right ones.

    Raises:
        LoadError: An answer was no permission: h2load takes any HTTP 200 for a success.
    """
    new = {verdict: count - before.get(verdict, 0) for verdict, count in after.items()}
    if new.get("allow", 0) < requests or new.get("deny", 0):
        raise LoadError(f"of {requests} checks that should be allowed, the service counted {new}")


def measure(options: Options) -> Iterator[Result]:
    """Measure every scenario that is asked for, one service after the other.

    Raises:
        LoadError: There is no h2load, or a server answers wrong.
        DemoError: A server does not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mwb-")))
        authority = Authority(folder / "tls", datetime.now(tz=UTC))  # noqa: TID251 - no time is passed to a program
        credential = authority.issue("server", "spiffe://shop.example/ns/mesh/sa/meshwarden")
        bench = _Bench(folder, _QUICK if options.quick else _FULL, credential)
        against = stack.enter_context(baseline(folder, credential))
        for case in _CASES:
            is_skipped = options.quick and not case.is_quick and case.scenario not in options.only
            if options.wants(case.scenario, *case.also) and not is_skipped:
                yield from bench.measure(case, against, options)
        if options.wants(_FLAT.name):
            yield bench.flat()
    with_log = decisions.BESIDE_NONE.name
    # Two more services are more than a quick run has time for.
    if options.wants(with_log) and (not options.quick or with_log in options.only):
        yield decisions.beside_none(options)


def main() -> int:
    """Run as a program; give the exit code."""
    return run(__doc__.splitlines()[0], measure)


if __name__ == "__main__":
    sys.exit(main())
