"""CheckRequests as an Envoy sends them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.json_format import ParseDict

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

WEB = "spiffe://mesh.example/ns/shop/sa/web"
CATALOG = "spiffe://mesh.example/ns/shop/sa/catalog"
JWT_AUTHN = "envoy.filters.http.jwt_authn"


def check_request(  # noqa: PLR0913 - one for each part that a test may care about
    path: str = "/items/1",
    *,
    method: str = "GET",
    host: str = "catalog.shop:8080",
    principal: str = WEB,
    certificate: str = "",
    headers: Mapping[str, str] | None = None,
    raw_headers: list[tuple[str, bytes]] | None = None,
    tokens: Mapping[str, Any] | None = None,
    extensions: Mapping[str, str] | None = None,
) -> CheckRequest:
    """Make the CheckRequest of one HTTP request; `raw_headers` as with `encode_raw_headers`."""
    request = CheckRequest()
    context = request.attributes
    context.source.address.socket_address.address = "10.1.2.3"
    context.source.address.socket_address.port_value = 40_001
    context.source.principal = principal
    context.source.certificate = certificate
    context.destination.address.socket_address.address = "10.9.9.9"
    context.destination.address.socket_address.port_value = 8080
    context.destination.principal = CATALOG
    http = context.request.http
    http.id = "1"
    http.method = method
    http.path = path
    http.host = host
    http.scheme = "https"
    http.protocol = "HTTP/2"
    if raw_headers is None:
        sent = {":method": method, ":path": path, ":authority": host, **(headers or {})}
        http.headers.update(sent)
    else:
        for name, value in raw_headers:
            http.header_map.headers.add(key=name, raw_value=value)
    if tokens is not None:
        ParseDict(dict(tokens), context.metadata_context.filter_metadata[JWT_AUTHN])
    context.context_extensions.update(extensions or {})
    return request


def certificate(
    *,
    uris: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    extension: x509.ExtensionType | None = None,
) -> str:
    """Make a certificate as Envoy sends it with `include_peer_certificate`: URL-encoded PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
    )
    if uris or names:
        sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        sans += [x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return quote(pem.decode(), safe="")
