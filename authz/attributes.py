"""What a policy may ask about a request: Istio's attribute names, read from a CheckRequest.

Nothing is read before a policy asks for it, and what costs more than a field access is read once.
README.md beside this file says for each attribute where Envoy takes it from and who controls it.

Source: envoy.service.auth.v3.AttributeContext; Istio, "Authorization Policy Conditions".
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from cryptography import x509

from authz import paths, token
from authz.errors import BindingError, UnknownAttributeError
from authz.values import ABSENT, Fields, Headers, MetadataFields
from ca import spiffe_id
from protos.envoy.config.core.v3.address_pb2 import Address
from protos.envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest

__all__ = [
    "MESH_BINDING",
    "Attributes",
    "Binding",
    "BoundRequest",
    "Reader",
    "names",
    "reader",
]

# Where the mesh model's request fields come from.
MESH_BINDING: Mapping[str, str] = {
    "who": "source.principal",
    "user": "request.auth.user",
    "service": "destination.service",
    "method": "request.method",
    "path": "request.path",
    "attributes": "*",
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Attributes:
    """The attributes of one request, each read when first asked for.

    Args:
        request: The CheckRequest.
        now_ns: Time of the decision, for `request.time` where the request has none.
        trusted_hops: Proxies in front of the sidecar that append to `x-forwarded-for`, or None if
            the header is not to be believed at all.
    """

    __slots__ = (
        "_claims",
        "_headers",
        "_path",
        "_query_params",
        "_trusted_hops",
        "context",
        "http",
        "now_ns",
    )

    def __init__(
        self, request: CheckRequest, now_ns: int = 0, trusted_hops: int | None = None
    ) -> None:
        self.context: AttributeContext = request.attributes
        self.http: AttributeContext.HttpRequest = self.context.request.http
        self.now_ns = now_ns
        self._trusted_hops = trusted_hops
        self._path: paths.RequestPath | None = None
        self._headers: Headers | None = None
        self._claims: Fields | None = None
        self._query_params: Fields | None = None

    def get(self, name: str) -> Any:
        """Read one attribute, such as `request.headers["x-env"]`.

        Raises:
            UnknownAttributeError: There is no such attribute.
        """
        return reader(name)(self)

    @property
    def path(self) -> paths.RequestPath:
        """The path of the request with what is odd about it."""
        path = self._path
        if path is None:
            path = self._path = paths.normalise(self.http.path)
        return path

    @path.setter
    def path(self, path: paths.RequestPath) -> None:
        self._path = path

    @property
    def path_if_read(self) -> paths.RequestPath | None:
        """The path if anything has asked for it yet, or None."""
        return self._path

    @property
    def headers(self) -> Headers:
        """The request headers as text."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self.http)
        return headers

    @property
    def claims(self) -> Fields:
        """The claims of the end user's token, as Envoy's jwt_authn filter verified it, or none."""
        claims = self._claims
        if claims is None:
            claims = self._claims = token.claims_of(self.context.metadata_context)
        return claims

    @property
    def query(self) -> str:
        """The query of the request, without its question mark."""
        return self.http.path.partition("?")[2].partition("#")[0]

    @property
    def query_params(self) -> Fields:
        """The query's parameters; values of one name are joined by a comma, as for headers."""
        params = self._query_params
        if params is None:
            params = self._query_params = Fields()
            values: dict[str, list[str]] = {}
            for name, value in parse_qsl(
                self.query, keep_blank_values=True, errors="surrogateescape"
            ):
                values.setdefault(name, []).append(value)
            params.update((name, ",".join(parts)) for name, parts in values.items())
        return params

    @property
    def remote_ip(self) -> str:
        """The address of the first client behind `trusted_hops` proxies, or the connection's."""
        if self._trusted_hops is None:
            return _ip(self.context.source.address)
        hops = self.headers["x-forwarded-for"].split(",")
        # Envoy appends its own peer before ext_authz runs, or believes the last element as it
        # is: either way the client is this many from the right.
        index = len(hops) - 1 - self._trusted_hops
        return hops[index].strip() if index >= 0 else ""

    @property
    def is_grpc(self) -> bool:
        """Whether Envoy takes this for a gRPC request, and answers it with a grpc-status."""
        content_type = self.headers["content-type"]
        return content_type.startswith("application/grpc") and (
            len(content_type) == _GRPC_LENGTH or content_type[_GRPC_LENGTH] in "+;"
        )


_GRPC_LENGTH = len("application/grpc")

