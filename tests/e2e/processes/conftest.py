"""Instances of the scenarios' own, each in its place, none left behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support.instance import Instance, Place

POLICY = {"policy.csv": "p, *, *, GET, /public/**, allow\np, *, *, GET, /public/not/**, deny\n"}

NewPlace = Callable[..., Place]


@pytest.fixture(scope="session")
def new_place(new_folder: Callable[[], Path]) -> NewPlace:
    """Give a maker of places with a small policy."""

    def make(
        settings: Mapping[str, object] | None = None, policy: Mapping[str, str] = POLICY
    ) -> Place:
        return Place(new_folder(), policy, settings)

    return make


@pytest.fixture
def run() -> Iterator[Callable[..., Instance]]:
    """Give what starts an instance in a place; the test's end stops it."""
    with ExitStack() as running:

        def start(place: Place, environ: Mapping[str, str] | None = None) -> Instance:
            return running.enter_context(place.start(environ=environ))

        yield start
