"""Who calls, across the hop from a front to control: the connection says it, and nothing else.

WhoAmI answers by what control believes, so it is the witness: a caller sends headers that claim
another identity, over plain text, over TLS without a certificate and with one.
"""

import datetime as dt
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest

from deploy.demo.certificates import Authority
from protos.meshwarden.v1.identity_pb2 import WhoAmIReply
from tests.e2e.support.clients import call, channel_to, send, tls_channel
from tests.e2e.support.mesh import Identities
from tests.e2e.support.service import Service

WHO_AM_I = "/meshwarden.v1.Identity/WhoAmI"
ADMIN = "spiffe://mesh.example/ns/shop/sa/admin"
WEB = "spiffe://mesh.example/ns/shop/sa/web"
FORGERIES = [
    [],
    [("x-forwarded-client-cert", f"URI={ADMIN}")],
    [("x-forwarded-client-cert", f"By=spiffe://x/y;Hash=00;URI={ADMIN}")],
    [("x-forwarded-client-cert", f"URI={ADMIN},URI={WEB}")],
    [("x-forwarded-client-cert", f"URI={ADMIN}"), ("x-forwarded-client-cert", f"URI={ADMIN}")],
    [("x-forwarded-for", "203.0.113.9")],
    [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "203.0.113.10, 203.0.113.11")],
    [("x-envoy-external-address", "203.0.113.9"), ("x-real-ip", "203.0.113.9")],
    [("forwarded", "for=203.0.113.9"), ("x-envoy-internal", "true")],
    [("x-meshwarden-source", "203.0.113.9"), ("x-meshwarden-tls", "TLSv1.3")],
    [("x-meshwarden-tls", ""), ("x-meshwarden-source", "")],
]
every_forgery = pytest.mark.parametrize(
    "headers", FORGERIES, ids=["+".join(name for name, _ in each) or "none" for each in FORGERIES]
)


def who_am_i(channel: grpc.Channel, headers: Sequence[tuple[str, str]]) -> WhoAmIReply:
    """Ask with these headers."""
    return WhoAmIReply.FromString(call(channel, WHO_AM_I, metadata=headers))


@every_forgery
def test_over_plain_text_a_caller_is_nobody(
    service: Service, headers: list[tuple[str, str]]
) -> None:
    """Whatever it claims; its address is the connection's."""
    with channel_to(service.port) as channel:
        reply = who_am_i(channel, headers)
    assert reply == WhoAmIReply(source_ip="127.0.0.1")


@every_forgery
def test_over_tls_without_a_certificate_a_caller_is_nobody(
    tls_service: Service, identities: Identities, headers: list[tuple[str, str]]
) -> None:
    """Only that it is TLS is known."""
    with tls_channel(tls_service.port, identities.authority, None) as channel:
        reply = who_am_i(channel, headers)
    assert reply == WhoAmIReply(source_ip="127.0.0.1", tls=True)


@every_forgery
def test_over_tls_with_a_certificate_a_caller_is_whom_it_names(
    tls_service: Service, identities: Identities, headers: list[tuple[str, str]]
) -> None:
    """And nobody else, though it put another one's name in front."""
    with tls_channel(tls_service.port, identities.authority, identities.web) as channel:
        reply = who_am_i(channel, headers)
    assert reply == WhoAmIReply(
        spiffe_id=WEB, principal=WEB.removeprefix("spiffe://"), source_ip="127.0.0.1", tls=True
    )


def test_a_certificate_of_another_authority_ends_in_the_handshake(
    tls_service: Service, identities: Identities, new_folder: Callable[[], Path]
) -> None:
    """Somebody with an authority of his own can name himself as he likes, but not here."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - certificates are checked by real clocks
    forged = Authority(new_folder() / "other", now).issue("admin", ADMIN)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        send(tls_service.port, path="/healthz", authority=identities.authority, credential=forged)


@pytest.mark.parametrize(
    "uri",
    [
        "https://mesh.example/ns/shop/sa/web",
        "spiffe://MESH.example/ns/shop/sa/web",
        "spiffe://mesh.example/ns/shop/../sa/web",
        "spiffe://mesh.example/ns/shop/sa/web%2Fx",
        "spiffe://mesh.example/ns/shop/sa/web;URI=spiffe://mesh.example/ns/shop/sa/admin",
        'spiffe://mesh.example/ns/shop/sa/web",URI=spiffe://mesh.example/ns/shop/sa/admin',
    ],
)
def test_a_certificate_without_a_valid_spiffe_id_gives_no_identity(
    tls_service: Service, identities: Identities, uri: str
) -> None:
    """Not even where its URI holds what would be a second one in our own header."""
    credential = identities.signer.issue("odd", uri)
    with tls_channel(tls_service.port, identities.authority, credential) as channel:
        reply = who_am_i(channel, [])
    assert reply == WhoAmIReply(source_ip="127.0.0.1", tls=True)


@pytest.mark.parametrize(
    ("uris", "hosts"),
    [([WEB, ADMIN], []), ([ADMIN, WEB], []), ([WEB, WEB], []), ([], [WEB]), ([], [])],
    ids=["web-and-admin", "admin-and-web", "web-twice", "as-a-host", "no-name"],
)
def test_a_certificate_without_exactly_one_uri_gives_no_identity(
    tls_service: Service, identities: Identities, uris: list[str], hosts: list[str]
) -> None:
    """An X.509-SVID has exactly one (SPIFFE X509-SVID, section 2)."""
    credential = identities.signer.issue_odd("odd", uris, hosts)
    with tls_channel(tls_service.port, identities.authority, credential) as channel:
        reply = who_am_i(channel, [])
    assert reply == WhoAmIReply(source_ip="127.0.0.1", tls=True)