Reader = Callable[[Attributes], Any]


class _Identity(NamedTuple):
    """What is asked of a SPIFFE ID; empty texts if there is none."""

    principal: str = ""
    namespace: str = ""
    service_account: str = ""
    service: str = ""


_NOBODY = _Identity()


# The principals of a mesh are few and come again on every request.
@lru_cache(maxsize=4096)
def _identity_of(uri: str) -> _Identity:
    try:
        parsed = spiffe_id.parse(uri)
    except spiffe_id.InvalidSpiffeIdError:
        return _NOBODY
    namespace, account = parsed.namespace, parsed.service_account
    return _Identity(
        parsed.principal, namespace, account, f"{account}.{namespace}" if namespace else ""
    )


@lru_cache(maxsize=1024)
def _only_uri_of(certificate: str) -> str:
    """The URI SAN of a URL-encoded PEM certificate if it has exactly one, else ""."""
    try:
        parsed = x509.load_pem_x509_certificate(unquote(certificate).encode())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception:  # noqa: BLE001 - whatever a certificate holds, one that we can't read is nobody's
        return ""
    return uris[0] if len(uris) == 1 else ""


def _identity(peer: AttributeContext.Peer) -> _Identity:
    """Who a peer is.

    Envoy fills `principal` with the first URI SAN, or else a DNS SAN, or else the subject. The last
    two don't parse as a SPIFFE ID. That there is one URI only, just the certificate can show.
    """
    principal = peer.principal
    if not principal:
        return _NOBODY
    certificate = peer.certificate
    if certificate and _only_uri_of(certificate) != principal:
        return _NOBODY
    return _identity_of(principal)


def _ip(address: Address) -> str:
    # A socket for both families shows an IPv4 peer as a mapped IPv6 address.
    return address.socket_address.address.removeprefix("::ffff:")


def _is_mtls(attributes: Attributes) -> bool:
    # Envoy fills these two from the peer's certificate only; `tls_session` it adds to plain
    # connections as well.
    source = attributes.context.source
    return bool(source.principal or source.certificate)


def _service(attributes: Attributes) -> str:
    """Whom the request is for, as the sidecar's own configuration or certificate says.

    Never from Host: the caller writes that.
    """
    context = attributes.context
    return context.context_extensions.get("service") or _identity(context.destination).service


def _time(attributes: Attributes) -> str:
    time = attributes.context.request.time
    seconds = time.seconds or attributes.now_ns // 1_000_000_000
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _body(attributes: Attributes) -> str:
    http = attributes.http
    return http.body or http.raw_body.decode("utf-8", "surrogateescape")


def _user(attributes: Attributes) -> str:
    claims = attributes.claims
    user = token.user(claims) if claims else ""
    return f"user:{user}" if user else ""


def _grpc_part(attributes: Attributes, part: int) -> str:
    """Part 0 is the service and part 1 the method of the path /package.Service/Method."""
    if not attributes.is_grpc:
        return ""
    parts = attributes.path.path[1:].split("/")
    return parts[part] if len(parts) == len(("service", "method")) else ""


_READERS: Mapping[str, Reader] = {
    "*": lambda a: a,
    "source.principal": lambda a: _identity(a.context.source).principal,
    "source.namespace": lambda a: _identity(a.context.source).namespace,
    "source.serviceAccount": lambda a: _identity(a.context.source).service_account,
    "source.ip": lambda a: _ip(a.context.source.address),
    "source.port": lambda a: a.context.source.address.socket_address.port_value,
    "remote.ip": lambda a: a.remote_ip,
    "destination.ip": lambda a: _ip(a.context.destination.address),
    "destination.port": lambda a: a.context.destination.address.socket_address.port_value,
    "destination.principal": lambda a: _identity(a.context.destination).principal,
    "destination.service": _service,
    "request.method": lambda a: a.http.method,
    "request.path": lambda a: a.path.path,
    "request.raw_path": lambda a: a.http.path,
    "request.host": lambda a: paths.host(a.http.host),
    "request.scheme": lambda a: a.http.scheme,
    "request.protocol": lambda a: a.http.protocol,
    "request.headers": lambda a: a.headers,
    "request.raw_headers": lambda a: a.headers.raw,
    "request.query": lambda a: a.query,
    "request.query_params": lambda a: a.query_params,
    "request.size": lambda a: a.http.size,
    "request.body": _body,
    "request.time": _time,
    "request.auth.user": _user,
    "request.auth.principal": lambda a: token.principal(a.claims),
    "request.auth.claims": lambda a: a.claims,
    "request.auth.audiences": lambda a: token.audiences(a.claims),
    "request.auth.presenter": lambda a: token.presenter(a.claims),
    "request.grpc.service": lambda a: _grpc_part(a, 0),
    "request.grpc.method": lambda a: _grpc_part(a, 1),
    "connection.sni": lambda a: a.context.tls_session.sni.lower(),
    "connection.mtls": _is_mtls,
    "context_extensions": lambda a: Fields(a.context.context_extensions),
    "metadata.filter": lambda a: MetadataFields(a.context.metadata_context),
    "metadata.route": lambda a: MetadataFields(a.context.route_metadata_context),
}

