"""Folders with short paths: the kernel limits those of sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Give a folder of the test's own."""
    del request
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        yield Path(name)
