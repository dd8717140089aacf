"""The engine against pycasbin, decision by decision, on the same rules and requests.

    python -m benchmarks.engine [--quick] [--json] [--only rbac/]

`SCENARIO/RULES` is one decision in microseconds, against pycasbin's in the same run (up to 10,000
rules; above that against our own cost at 100 rules). `build/`, `alternate/`, `lookups/` and `swap/`
are what else is promised; docs/benchmarks.md has figures. Costs are CPU time of the one thread that
decides, so that other programs on the machine count for little; gaps of a loop are real time.
"""

import asyncio
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import casbin
from typing_extensions import override

from authz.attributes import reader
from authz.casbin import Enforcer
from authz.policy.functions import built_in
from authz.policy.functions.spec import RegexEngine, Tools
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from benchmarks.engine_cases import CASES, Case, requests
from benchmarks.harness import Options, Result, Scenario, pss_bytes, run
from meshwarden.follower import PolicyFollower
from meshwarden.publication import Publication, publish
from meshwarden.service import check_service
from meshwarden.settings import Runtime, Settings

__all__ = ["main", "measure"]

_SIZES = (10, 100, 1_000, 10_000, 100_000)
_QUICK_SIZES = (100, 10_000)  # Those with a bar.
_PYCASBIN_SIZE = 10_000
_REQUESTS = 1_000
_ROUNDS = 5
_FLAT_ROUNDS = 15
_PYCASBIN_S = 0.2  # For each of its turns, and four decisions at least.
# At these sizes at least so many times pycasbin; what can't be indexed has a bar of its own.
_BARS = {100: 50.0, 10_000: 2_000.0}
_SCANNED_BAR = 20.0
_FLAT_BAR = 0.5  # 100,000 rules cost at most twice what 100 do.
_MIB = 1024 * 1024


def measure(options: Options) -> Iterator[Result]:
    """Measure every scenario that is wanted."""
    for case in CASES:
        yield from _sizes(case, options)
    for name in ("rbac", "mesh"):
        if options.wants(f"lookups/{name}"):
            yield _lookups(name)
    if options.wants("alternate/10000"):
        yield _alternate(10_000)
    if not options.quick:
        if options.wants("build/100000", "build-memory/100000"):
            yield from _build(100_000)
        if options.wants("swap/100000"):
            yield _swap(100_000)


def _sizes(case: Case, options: Options) -> Iterator[Result]:
    for size in _QUICK_SIZES if options.quick else _SIZES:
        if options.wants(f"{case.name}/{size}"):
            yield (_flatness if size > _PYCASBIN_SIZE else _decisions)(case, size)


def _flatness(case: Case, size: int) -> Result:
    """Very many rules against a hundred, in turns: neighbours on the machine come and go."""
    both = []
    for rules in (size, 100):
        asked = requests(case, rules, _REQUESTS)
        # What tries every rule takes a tenth of a second at 100,000: fewer requests say it as well.
        both.append((_snapshot(case, rules).decide, asked if case.is_indexed else asked[:10]))
    with _collected():
        for turn in both:
            _round_us(*turn)
        rounds = [[_round_us(*turn) for turn in both] for _ in range(_FLAT_ROUNDS)]
    ours, few = zip(*rounds, strict=True)
    bar = _FLAT_BAR if case.is_indexed else None
    return Scenario(f"{case.name}/{size}", "us", "lower", bar).compare(ours, few)