# Those that have parts, to be asked for as in `request.headers["x-env"]`.
_WITH_PARTS = frozenset(
    {
        "request.headers",
        "request.raw_headers",
        "request.query_params",
        "request.auth.claims",
        "context_extensions",
        "metadata.filter",
        "metadata.route",
    }
)

_EXPRESSION = re.compile(r"(\*|[A-Za-z_][\w.]*)((?:\[(?:\"[^\"]*\"|'[^']*')\])*)")
_PART = re.compile(r"\[(?:\"([^\"]*)\"|'([^']*)')\]")


def names() -> tuple[str, ...]:
    """List the attributes there are, in the order of the documentation."""
    return tuple(name for name in _READERS if name != "*")


def reader(expression: str) -> Reader:
    """Resolve an attribute's name once, to a function that reads it from a request.

    Args:
        expression: A name such as `request.path`, with parts as in `request.headers["x-env"]`; or
            `*` for the whole Attributes.

    Raises:
        UnknownAttributeError: There is no such attribute, or it has no parts.
    """
    parsed = _EXPRESSION.fullmatch(expression)
    name = parsed.group(1) if parsed else expression
    read = _READERS.get(name)
    if read is None or parsed is None:
        nearest = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
        raise UnknownAttributeError(f"no attribute {expression!r}; the nearest is {nearest[0]!r}")
    parts = tuple(double or single for double, single in _PART.findall(parsed.group(2)))
    if not parts:
        return read
    if name not in _WITH_PARTS:
        raise UnknownAttributeError(f"attribute {name!r} has no parts, so {expression!r} is none")

    def read_part(attributes: Attributes) -> Any:
        value = read(attributes)
        for part in parts:
            if not isinstance(value, Mapping):
                return ABSENT
            value = value[part]
        return value

    return read_part


_UNREAD: Any = object()


class BoundRequest:
    """The request fields of a model, each read from the attributes when first asked for."""

    __slots__ = ("_attributes", "_readers", "_values")

    def __init__(self, readers: tuple[Reader, ...], attributes: Attributes) -> None:
        self._readers = readers
        self._attributes = attributes
        self._values = [_UNREAD] * len(readers)

    def __getitem__(self, index: int) -> Any:
        """Read the i-th request field."""
        value = self._values[index]
        if value is _UNREAD:
            value = self._values[index] = self._readers[index](self._attributes)
        return value


class Binding:
    """Which attribute each request field of a model is.

    Args:
        fields: The names in the model's `r = ...`, in order.
        bind: Request field to attribute expression. The fields of the mesh model are bound already;
            what is given for one of them replaces that.

    Raises:
        BindingError: A field is bound to nothing or to an unknown attribute, or a name in `bind` is
            no field; all faults at once.
    """

    __slots__ = ("_readers", "fields")

    def __init__(self, fields: Sequence[str], bind: Mapping[str, str]) -> None:
        self.fields = tuple(fields)
        if set(self.fields) == set(MESH_BINDING):
            bind = {**MESH_BINDING, **bind}
        faults = [
            f"{name!r} is bound to an attribute, but the model's request has no such field; "
            f"it has {', '.join(fields)}"
            for name in bind
            if name not in self.fields
        ]
        readers: list[Reader] = []
        for field in self.fields:
            if field not in bind:
                faults.append(f"request field {field!r} is bound to no attribute")
                continue
            try:
                readers.append(reader(bind[field]))
            except UnknownAttributeError as error:
                faults.append(f"request field {field!r}: {error}")
        if faults:
            raise BindingError(faults)
        self._readers = tuple(readers)

    def request(self, attributes: Attributes) -> BoundRequest:
        """Bind one request."""
        return BoundRequest(self._readers, attributes)
