"""What is started once for all scenarios: an authority, upstreams, one service with one sidecar.

A scenario that needs other settings has a conftest.py of its own.
"""

import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.support import listeners
from tests.e2e.support.mesh import Identities, Mesh, make_identities
from tests.e2e.support.service import Service
from tests.e2e.support.sidecar import Sidecar
from tests.e2e.support.tokens import Issuer
from tests.e2e.support.upstream import Upstream, serve

HERE = Path(__file__).parent

SETTINGS: Mapping[str, object] = {
    "check.allowed.request_headers": {"x-caller": "{principal}", "x-decision": "{decision_id}"},
    "check.allowed.remove_request_headers": ["x-secret"],
    "check.allowed.response_headers": {"x-verdict": "{verdict}"},
    "check.denied.response_headers": {"x-verdict": "{verdict}"},
}


def pytest_configure() -> None:
    """End as on Ctrl-C when somebody ends the run: what was started is stopped then, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder: it starts real servers."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("e2e")


@pytest.fixture(scope="session")
def new_folder() -> Iterator[Callable[[], Path]]:
    """Give a maker of folders with short paths: the kernel limits those of sockets."""
    with tempfile.TemporaryDirectory(prefix="mw-") as name:
        numbers = iter(range(1000))

        def make() -> Path:
            folder = Path(name) / str(next(numbers))
            folder.mkdir()
            return folder

        yield make


@pytest.fixture(scope="session")
def identities(new_folder: Callable[[], Path]) -> Identities:
    """Make the certificates of callers and sidecars."""
    return make_identities(new_folder())


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """Serve what stands behind every sidecar."""
    with serve() as ports:
        yield ports


@pytest.fixture(scope="session")
def service(new_folder: Callable[[], Path]) -> Iterator[Service]:
    """Run the service that most scenarios ask: the mesh model with the rules of policy/."""
    with Service(new_folder(), HERE / "policy", SETTINGS) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """Be somebody who signs end users' tokens."""
    return Issuer()


@pytest.fixture(scope="session")
def mesh(
    new_folder: Callable[[], Path],
    service: Service,
    identities: Identities,
    upstream: Upstream,
    issuer: Issuer,
) -> Iterator[Mesh]:
    """Run the sidecar that asks the shared service, with its listeners."""
    with Sidecar(
        new_folder(),
        identities.authority,
        identities.catalog,
        upstream,
        listeners.of_the_shared_sidecar(service.port, issuer),
    ) as sidecar:
        sidecar.wait_ready()
        yield Mesh(service, sidecar, identities)
