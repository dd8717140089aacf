"""What every test may use.

A test that runs a program of a Debian package says so, and is skipped by name where it is missing:

    @pytest.mark.requires_debian_package("nghttp2-client", command="h2load")

`--install-packages` (as `make test` has it) installs all that is missing first, where we may. With
CI=true a test whose program is still missing fails: nobody would notice a skip there.
"""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tools import debian

MARK = "requires_debian_package"
_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --install-packages."""
    parser.addoption(
        "--install-packages",
        action="store_true",
        help="install the Debian packages that the chosen tests need, where apt-get may run",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the mark beside the code that reads it; keep the paths of workers short."""
    _leave_forks_alone()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun in a shell's background: what tests start would ignore the SIGINT that they send.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        # Theirs are deeper than those of a run by one process, and sockets want short paths.
        folder = tempfile.mkdtemp(prefix="mw-")
        config.option.basetemp = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.addinivalue_line("markers", f"{MARK}(package, command): runs a program of that package")


def _leave_forks_alone() -> None:
    """Have this process's gRPC do nothing at a fork.

    Else a child may abort between fork and exec: what gRPC does there touches what the fork took
    away. (The supervisor, which forks, runs no gRPC.)
    """
    os.environ[_FORK_SUPPORT] = "false"
    import grpc  # noqa: PLC0415 - it reads the variable here, and never again

    grpc.insecure_channel("unix:none").close()
    # Servers that tests start run as users' do.
    del os.environ[_FORK_SUPPORT]


def missing_packages(items: Iterable[pytest.Item]) -> Iterator[str]:
    """Yield the package of each mark whose command is not on PATH, in the order of the tests."""
    for item in items:
        for mark in item.iter_markers(MARK):
            if shutil.which(mark.kwargs["command"]) is None:
                yield mark.args[0]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is missing in one go, before any test's own time begins to run."""
    if not session.config.getoption("--install-packages"):
        return
    if not debian.may_install() or not list(missing_packages(session.items)):
        return
    # Workers that run tests beside each other take turns; the second finds nothing missing.
    with (Path(tempfile.gettempdir()) / "meshwarden-tests-packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = list(dict.fromkeys(missing_packages(session.items)))
        fault = debian.install(missing) if missing else ""
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
