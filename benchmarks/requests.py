"""The CheckRequest that every benchmark sends: as a sidecar of the demo's shop would.

Its size is fixed, so that figures of different months compare.
"""

from google.protobuf.message import Message

from protos.envoy.config.core.v3.address_pb2 import Address, SocketAddress
from protos.envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = ["CHECK_PATH", "MESSAGE_BYTES", "check_request", "framed"]

CHECK_PATH = "/envoy.service.auth.v3.Authorization/Check"
MESSAGE_BYTES = 466
"""Length of the serialized message, without the five bytes that gRPC puts before it."""

_AGENT = "shop-frontend/4.2"


def check_request() -> CheckRequest:
    """Build the message: the frontend asks for an order, over mutual TLS."""
    request = _request(_AGENT)
    spare = MESSAGE_BYTES - request.ByteSize()
    request = _request(_AGENT + "." * spare)
    assert request.ByteSize() == MESSAGE_BYTES
    return request


def framed(message: Message) -> bytes:
    """Serialize a message and prefix it, as the body of a gRPC call."""
    payload = message.SerializeToString(deterministic=True)
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def _request(agent: str) -> CheckRequest:
    path = "/orders/4711"
    http = AttributeContext.HttpRequest(
        id="13370931408220412321",
        method="GET",
        path=path,
        host="orders.shop",
        scheme="https",
        protocol="HTTP/1.1",
        headers={
            ":authority": "orders.shop",
            ":method": "GET",
            ":path": path,
            ":scheme": "https",
            "accept": "application/json",
            "user-agent": agent,
            "x-request-id": "7d1f3c5a",
        },
    )
    context = AttributeContext(
        source=AttributeContext.Peer(
            address=_address("10.12.7.33", 41822),
            principal="spiffe://shop.example/ns/prod/sa/frontend",
        ),
        destination=AttributeContext.Peer(
            address=_address("10.12.9.4", 8443),
            principal="spiffe://shop.example/ns/prod/sa/orders",
        ),
        request=AttributeContext.Request(http=http),
        context_extensions={"service": "orders"},
        tls_session=AttributeContext.TLSSession(sni="orders.shop"),
    )
    context.request.time.seconds = 1_790_000_000
    return CheckRequest(attributes=context)


def _address(ip: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=ip, port_value=port))
