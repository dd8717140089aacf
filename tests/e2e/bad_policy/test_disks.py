"""Disks that are full, stores that are read-only or of a newer program: real ones."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from deploy.demo.processes import free_ports
from tests.e2e.bad_policy.conftest import GOOD, NEXT, Witness
from tests.e2e.support.instance import Place
from tests.e2e.support.verdict import allows
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

DISK_BYTES = 16 * 1024 * 1024
# As root, a file's mode is nothing unless this right is taken away.
OBEY_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.fixture
def small_disk(new_place: Callable[..., Place]) -> Iterator[Callable[..., Place]]:
    """Give a maker of places whose state folder is a small disk of its own."""
    mounted: list[Path] = []

    def make(**settings: object) -> Place:
        place = new_place(**settings)
        place.state_dir.mkdir(mode=0o700)
        size = f"size={DISK_BYTES},mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place.state_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk can be made here: {done.stderr.strip()}")
        mounted.append(place.state_dir)
        return place

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take the last byte of a disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


def apply(witness: Witness, text: str) -> subprocess.CompletedProcess[str]:
    """Make a folder's policy the next revision."""
    folder = witness.place.folder / "next"
    folder.mkdir(exist_ok=True)
    (folder / "policy.csv").write_text(text)
    return witness.place.command("policy", "apply", str(folder))


def test_a_full_disk_keeps_the_last_good_policy(
    small_disk: Callable[..., Place], start: Callable[[Place], Witness]
) -> None:
    """What can't be kept is not put in force; room on the disk is all that is needed."""
    witness = start(small_disk())
    filler = fill(witness.place.state_dir)
    # Larger than the rest of a block that the old copy has.
    comment = "".join(f"p, *, *, GET, /more/{number}, allow\n" for number in range(5000))
    (witness.place.policy / "policy.csv").write_text(NEXT + comment)
    witness.refuses("No space left on device")
    filler.unlink()
    witness.recovers()


def test_a_full_disk_takes_no_revision(
    small_disk: Callable[..., Place], start: Callable[[Place], Witness]
) -> None:
    """The revision before it stays, whole; the next one is made as if nothing had been."""
    witness = start(small_disk(policy__source="store"))
    assert apply(witness, GOOD).returncode == 0
    witness.instance.wait_for(lambda: allows(witness.place.port, "/good"))
    before = witness.files()
    filler = fill(witness.place.state_dir)
    more = "".join(f"p, *, *, GET, /more/{os.urandom(20).hex()}, allow\n" for _ in range(5000))
    done = apply(witness, NEXT + more)
    assert done.returncode == 2, done.stdout
    assert "full" in done.stderr, done.stderr
    assert allows(witness.place.port, "/good")
    assert not allows(witness.place.port, "/next")
    assert witness.files() == before
    filler.unlink()
    done = apply(witness, NEXT)
    assert "revision 2 is in force" in done.stdout, done.stderr
    witness.recovers()


def test_a_revision_of_a_newer_program_is_not_guessed_at(
    new_place: Callable[..., Place], start: Callable[[Place], Witness]
) -> None:
    """What is in force stays; a revision that can be read replaces it."""
    witness = start(new_place(policy__source="store"))
    apply(witness, GOOD)
    witness.instance.wait_for(lambda: allows(witness.place.port, "/good"))
    with closing(sqlite3.connect(witness.place.state_dir / "meshwarden.db")) as database, database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(meshwarden_revision)")]
        taken = [
            {"number": "2", "parent": "1", "format": "99", "body": "x'00'"}.get(name, name)
            for name in columns
        ]
        database.execute(
            f"INSERT INTO meshwarden_revision ({', '.join(columns)}) "  # noqa: S608 - our own columns
            f"SELECT {', '.join(taken)} FROM meshwarden_revision "
            "WHERE number = 1"
        )
    said = "revision 2 of 'policy' is of format 99, written by a newer version"
    witness.instance.wait_for(lambda: any(said in error for error in witness.errors))
    witness.refuses(said)
    done = apply(witness, NEXT)
    assert "revision 3 is in force" in done.stdout, done.stderr
    witness.recovers()


def test_tables_of_a_newer_program_are_left_alone(
    new_place: Callable[..., Place], start: Callable[[Place], Witness]
) -> None:
    """A start serves the copy on disk and says why."""
    place = new_place(policy__source="store")
    first = start(place)
    apply(first, GOOD)
    first.instance.wait_for(lambda: allows(place.port, "/good"))
    first.instance.stop()
    with closing(sqlite3.connect(place.state_dir / "meshwarden.db")) as database, database:
        database.execute("UPDATE meshwarden_schema SET version_num = 'r999'")
    witness = start(place)
    said = "the database's tables are of step 'r999', which a newer version made"
    witness.instance.wait_for(lambda: any(said in error for error in witness.errors))
    assert witness.instance.status()["policy"]["restored"]
    assert allows(place.port, "/good")
    done = apply(witness, NEXT)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes root's rights away")
def test_a_database_that_is_read_only_keeps_the_last_good_policy(
    new_place: Callable[..., Place], start: Callable[[Place], Witness]
) -> None:
    """A start serves the copy on disk; nothing is applied until it can be written again."""
    place = new_place(policy__source="store")
    place.prefix = OBEY_MODES if os.geteuid() == 0 else ()
    first = start(place)
    apply(first, GOOD)
    first.instance.wait_for(lambda: allows(place.port, "/good"))
    first.instance.stop()
    database = place.state_dir / "meshwarden.db"
    database.chmod(0o444)
    witness = start(place)
    assert allows(place.port, "/good")
    done = apply(witness, NEXT)
    assert done.returncode == 2, done.stdout
    assert "readonly database" in done.stderr, done.stderr
    assert allows(place.port, "/good")
    assert not allows(place.port, "/next")
    database.chmod(0o644)
    # The connection that is open stays read-only; the next one isn't.
    witness.instance.wait_for(lambda: apply(witness, NEXT).returncode == 0)
    witness.recovers()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_a_postgresql_that_is_read_only_keeps_the_last_good_policy(
    new_place: Callable[..., Place], start: Callable[[Place], Witness], server: Postgresql
) -> None:
    """As a standby is after a failover: it is read from, and takes no revision."""
    witness = start(new_place(policy__source="store", store__url=server.url))
    assert apply(witness, GOOD).returncode == 0
    witness.instance.wait_for(lambda: allows(witness.place.port, "/good"))

    def read_only(word: str) -> None:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER ROLE meshwarden SET default_transaction_read_only = {word}")
            # Sessions begun before know nothing of it.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'meshwarden' AND pid <> pg_backend_pid()"
            )

    read_only("on")
    done = apply(witness, NEXT)
    assert done.returncode == 2, done.stdout
    witness.instance.wait_for(lambda: "read-only transaction" in apply(witness, NEXT).stderr)
    assert allows(witness.place.port, "/good")
    assert not allows(witness.place.port, "/next")
    history = witness.place.command("policy", "history")
    assert history.returncode == 0, history.stderr
    read_only("off")
    witness.instance.wait_for(lambda: apply(witness, NEXT).returncode == 0)
    witness.recovers()
