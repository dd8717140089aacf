"""A denial is a denial and a fault is a fault: both failure modes of a real Envoy.

With `failure_mode_allow: false` a fault is answered by `status_on_error`, 503; with `true` the
request goes through. A denial by policy is obeyed in both.
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.clients import Answer
from tests.e2e.support.front import BareFront
from tests.e2e.support.mesh import Identities
from tests.e2e.support.sidecar import Inbound, Sidecar
from tests.e2e.support.upstream import Upstream
from tests.fakes.front import FAULTS, SLOW_S

MODES = ("closed", "open")
# Nobody listens; a bug; ...; an answer that says itself that it is a fault; no answer in time.
EVERY_FAULT = ("down", "error-response", *FAULTS)


def inbound(mode: str, fault: str, check_port: int) -> Inbound:
    """A listener of one mode, whose front has one fault."""
    timeout_s = SLOW_S / 4 if fault == "slow" else 10
    cluster = f"meshwarden-{check_port}"
    return Inbound(
        f"{mode}-{fault}",
        check_port,
        {
            "failure_mode_allow": mode == "open",
            "grpc_service": {
                "envoy_grpc": {"cluster_name": cluster},
                "timeout": f"{timeout_s}s",
            },
        },
        extensions={"service": "catalog", "fault": fault},
    )


@pytest.fixture(scope="module")
def sidecar(
    new_folder: Callable[[], Path], identities: Identities, upstream: Upstream
) -> Iterator[Sidecar]:
    """Run a sidecar with a listener for each mode and fault, and the front that has them."""
    with (
        socket.socket() as nobody,
        BareFront(new_folder(), "tests.fakes.front:app") as front,
    ):
        # Bound, so that nobody else takes it, and never listening.
        nobody.bind(("127.0.0.1", 0))
        ports = {"down": nobody.getsockname()[1]}
        inbounds = [
            inbound(mode, fault, ports.get(fault, front.port))
            for mode in MODES
            for fault in ("none", *EVERY_FAULT)
        ]
        front.wait_ready()
        with Sidecar(
            new_folder(), identities.authority, identities.catalog, upstream, inbounds
        ) as running:
            running.wait_ready()
            yield running


def ask(sidecar: Sidecar, identities: Identities, listener: str, path: str) -> Answer:
    """Ask as the workload web."""
    return sidecar.send(listener, "GET", path, credential=identities.web)


@pytest.mark.parametrize("mode", MODES)
def test_a_denial_stays_a_denial_in_both_modes(
    sidecar: Sidecar, identities: Identities, mode: str
) -> None:
    """It is a verdict, and counted as no error."""
    denied = ask(sidecar, identities, f"{mode}-none", "/private")
    assert denied.status == 403
    assert sidecar.log_of(denied.request_id)["details"] == "ext_authz_denied"
    assert ask(sidecar, identities, f"{mode}-none", "/public/a").status == 200
    assert sidecar.errors(f"{mode}-none") == 0


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_a_fault_closes_where_the_sidecar_fails_closed(
    sidecar: Sidecar, identities: Identities, fault: str
) -> None:
    """503, not 403: nobody was denied, nobody was served, and nothing reached the upstream."""
    answer = ask(sidecar, identities, f"closed-{fault}", "/public/a")
    assert answer.status == 503
    assert "x-upstream" not in answer.headers
    assert sidecar.log_of(answer.request_id)["details"] == "ext_authz_error"
    assert sidecar.errors(f"closed-{fault}") > 0


@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_a_fault_opens_where_the_sidecar_fails_open(
    sidecar: Sidecar, identities: Identities, fault: str
) -> None:
    """As its operator chose; the count of errors shows it."""
    answer = ask(sidecar, identities, f"open-{fault}", "/private")
    assert answer.status == 200
    assert answer.seen["path"] == "/private"
    assert sidecar.errors(f"open-{fault}") > 0


def test_the_front_goes_on_after_every_fault(sidecar: Sidecar, identities: Identities) -> None:
    """None of them took the process or the next request with it."""
    for fault in FAULTS:
        ask(sidecar, identities, f"closed-{fault}", "/public/a")
        assert ask(sidecar, identities, "closed-none", "/public/a").status == 200
