"""What every bad input is asked."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.instance import Instance, Place
from tests.e2e.support.verdict import allows

GOOD = "p, *, *, GET, /good, allow\n"
NEXT = GOOD + "p, *, *, GET, /next, allow\n"


class Witness:
    """An instance that decides by a good policy, and what must hold while a bad one is offered."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.place: Place = instance.place

    @property
    def errors(self) -> list[str]:
        """What `meshwarden status` says against the newest policy."""
        return list(self.instance.status()["policy"]["errors"])

    def refuses(self, said: str) -> None:
        """Load, and see the last good policy stay in force and the reason told; nothing is left.

        Args:
            said: Part of what is told by the command and in the status.
        """
        before = self.files()
        done = self.place.command("reload")
        assert done.returncode == 2, done.stdout
        assert said in done.stderr, done.stderr
        assert any(said in error for error in self.errors), self.errors
        assert allows(self.place.port, "/good")
        assert not allows(self.place.port, "/next")
        assert self.files() == before

    def recovers(self) -> None:
        """See a good policy come into force, without a word."""
        self.instance.wait_for(lambda: allows(self.place.port, "/next"))
        self.instance.wait_for(lambda: not self.errors)

    def files(self) -> dict[str, bytes]:
        """What is in force, on disk: its copy, what is remembered of it, and half-written files."""
        return {
            path.name: path.read_bytes()
            for path in self.place.state_dir.iterdir()
            if path.name in {"policy.json", "bundle.json"} or path.name.startswith(".")
        }


@pytest.fixture(scope="session")
def new_place(new_folder: Callable[[], Path]) -> Callable[..., Place]:
    """Give a maker of places with a good policy."""

    def make(**settings: object) -> Place:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        return Place(new_folder(), {"policy.csv": GOOD}, dotted)

    return make


@pytest.fixture
def start() -> Iterator[Callable[[Place], Witness]]:
    """Give what starts an instance; the test's end stops it."""
    running: list[Instance] = []

    def begin(place: Place) -> Witness:
        instance = place.start()
        running.append(instance)
        return Witness(instance.wait_ready())

    yield begin
    for instance in running:
        instance.stop()
