"""What every test may use.

A test that runs a program of a Debian package says so, and is skipped by name where it is missing:

    @pytest.mark.requires_debian_package("nghttp2-client", command="h2load")

`--install-packages` (as `make test` has it) installs all that is missing first, where we may. With
CI=true a test whose program is still missing fails: nobody would notice a skip there.
"""

import os
import shutil
from collections.abc import Iterable, Iterator

import pytest

from tools import debian

MARK = "requires_debian_package"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --install-packages."""
    parser.addoption(
        "--install-packages",
        action="store_true",
        help="install the Debian packages that the chosen tests need, where apt-get may run",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark beside the code that reads it."""
    config.addinivalue_line("markers", f"{MARK}(package, command): runs a program of that package")


def missing_packages(items: Iterable[pytest.Item]) -> Iterator[str]:
    """Yield the package of each mark whose command is not on PATH, in the order of the tests."""
    for item in items:
        for mark in item.iter_markers(MARK):
            if shutil.which(mark.kwargs["command"]) is None:
                yield mark.args[0]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is missing in one go, before any test's own time begins to run."""
    missing = list(dict.fromkeys(missing_packages(session.items)))
    if not missing or not session.config.getoption("--install-packages"):
        return
    if debian.may_install():
        fault = debian.install(missing)
        if fault:
            print(f"\n{fault}")  # noqa: T201 - beside the skips that follow from it


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or in CI fail, a test whose package is missing."""
    missing = list(missing_packages([item]))
    if not missing:
        return
    reason = f"needs a program that is not here: {debian.command_for(missing)}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
