"""The policy store: making a revision of 10,000 rules, and how soon every front decides by it.

README.md beside this file says how it is measured.
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, Text, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from authz.policy.csv_rows import parse_csv
from authz.policy.mesh import mesh_model
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from authz.revisions import AuditEntry, Draft, RevisionStore
from benchmarks import policies
from benchmarks.h2load import LoadError, quantile
from benchmarks.harness import Options, Result, Scenario, run
from benchmarks.servers import Service, service
from deploy.demo.processes import free_ports
from meshwarden import plugins, status
from meshwarden.follower import engine_options
from meshwarden.settings import Runtime, Settings, Store
from tests.servers.postgresql import postgresql

__all__ = ["main", "measure"]

_RULES = 10_000
_STEP_BAR = 0.3
_WHOLE_BAR_S = 1.5
_EVERYWHERE_BAR_MS = 1000.0
_P99 = 0.99
_POLL_S = 0.002
_DATABASES = ("sqlite", "postgresql")
_STREAM = "policy"
# As others keep Casbin's rules: a row for each.
_TABLE = Table(
    "benchmark_rule",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("ptype", Text),
    *(Column(f"v{index}", Text) for index in range(7)),
)


@dataclass(frozen=True, slots=True)
class _Effort:
    """How often is measured."""

    rounds: int
    applies: int
    commits: int


_FULL = _Effort(rounds=9, applies=5, commits=100)
_QUICK = _Effort(rounds=3, applies=1, commits=5)


def _step(database: str) -> Scenario:
    return Scenario(f"apply/{_RULES}/{database}", "ms", "lower", bar=_STEP_BAR)


def _whole(database: str) -> Scenario:
    bar = 1 if database == "sqlite" else None
    return Scenario(f"apply-whole/{_RULES}/{database}", "s", "lower", bar=bar)


def _spread(database: str) -> Scenario:
    return Scenario(f"everywhere/{_RULES}/{database}", "ms p99", "lower", bar=1)


def measure(options: Options) -> Iterator[Result]:
    """Measure both databases, where PostgreSQL is installed.

    Raises:
        DemoError: A server does not start.
        LoadError: A revision is not in force in time.
    """
    effort = _QUICK if options.quick else _FULL
    for database in _DATABASES:
        wanted = (_step(database), _whole(database), _spread(database))
        if not options.wants(*(each.name for each in wanted)):
            continue
        if database == "postgresql" and shutil.which("pg_ctlcluster") is None:
            print("no PostgreSQL here; Debian has it in postgresql", file=sys.stderr)
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mwb-")))
            url = ""
            if database == "postgresql":
                url = stack.enter_context(postgresql(free_ports(1)[0])).url
            if options.wants(wanted[0].name):
                yield asyncio.run(_measure_step(wanted[0], effort, url, folder))
            if options.wants(wanted[1].name, wanted[2].name):
                # Two fronts: a policy is in force when the last of them decides by it. They and
                # control have both cores, since nothing is asked meanwhile.
                ours = stack.enter_context(
                    service(folder / "s", store=url, fronts=2, is_pinned=False)
                )
                if options.wants(wanted[1].name):
                    yield _measure_whole(wanted[1], effort, ours)
                if options.wants(wanted[2].name):
                    yield asyncio.run(_measure_spread(wanted[2], effort, ours, url))


def _draft(number: int) -> Draft:
    """A policy of 10,000 rules that differs from that of every other number."""
    rows = [*_rows(), Row("p", ("*", "*", "GET", f"/benchmark/{number}", "allow", ""), "last.csv")]
    text = PolicyText(mesh_model(), tuple(rows))
    digest = Snapshot.build(text, None, engine_options(Settings())).digest
    return Draft(text, digest, "benchmark", f"number {number}", "benchmark")


def _rows() -> list[Row]:
    rows, faults = parse_csv(policies.shop(_RULES - 1), "policy.csv")
    assert not faults
    return list(rows)


async def _timed_ms(work: Awaitable[None]) -> float:
    """Give how long something takes, in ms."""
    began_s = time.perf_counter()
    await work
    return (time.perf_counter() - began_s) * 1000


async def _measure_step(scenario: Scenario, effort: _Effort, url: str, folder: Path) -> Result:
    """Compare a commit with what keeps a row for each rule, in one database, in turns."""
    settings = Settings(runtime=Runtime(state_dir=folder), store=Store(url=url))
    store = plugins.revision_store(settings)
    engine = _engine(url, folder)
    # One set of keys for all, as executemany wants it.
    names = [column.name for column in _TABLE.columns][1:]
    values = [dict(zip_longest(names, (row.ptype, *row.values))) for row in _draft(0).text.rows]

    async def rows_in_a_table() -> None:
        async with engine.begin() as connection:
            await connection.execute(_TABLE.insert(), values)

    mine: list[float] = []
    theirs: list[float] = []
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_TABLE.metadata.create_all)
        # The first of each is thrown away: it makes tables, connections and caches.
        for number in range(effort.rounds + 1):
            draft = await asyncio.to_thread(_draft, number + 1)
            mine.append(await _timed_ms(_commit(store, number, draft)))
            theirs.append(await _timed_ms(rows_in_a_table()))
    finally:
        await store.close()
        await engine.dispose()
    return scenario.compare(mine[1:], theirs[1:])


async def _commit(store: RevisionStore, parent: int, draft: Draft) -> None:
    entry = AuditEntry(time.time_ns(), "benchmark", "local", "policy.apply", "done")
    await store.commit(_STREAM, parent, draft, entry)


def _engine(url: str, folder: Path) -> AsyncEngine:
    """SQLAlchemy by the drivers that the store takes, as durable as the store is."""
    if url:
        return create_async_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'baseline.db'}")

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _measure_whole(scenario: Scenario, effort: _Effort, ours: Service) -> Result:
    """Time the command as its user waits for it: read, send, check, keep, put in force, answer."""
    command = [sys.executable, "-m", "meshwarden", "policy", "apply", str(ours.folder / "policy")]
    command += ["--config", str(ours.folder / "meshwarden.toml"), "-m", "benchmark", "-o", "json"]
    took_s: list[float] = []
    for number in range(effort.applies + 1):
        rule = f"p, *, *, GET, /applied/{number}, allow\n"
        text = policies.shop(_RULES - 1) + rule
        (ours.folder / "policy" / "policy.csv").write_text(text)
        began_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environ())
        took_s.append(time.perf_counter() - began_s)
        if done.returncode:
            raise LoadError(f"policy apply: {done.stderr}")
        # Nobody applies the next one while fronts still build the last.
        asyncio.run(_everywhere(ours, json.loads(done.stdout)["digest"]))
    return scenario.compare(took_s[1:], [_WHOLE_BAR_S])


def _environ() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("MESHWARDEN_")}


async def _measure_spread(scenario: Scenario, effort: _Effort, ours: Service, url: str) -> Result:
    """Commit beside the service, as another replica does, and wait for all of its fronts."""
    settings = Settings(runtime=Runtime(state_dir=ours.folder / "state"), store=Store(url=url))
    store = plugins.revision_store(settings)
    took_ms: list[float] = []
    try:
        for number in range(effort.commits + 1):
            draft = await asyncio.to_thread(_draft, number)
            head = await store.head(_STREAM)
            await _commit(store, head.number if head else 0, draft)
            took_ms.append(await _timed_ms(_everywhere(ours, draft.digest)))
    finally:
        await store.close()
    print(f"{scenario.name}: median {statistics.median(took_ms[1:]):.0f} ms", file=sys.stderr)
    return scenario.compare([quantile(took_ms[1:], _P99)], [_EVERYWHERE_BAR_MS])


async def _everywhere(ours: Service, digest: str) -> None:
    """Wait until every front says that it decides by this policy: it does before it says so."""
    async with asyncio.timeout(30):
        while True:
            processes = status.read_all(ours.folder / "run")
            if all(each.digest == digest for each in processes if each.kind == "front"):
                return
            await asyncio.sleep(_POLL_S)


def main() -> int:
    """Run as a program; give the exit code."""
    return run(__doc__.splitlines()[0], measure)


if __name__ == "__main__":
    sys.exit(main())
