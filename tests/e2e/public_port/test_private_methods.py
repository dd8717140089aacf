"""What isn't public can't be called through the public port, whoever asks and however.

The services are read off the definitions in protos/meshwarden/v1, so one that is added there is
covered without a word here, and private until the front's list names it.
"""

import importlib
import pkgutil
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor

import protos.meshwarden.v1
from meshwarden.front.bootstrap import PUBLIC_SERVICES
from protos.meshwarden.v1.admin_pb2 import StatusReply
from tests.e2e.support.clients import CHECK, call, channel_to, send, tls_channel
from tests.e2e.support.mesh import Identities
from tests.e2e.support.reflection import services
from tests.e2e.support.service import Service


def definitions() -> Iterator[FileDescriptor]:
    """Give every file of our own protocol."""
    package = protos.meshwarden.v1
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR


PRIVATE = [
    f"/{service.full_name}/{method.name}"
    for file in definitions()
    for service in file.services_by_name.values()
    if service.full_name not in PUBLIC_SERVICES
    for method in service.methods
]
# Ways to write the same path that some router or other would take for it.
SPELLINGS = [
    "//meshwarden.v1.Admin/Status",
    "/meshwarden.v1.Identity/../meshwarden.v1.Admin/Status",
    "/meshwarden.v1.Identity/%2e%2e/meshwarden.v1.Admin/Status",
    "/meshwarden.v1.Identity/meshwarden.v1.Admin/Status",
    "/meshwarden.v1.%41dmin/Status",
    "/Meshwarden.v1.Admin/Status",
    "/meshwarden.v1.Admin;/Status",
    "/envoy.service.auth.v3.Authorization/../../meshwarden.v1.Admin/Status",
    "/grpc.health.v1.Health/../../meshwarden.v1.Admin/Status",
    "/healthz/../meshwarden.v1.Admin/Status",
]


def outcome_of(channel: grpc.Channel, method: str) -> grpc.StatusCode:
    """Call a method with an empty message; give the status."""
    try:
        call(channel, method)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_there_are_private_methods() -> None:
    """Or the tests below would be empty."""
    assert {"/meshwarden.v1.Admin/Reload", "/meshwarden.v1.Internal/Report"} <= {*PRIVATE}


def test_the_owner_reaches_them_by_a_socket(service: Service) -> None:
    """So it is the public port that refuses, not a service that isn't there."""
    sockets = {"Admin": "admin.sock", "Internal": "internal.sock"}
    for method in ("/meshwarden.v1.Admin/Status", "/meshwarden.v1.Internal/Report"):
        name = sockets[method.split("/")[1].rpartition(".")[2]]
        with grpc.insecure_channel(f"unix:{service.folder}/run/{name}") as channel:
            assert outcome_of(channel, method) is grpc.StatusCode.OK
    with grpc.insecure_channel(f"unix:{service.folder}/run/admin.sock") as channel:
        status = StatusReply.FromString(call(channel, "/meshwarden.v1.Admin/Status"))
    assert status.ready


@pytest.mark.parametrize("method", [*PRIVATE, *SPELLINGS])
def test_no_private_method_can_be_called_over_plain_text(service: Service, method: str) -> None:
    """A gRPC client reads it as a method that isn't there."""
    with channel_to(service.port) as channel:
        assert outcome_of(channel, method) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", [*PRIVATE, *SPELLINGS])
def test_no_private_method_can_be_called_over_tls(
    tls_service: Service, identities: Identities, method: str
) -> None:
    """A certificate of ours is no pass either."""
    with tls_channel(tls_service.port, identities.authority, identities.web) as channel:
        assert outcome_of(channel, method) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", PRIVATE)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/grpc"},
        {"content-type": "application/grpc-web"},
        {"content-type": "application/json"},
        {"x-envoy-original-path": "/meshwarden.v1.Identity/WhoAmI"},
        {"x-http-method-override": "POST", "upgrade": "h2c", "connection": "upgrade"},
    ],
    ids=lambda headers: next(iter(headers.values())),
)
def test_no_private_method_can_be_called_in_http_1(
    service: Service, method: str, headers: dict[str, str]
) -> None:
    """404, which is told to gRPC as UNIMPLEMENTED, whatever a client says of its call."""
    answer = send(service.port, "POST", method, headers=headers, body=b"\0" * 5)
    assert answer.status in {403, 404} or answer.headers["grpc-status"] == "12"
    assert answer.body == b""


def test_reflection_tells_of_public_services_only(service: Service) -> None:
    """Of the list that the front has, Check and health; what isn't reachable isn't named."""
    with channel_to(service.port) as channel:
        assert services(channel) == {
            CHECK.split("/")[1],
            "grpc.health.v1.Health",
            *PUBLIC_SERVICES,
        }