def _decisions(case: Case, size: int) -> Result:
    snapshot = _snapshot(case, size)
    # As many at every size: what it costs to fetch a request from memory is no cost of rules.
    asked = requests(case, size, _REQUESTS)
    # What tries every rule takes a tenth of a second at 100,000: fewer requests say it as well.
    timed = asked if case.is_indexed else asked[: max(10, 100_000 // size)]
    us = _median_us(snapshot.decide, timed)
    theirs = _pycasbin(case, size)
    _agree(case, snapshot, theirs, asked)
    slow = _bounded_us(theirs.enforce, asked)
    bar = _BARS.get(size)
    if bar is not None and not case.is_indexed:
        bar = _SCANNED_BAR
    return Scenario(f"{case.name}/{size}", "us", "lower", bar).compare([us], [slow])


def _median_us(
    decide: Callable[[Sequence[object]], object], asked: Sequence[Sequence[object]]
) -> float:
    """Cost of one decision: the median of several rounds over all requests, warmed up."""
    with _collected():
        return statistics.median([_round_us(decide, asked) for _ in range(_ROUNDS + 1)][1:])


@contextmanager
def _collected() -> Iterator[None]:
    """Without collections of garbage, as a front decides."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _round_us(
    decide: Callable[[Sequence[object]], object], asked: Sequence[Sequence[object]]
) -> float:
    """Cost of one decision, over all requests once."""
    begun = time.thread_time()
    for request in asked:
        decide(request)
    return (time.thread_time() - begun) / len(asked) * 1e6


def _bounded_us(enforce: Callable[..., object], asked: Sequence[Sequence[object]]) -> float:
    """The same for what may take a tenth of a second each: as many as fit."""
    count = 0
    begun = time.thread_time()
    while time.thread_time() - begun < _PYCASBIN_S or count < 4:
        enforce(*asked[count % len(asked)])
        count += 1
    return (time.thread_time() - begun) / count * 1e6


def _agree(
    case: Case, snapshot: Snapshot, theirs: casbin.Enforcer, asked: Sequence[Sequence[object]]
) -> None:
    """A benchmark of wrong answers is worth nothing."""
    for request in asked[:6]:
        mine, his = snapshot.decide(request).allowed, theirs.enforce(*request)
        assert mine == his, (case.name, request, mine, his)
    verdicts = [snapshot.decide(request).allowed for request in asked]
    assert sum(verdicts) == len(verdicts) // 2, (case.name, sum(verdicts), len(verdicts))


def _snapshot(case: Case, size: int) -> Snapshot:
    return Snapshot.build(_text(case, size), None, _options(case))


def _options(case: Case) -> EngineOptions:
    return EngineOptions(attribute=reader if case.name == "mesh" else None)


def _text(case: Case, size: int) -> PolicyText:
    rows = tuple(
        Row(row[0], tuple(row[1:]), "b.csv", line) for line, row in enumerate(case.rules(size), 1)
    )
    return PolicyText(case.model, rows, "mesh" if case.name == "mesh" else "model.conf")


def _pycasbin(
    case: Case, size: int, kind: type[casbin.Enforcer] = casbin.Enforcer
) -> casbin.Enforcer:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.conf"
        model.write_text(case.model)
        policy = Path(folder) / "policy.csv"
        policy.write_text("\n".join(", ".join(row) for row in case.rules(size)))
        enforcer = kind(str(model), str(policy))
    if case.name == "mesh":
        for name, function in built_in(Tools(regex=_NoRegex())).items():
            if name.startswith("mesh"):
                enforcer.add_function(name, function.call)
        # Nothing in these rules has a condition.
        enforcer.add_function("meshWhen", lambda _attributes, when: when == "")
    return enforcer


class _NoRegex(RegexEngine):
    """No pattern of the mesh model needs a regular expression."""

    @override
    def check(self, pattern: str) -> None:
        raise AssertionError(pattern)

    @override
    def match(self, pattern: str, text: str) -> tuple[str, ...] | None:
        raise AssertionError(pattern, text)


def _lookups(name: str) -> Result:
    """A decision at 10,000 rules, in dict lookups of this very machine."""
    case = next(each for each in CASES if each.name == name)
    limit = {"rbac": 150.0, "mesh": 300.0}[name]
    snapshot = _snapshot(case, 10_000)
    asked = requests(case, 10_000, _REQUESTS)
    ratios = [_median_us(snapshot.decide, asked) * 1000 / _lookup_ns() for _ in range(_ROUNDS)]
    return Scenario(f"lookups/{name}", "lookups", "lower", bar=1).compare(ratios, [limit])


def _lookup_ns() -> float:
    """The median of `d[k]` over 1,000 text keys, in nanoseconds."""
    table = {f"key{number}": number for number in range(1000)}
    keys = list(table)
    costs = []
    for _ in range(200):
        begun = time.thread_time_ns()
        for key in keys:
            table[key]
        costs.append((time.thread_time_ns() - begun) / len(keys))
    return statistics.median(costs)


def _alternate(size: int) -> Result:
    """One add_policy and one enforce, again and again: an edit must not rebuild all."""
    case = next(each for each in CASES if each.name == "rbac")
    asked = requests(case, size, _REQUESTS)

    def pairs_us(enforcer: casbin.Enforcer, seconds: float) -> float:
        count = 0
        begun = time.thread_time()
        while time.thread_time() - begun < seconds or count < 4:
            enforcer.add_policy(f"role-new{count}", f"data-new{count}", "read")
            enforcer.enforce(*asked[count % len(asked)])
            count += 1
        return (time.thread_time() - begun) / count * 1e6

    mine, his = _pycasbin(case, size, Enforcer), _pycasbin(case, size)
    pairs_us(mine, 0.1)  # The first decision builds; it is not what alternates.
    scenario = Scenario(f"alternate/{size}", "us", "lower", bar=300)
    return scenario.compare([pairs_us(mine, 1.0)], [pairs_us(his, 2.0)])


def _build(size: int) -> Iterator[Result]:
    """Time and memory of a whole Snapshot, in a process of its own."""
    case = next(each for each in CASES if each.name == "mesh")
    context = multiprocessing.get_context("spawn")
    figures: list[tuple[float, float]] = []
    for _ in range(3):
        ours, theirs = context.Pipe()
        process = context.Process(target=_build_here, args=(case.name, size, theirs))
        process.start()
        figures.append(ours.recv())
        process.join()
    seconds, mib = zip(*figures, strict=True)
    yield Scenario(f"build/{size}", "s", "lower", bar=1).compare(seconds, [3.0])
    yield Scenario(f"build-memory/{size}", "MiB", "lower", bar=1).compare(mib, [200.0])


def _build_here(name: str, size: int, pipe: "Connection[tuple[float, float], object]") -> None:
    case = next(each for each in CASES if each.name == name)
    text = _text(case, size)
    gc.collect()
    before = pss_bytes(os.getpid())
    begun = time.thread_time()
    snapshot = Snapshot.build(text, None, _options(case))
    seconds = time.thread_time() - begun
    del text
    gc.collect()
    mib = (pss_bytes(os.getpid()) - before) / _MIB
    assert snapshot.rule_count == size
    pipe.send((seconds, mib))


def _swap(size: int) -> Result:
    """The longest gap of a loop that answers while its process takes up another policy.

    As a front does it: read, built aside, swapped, the old one taken apart, collections included.
    Against the same load without a swap; at most 10 ms more is promised. The median of three.
    """
    case = next(each for each in CASES if each.name == "mesh")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(runtime=Runtime(state_dir=folder, runtime_dir=folder))
        pairs = [
            (
                asyncio.run(_gap_ms(settings, case, size, is_swapped=False)),
                asyncio.run(_gap_ms(settings, case, size, is_swapped=True)),
            )
            for _ in range(3)
        ]
    quiet, swapped = zip(*pairs, strict=True)
    promised = [ms + 10 for ms in quiet]
    return Scenario(f"swap/{size}", "ms", "lower", bar=1).compare(swapped, promised)


async def _gap_ms(settings: Settings, case: Case, size: int, *, is_swapped: bool) -> float:
    """Answer in a loop, with a pause between turns, and give the longest time a turn took."""
    _publish(settings, case, size, "a")
    service = check_service(settings)
    follower = PolicyFollower(settings, service)
    await follower.start(120)
    following = asyncio.create_task(follower.follow())
    if is_swapped:
        context = multiprocessing.get_context("spawn")
        # In another process, as control is one.
        context.Process(target=_publish, args=(settings, case.name, size, "b")).start()
    longest_s = 0.0
    # The build, the swap and the release; then as long again, for what comes after.
    until_s = time.perf_counter() + (20 if is_swapped else 5)
    last_s = time.perf_counter()
    while last_s < until_s:
        for _ in range(10):
            service.answer(b"", 1)
        await asyncio.sleep(0.0003)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    following.cancel()
    assert follower.state.digest == ("b" if is_swapped else "a") * 64
    return longest_s * 1000


def _publish(settings: Settings, case: Case | str, size: int, digit: str) -> None:
    found = case if isinstance(case, Case) else next(each for each in CASES if each.name == case)
    publish(
        settings.runtime.state_dir,
        Publication(_text(found, size), {}, digit * 64, 1, "benchmark", size),
    )


def main() -> int:
    """Run as a program."""
    assert threading.active_count() == 1
    return run(__doc__ or "", measure)


if __name__ == "__main__":
    sys.exit(main())
