"""A service with TLS from files that asks for certificates, beside the shared plain one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.mesh import Identities
from tests.e2e.support.service import Service


@pytest.fixture(scope="package")
def tls_service(new_folder: Callable[[], Path], identities: Identities) -> Iterator[Service]:
    """Run it; a client may come without a certificate."""
    policy = {"policy.csv": "p, *, *, GET, /public/**, allow\n"}
    settings = {
        "listen.tls.certificate": str(identities.catalog.certificate),
        "listen.tls.key": str(identities.catalog.key),
        "listen.tls.client_ca": str(identities.authority),
    }
    with Service(new_folder(), policy, settings) as running:
        running.wait_ready()
        yield running
