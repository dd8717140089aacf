"""The body that a denied caller gets, in each kind that the settings know."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.e2e.support.clients import call, tls_channel
from tests.e2e.support.mesh import Identities
from tests.e2e.support.service import Service
from tests.e2e.support.sidecar import Inbound, Sidecar
from tests.e2e.support.upstream import Upstream

KINDS = ("json", "text", "none")
POLICY = "p, mesh.example/ns/shop/sa/web, catalog, *, /**, allow\n"
every_kind = pytest.mark.parametrize("kind", KINDS)
# A caller without a certificate, whom a rule would allow if he had one; one whom no rule allows.
both_denials = pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("batch", 403)])
CODES = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}


@pytest.fixture(scope="module")
def sidecar(
    new_folder: Callable[[], Path], identities: Identities, upstream: Upstream
) -> Iterator[Sidecar]:
    """Run a service for each kind of body, and a sidecar with a listener for each service."""
    with ExitStack() as running:
        services = {
            kind: running.enter_context(
                Service(new_folder(), {"policy.csv": POLICY}, {"check.denied.body": kind})
            )
            for kind in KINDS
        }
        inbounds = [Inbound(kind, service.port) for kind, service in services.items()]
        for service in services.values():
            service.wait_ready()
        started = running.enter_context(
            Sidecar(new_folder(), identities.authority, identities.catalog, upstream, inbounds)
        )
        started.wait_ready()
        yield started


@every_kind
@both_denials
def test_a_denied_caller_gets_the_body_that_the_settings_name(
    sidecar: Sidecar,
    identities: Identities,
    kind: str,
    who: str,
    status: int,
) -> None:
    """Whose type its header names; a decision's id is all that it says."""
    credential = identities.batch if who == "batch" else None
    answer = sidecar.send(kind, "GET", "/items/1", credential=credential)
    assert answer.status == status
    said = sidecar.log_of(answer.request_id)["meshwarden"]
    words = "credential required" if status == 401 else "access denied"
    if kind == "json":
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.body) == {"error": words, "decision_id": said["id"]}
    elif kind == "text":
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body.decode() == f"{words}; decision {said['id']}\n"
    else:
        assert answer.body == b""


@every_kind
@both_denials
def test_a_denied_grpc_caller_gets_a_status_and_one_line(
    sidecar: Sidecar,
    identities: Identities,
    kind: str,
    who: str,
    status: int,
) -> None:
    """Envoy makes a grpc-status of the HTTP status, and a grpc-message of the body."""
    credential = identities.batch if who == "batch" else None
    with (
        tls_channel(sidecar.port(kind), identities.authority, credential) as channel,
        pytest.raises(grpc.RpcError) as denied,
    ):
        call(channel, "/shop.Catalog/Get")
    assert denied.value.code() is CODES[status]
    details = denied.value.details() or ""
    words = "credential required" if status == 401 else "access denied"
    assert details.startswith(words) or kind == "none"
    assert "{" not in details
