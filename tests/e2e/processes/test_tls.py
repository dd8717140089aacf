"""The public port with a certificate from files: who may come in, and as whom."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from deploy.demo.certificates import Credential
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from protos.meshwarden.v1.identity_pb2 import WhoAmIReply
from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to, tls_channel
from tests.e2e.support.instance import Instance
from tests.e2e.support.mesh import Identities, make_identities
from tests.fakes.envoy import check_request

WHO_AM_I = "/meshwarden.v1.Identity/WhoAmI"


def settings(identities: Identities, *, required: bool) -> dict[str, object]:
    """Write the TLS section."""
    return {
        "listen.tls.certificate": str(identities.catalog.certificate),
        "listen.tls.key": str(identities.catalog.key),
        "listen.tls.client_ca": str(identities.authority),
        "listen.tls.require_client_certificate": required,
    }


@pytest.fixture(scope="module")
def asking(new_place: NewPlace, identities: Identities) -> Iterator[Instance]:
    """Run one that asks for a client certificate and does without."""
    with new_place(settings(identities, required=False)).start() as instance:
        yield instance.wait_ready()


def verdict(instance: Instance, authority: Identities, credential: Credential | None) -> int:
    """Ask Check over TLS; give the verdict's code."""
    with tls_channel(instance.place.port, authority.authority, credential) as channel:
        reply = call(channel, CHECK, check_request("/public/a").SerializeToString())
    return CheckResponse.FromString(reply).status.code


def test_a_client_without_a_certificate_is_served_as_nobody(
    asking: Instance, identities: Identities
) -> None:
    """Asked for is not insisted on."""
    assert verdict(asking, identities, None) == 0
    with tls_channel(asking.place.port, identities.authority, None) as channel:
        reply = WhoAmIReply.FromString(call(channel, WHO_AM_I))
    assert (reply.spiffe_id, reply.tls) == ("", True)


def test_a_client_with_a_certificate_is_known_by_it(
    asking: Instance, identities: Identities
) -> None:
    """By its one SPIFFE ID."""
    with tls_channel(asking.place.port, identities.authority, identities.web) as channel:
        reply = WhoAmIReply.FromString(call(channel, WHO_AM_I))
    assert reply.spiffe_id == "spiffe://mesh.example/ns/shop/sa/web"
    assert reply.principal == "mesh.example/ns/shop/sa/web"


def test_a_certificate_of_another_authority_ends_in_the_handshake(
    asking: Instance, identities: Identities, new_folder: Callable[[], Path]
) -> None:
    """Whoever shows one must show a good one."""
    stranger = make_identities(new_folder()).web
    with pytest.raises(grpc.RpcError) as caught:
        verdict(asking, identities, stranger)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_plain_text_gets_no_answer(asking: Instance) -> None:
    """There is one door."""
    with channel_to(asking.place.port) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, CHECK, check_request().SerializeToString())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_required_certificate_is_insisted_on(
    new_place: NewPlace, run: Callable[..., Instance], identities: Identities
) -> None:
    """Without one there is no handshake."""
    instance = run(new_place(settings(identities, required=True))).wait_ready()
    assert verdict(instance, identities, identities.web) == 0
    with pytest.raises(grpc.RpcError) as caught:
        verdict(instance, identities, None)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    instance.wait_for(lambda: "(TLS)" in instance.said())
