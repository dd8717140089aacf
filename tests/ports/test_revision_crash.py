"""A writer that dies between two statements, and writers that all want the same number."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from authz.policy.rules import PolicyText, Row
from authz.revisions import AuditEntry, Draft, RevisionStore
from deploy.demo.processes import free_ports
from meshwarden import plugins
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

Result = TypeVar("Result")

# A process that kills itself, as the kernel's out-of-memory killer would, right behind one of the
# statements of a commit; "commit" is the moment before the transaction is made to last.
_DYING = """
import asyncio, os, signal, sys
from sqlalchemy import event
from tests.ports.test_revision_crash import draft, entry, opened

async def main(kind, where, moment):
    store = opened(kind, where)
    await store.head("policy")
    engine = store._transactions._engine.sync_engine
    def die(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)
    if moment == "commit":
        event.listen(engine, "commit", die)
    else:
        @event.listens_for(engine, "after_cursor_execute")
        def look(_connection, _cursor, statement, *_more):
            if statement.startswith(moment):
                die()
    await store.commit("policy", 1, draft("bob"), entry("bob"))

asyncio.run(main(*sys.argv[1:]))
"""

# A process that makes so many revisions, each upon the newest, and says who was in its way; it
# begins when it is told, so that all are at it at once.
_WRITING = """
import asyncio, sys
from authz.revisions import ConflictError, StoreUnavailableError
from tests.ports.test_revision_crash import draft, entry, opened

async def main(kind, where, name, count):
    store = opened(kind, where)
    await store.head("policy")
    print("ready", flush=True)
    sys.stdin.readline()
    made = 0
    while made < int(count):
        head = await store.head("policy")
        parent = head.number if head else 0
        try:
            revision = await store.commit("policy", parent, draft(name), entry(name))
        except ConflictError as error:
            print("lost", parent, error.other.number, error.other.author, str(error))
        except StoreUnavailableError as error:
            print("busy", error)
        else:
            made += 1
            print("made", parent, revision.number)
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL, started when the first test asks for it."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql", marks=pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
        ),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Kind of a store, and where it is; it holds no revision yet."""
    if request.param == "sqlite":
        return "sqlite", str(tmp_path / "store.db")
    running: Postgresql = request.getfixturevalue("server")
    run(_emptied(running.url))
    return "postgresql", running.url


async def _emptied(url: str) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - of this alone

    store: Any = opened("postgresql", url)
    async with store._transactions._engine.begin() as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        await connection.execute(text("CREATE SCHEMA public"))
    await store.close()


def opened(kind: str, where: str) -> RevisionStore:
    """The store that a process of the service would open."""
    adapter = plugins.load("revisions", kind)
    config = adapter.config(path=Path(where)) if kind == "sqlite" else adapter.config(url=where)
    store: RevisionStore = adapter.build(config)
    return store


def run(story: Awaitable[Result]) -> Result:
    """Run one story on a loop of its own."""

    async def within_time() -> Result:
        async with asyncio.timeout(60):
            return await story

    return asyncio.run(within_time())


def draft(author: str) -> Draft:
    """A policy of one rule."""
    text = PolicyText("model", (Row("p", (author,), "p.csv", 1),))
    return Draft(text, "d" * 64, author, f"by {author}", "folder", {}, 1, 0)


def entry(who: str) -> AuditEntry:
    """What the audit trail says of it."""
    return AuditEntry(7, who, "local", "policy.apply", "done")


def start(program: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run one of the programs above."""
    line = [sys.executable, "-c", program, *arguments]
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        line,
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "moment",
    ["INSERT INTO meshwarden_revision", "INSERT INTO meshwarden_audit", "NOTIFY", "commit"],
)
def test_a_crash_between_two_statements_leaves_the_old_revision(
    place: tuple[str, str], moment: str
) -> None:
    """Neither the revision nor its audit entry is there, and the next writer isn't in its way."""
    if moment == "NOTIFY" and place[0] == "sqlite":
        pytest.skip("SQLite's watchers poll: a commit has no such statement there")

    async def begin() -> None:
        store = opened(*place)
        await store.commit("policy", 0, draft("ann"), entry("ann"))
        await store.close()

    run(begin())
    dying = start(_DYING, *place, moment)
    _, said = dying.communicate(timeout=60)
    assert dying.returncode == -9, said

    async def look() -> None:
        store = opened(*place)
        revision, policy = await store.read("policy", 1)
        assert await store.head("policy") == revision
        assert policy == draft("ann")
        assert [each.who for each in await store.audit(9)] == ["ann"]
        made = await store.commit("policy", 1, draft("carol"), entry("carol"))
        assert made.number == 2
        await store.close()

    run(look())


def test_of_many_processes_exactly_one_wins_each_parent(place: tuple[str, str]) -> None:
    """Numbers have neither gaps nor doubles; who lost is told who won."""
    names, each_makes = ("ann", "bob", "carol", "dave"), 3
    several = {name: start(_WRITING, *place, name, str(each_makes)) for name in names}
    for process in several.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in several.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    winners: dict[int, str] = {}
    losses: list[tuple[str, list[str]]] = []
    for name, process in several.items():
        out, said = process.communicate(timeout=100)
        assert process.returncode == 0, said
        for line in out.splitlines():
            word, *values = line.split(maxsplit=4)
            if word == "made":
                parent = int(values[0])
                assert int(values[1]) == parent + 1
                assert parent not in winners
                winners[parent] = name
            elif word == "lost":
                losses.append((name, values))
    assert sorted(winners) == list(range(len(names) * each_makes))
    assert losses
    for name, (parent, number, author, said) in losses:
        assert int(number) > int(parent)
        assert author == winners[int(number) - 1]
        assert author != name or int(number) > int(parent) + 1
        assert f"revision {number} was made meanwhile by {author}: 'by {author}'" in said

    async def look() -> None:
        store = opened(*place)
        made = await store.history("policy", 99)
        assert [each.author for each in reversed(made)] == [winners[at] for at in sorted(winners)]
        assert len(await store.audit(99)) == len(made)
        await store.close()

    run(look())
