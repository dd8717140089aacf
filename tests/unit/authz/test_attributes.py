"""What each attribute is read from, and that nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import authz.attributes as attributes_module
from authz.attributes import MESH_BINDING, Attributes, Binding, names, reader
from authz.check import CheckService
from authz.decision import CheckSettings
from authz.errors import BindingError, UnknownAttributeError
from authz.token import user_parts
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from tests.fakes.envoy import CATALOG, WEB, certificate, check_request
from tests.fakes.policy import mesh_policy

ALICE = {"iss": "https://id.example", "sub": "alice", "aud": ["web", "api"], "azp": "app", "n": 1}


def read(request: CheckRequest, name: str, **options: Any) -> Any:
    """Read one attribute of one request."""
    return Attributes(request, **options).get(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source.principal", "mesh.example/ns/shop/sa/web"),
        ("source.namespace", "shop"),
        ("source.serviceAccount", "web"),
        ("source.ip", "10.1.2.3"),
        ("source.port", 40_001),
        ("remote.ip", "10.1.2.3"),
        ("destination.ip", "10.9.9.9"),
        ("destination.port", 8080),
        ("destination.principal", "mesh.example/ns/shop/sa/catalog"),
        ("destination.service", "catalog.shop"),
        ("request.method", "GET"),
        ("request.path", "/items/1"),
        ("request.raw_path", "/items/./1?page=2"),
        ("request.host", "catalog.shop"),
        ("request.scheme", "https"),
        ("request.protocol", "HTTP/2"),
        ("request.query", "page=2"),
        ('request.query_params["page"]', "2"),
        ('request.query_params["none"]', ""),
        ('request.headers["x-env"]', "prod"),
        ("request.headers['X-Env']", "prod"),
        ('request.headers["none"]', ""),
        ('request.raw_headers["x-env"]', b"prod"),
        ("request.auth.principal", "https://id.example/alice"),
        ("request.auth.user", "user:https://id.example/alice"),
        ('request.auth.claims["sub"]', "alice"),
        ('request.auth.claims["n"]', 1.0),
        ('request.auth.claims["none"]["deeper"]', ""),
        ('request.auth.claims["sub"]["deeper"]', ""),
        ("request.auth.audiences", ["web", "api"]),
        ("request.auth.presenter", "app"),
        ("request.grpc.service", ""),
        ("connection.mtls", True),
        ("connection.sni", ""),
        ('context_extensions["tier"]', "gold"),
        ('context_extensions["none"]', ""),
        ('metadata.filter["envoy.filters.http.jwt_authn"]["payload"]["sub"]', "alice"),
        ('metadata.filter["none"]["x"]["y"]', ""),
        ('metadata.route["none"]', {}),
    ],
)
def test_each_attribute_is_read_from_the_check_request(name: str, value: object) -> None:
    """Names are Istio's, and a part that is not there is the empty text."""
    request = check_request(
        "/items/./1?page=2",
        headers={"x-env": "prod"},
        tokens={"payload": ALICE},
        extensions={"tier": "gold"},
    )
    assert read(request, name) == value


def test_every_attribute_can_be_read_from_an_empty_request() -> None:
    """Nothing raises for want of a part."""
    attributes = Attributes(CheckRequest(), now_ns=1_700_000_000_000_000_000)
    values = {name: attributes.get(name) for name in names()}
    assert values["source.principal"] == ""
    assert values["connection.mtls"] is False
    assert values["request.time"] == "2023-11-14T22:13:20Z"
    assert not any(value for name, value in values.items() if name != "request.time")


def test_the_readme_says_of_every_attribute_who_controls_it() -> None:
    """A new one is not forgotten there."""
    readme = Path(attributes_module.__file__).with_name("README.md").read_text()
    table = [line for line in readme.splitlines() if line.startswith("| `")]
    assert [name for name in names() if not any(f"`{name}" in line for line in table)] == []


class Recorder:
    """Shows what it wraps and notes the dotted names of what was read."""

    def __init__(self, wrapped: object, seen: set[str], path: str = "") -> None:
        self._wrapped, self._seen, self._path = wrapped, seen, path

    def __getattr__(self, name: str) -> Any:
        """Read on and note it."""
        path = f"{self._path}.{name}".lstrip(".")
        self._seen.add(path)
        value = getattr(self._wrapped, name)
        return Recorder(value, self._seen, path) if hasattr(value, "DESCRIPTOR") else value


def test_a_decision_reads_only_what_it_asks_for() -> None:
    """Binding a request reads no field of it; asking for one reads that one, once."""
    seen: set[str] = set()
    recorder: Any = Recorder(check_request(), seen)
    bound = Binding(tuple(MESH_BINDING), {}).request(Attributes(recorder))
    structure = {"attributes", "attributes.request", "attributes.request.http"}
    assert seen == structure

    assert bound[3] == "GET"
    assert seen == structure | {"attributes.request.http.method"}

    seen.clear()
    assert bound[3] == "GET"
    assert seen == set()


@pytest.mark.parametrize(
    "principal",
    [
        "",
        "catalog.shop.svc",
        "CN=web",
        "https://mesh.example/x",
        "spiffe://Mesh/x",
        WEB + "/",
        WEB + "\n",
    ],
)
def test_only_a_spiffe_id_is_a_principal(principal: str) -> None:
    """Envoy falls back to a DNS name or the subject; neither says who it is."""
    request = check_request(principal=principal)
    assert read(request, "source.principal") == ""
    assert read(request, "source.namespace") == ""
    assert read(request, "connection.mtls") is bool(principal)


@pytest.mark.parametrize(
    ("uris", "names", "principal"),
    [
        ((WEB,), (), "mesh.example/ns/shop/sa/web"),
        ((WEB,), ("web.shop",), "mesh.example/ns/shop/sa/web"),
        ((WEB, CATALOG), (), ""),
        ((WEB, "https://mesh.example"), (), ""),
        ((CATALOG,), (), ""),
        ((), ("web.shop",), ""),
        ((), (), ""),
    ],
)
def test_where_the_certificate_is_sent_it_must_have_exactly_that_uri(
    uris: tuple[str, ...], names: tuple[str, ...], principal: str
) -> None:
    """Envoy shows the first of several URI SANs as if it were the only one."""
    request = check_request(certificate=certificate(uris=uris, names=names))
    assert read(request, "source.principal") == principal


@pytest.mark.parametrize("text", ["-----BEGIN CERTIFICATE-----", "%zz", "\x00", "%FF%FE"])
def test_a_certificate_that_can_not_be_read_proves_nothing(text: str) -> None:
    """No principal, rather than the one that is claimed."""
    assert read(check_request(certificate=text), "source.principal") == ""


def test_a_certificate_with_a_name_of_a_kind_we_do_not_know_proves_nothing() -> None:
    """An ediPartyName (RFC 5280, section 4.2.1.6) beside the URI: its owner is nobody."""
    party = x509.UnrecognizedExtension(
        x509.SubjectAlternativeName.oid,
        bytes((0x30, 2 + len(WEB) + 7, 0x86, len(WEB)))
        + WEB.encode()
        + b"\xa5\x05\xa1\x03\x0c\x01x",
    )
    request = check_request(certificate=certificate(extension=party))
    assert read(request, "source.principal") == ""


def test_the_service_is_never_taken_from_the_host() -> None:
    """The caller writes Host; the sidecar's own configuration or certificate says who it is."""
    request = check_request(host="admin.shop")
    assert read(request, "destination.service") == "catalog.shop"
    named = check_request(host="admin.shop", extensions={"service": "orders.shop"})
    assert read(named, "destination.service") == "orders.shop"
    request.attributes.destination.principal = "spiffe://mesh.example/other"
    assert read(request, "destination.service") == ""


HEADERS = [
    ({"x-env": "prod"}, [("x-env", b"prod")]),
    ({"x-env": "a,b"}, [("x-env", b"a"), ("x-env", b"b")]),
    ({"x-env": "é"}, [("x-env", "é".encode())]),
    ({"x-env": ""}, [("x-env", b"")]),
    ({"X-Env": "prod"}, [("X-Env", b"prod")]),
    ({}, []),
]


@pytest.mark.parametrize(("plain", "raw"), HEADERS)
def test_headers_read_the_same_from_either_form(
    plain: dict[str, str], raw: list[tuple[str, bytes]]
) -> None:
    """`encode_raw_headers` on the sidecar changes no verdict."""
    as_text = Attributes(check_request(headers=plain)).headers
    as_bytes = Attributes(check_request(raw_headers=[(":path", b"/"), *raw])).headers
    assert as_text["x-env"] == as_bytes["x-env"]
    assert ("x-env" in as_text) is ("x-env" in as_bytes) is bool(plain)
    assert as_text.raw["x-env"] == as_bytes.raw["x-env"]


def test_a_header_that_is_not_utf8_equals_no_text_but_is_there() -> None:
    """A rule that denies whoever sends the header is not evaded by a stray byte."""
    headers = Attributes(check_request(raw_headers=[("x", b"a\xff"), ("y", b"a\xfe")])).headers
    assert headers["x"] not in {"", "a", "a!", "a\ufffd"}
    assert headers["x"] != headers["y"]
    assert "x" in headers
    assert headers.raw["x"] == b"a\xff"


def test_ten_thousand_headers_are_indexed_once() -> None:
    """The second look costs no walk over all of them."""
    raw = [(f"x-{number}", b"1") for number in range(10_000)]
    headers = Attributes(check_request(raw_headers=raw)).headers
    assert [headers[f"x-{number}"] for number in range(0, 10_000, 100)] == ["1"] * 100
    assert headers["x-none"] == ""
    assert len(headers) == 10_000


@pytest.mark.parametrize(
    ("tokens", "user"),
    [
        ({"payload": ALICE}, "alice"),
        ({"any-key": ALICE}, "alice"),
        ({"any-key": ALICE, "header": {"alg": "ES256"}, "failed": "no"}, "alice"),
        ({"jwt_payload": ALICE, "other": {**ALICE, "sub": "bob"}}, "alice"),
        ({"one": ALICE, "other": {**ALICE, "sub": "bob"}}, None),
        ({"payload": {"iss": "https://id.example"}}, None),
        ({"payload": {"iss": "https://id.example", "sub": ""}}, None),
        ({"payload": {"iss": "https://id.example", "sub": 7}}, None),
        ({"payload": {"iss": ["https://id.example"], "sub": "alice"}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_user_comes_from_the_one_verified_token(
    tokens: dict[str, Any] | None, user: str | None
) -> None:
    """What is ambiguous names nobody."""
    principal = "" if user is None else f"https://id.example/{user}"
    assert read(check_request(tokens=tokens), "request.auth.principal") == principal


PAIRS = [
    ("https://id", "b/c"),
    ("https://id/b", "c"),
    ("https://id", "b%2Fc"),
    ("https://id", "b%252Fc"),
    ("https://id/b", "/c"),
    ("https://id/b/", "c"),
    ("https:/", "id/b/c"),
]


def test_no_two_users_come_to_one_text() -> None:
    """Else who chooses a subject at one issuer is a user of another, whose URL is longer."""
    users = {}
    for issuer, subject in PAIRS:
        request = check_request(tokens={"payload": {"iss": issuer, "sub": subject}})
        users[read(request, "request.auth.user")] = issuer, subject
    assert list(users.values()) == PAIRS
    assert [user_parts(user.removeprefix("user:")) for user in users] == PAIRS


def test_a_rule_for_an_issuer_is_for_no_issuer_below_it() -> None:
    """`*` is one segment, which is what a subject always is."""
    policy = mesh_policy("p, user:https://id/*, *, GET, /a, allow")
    for issuer, subject, allowed in (
        ("https://id", "repo:a/b", True),
        ("https://id/realm", "bob", False),
        ("https://idp", "bob", False),
    ):
        tokens = {"payload": {"iss": issuer, "sub": subject}}
        service: CheckService[object] = CheckService(CheckSettings(), lambda: "id")
        service.policy = policy
        request = check_request("/a", tokens=tokens).SerializeToString()
        code = CheckResponse.FromString(service.answer(request, 1)).status.code
        assert (code == 0) is allowed


@pytest.mark.parametrize(
    ("forwarded", "hops", "ip"),
    [
        ("6.6.6.6, 1.1.1.1", None, "10.1.2.3"),
        ("6.6.6.6, 1.1.1.1", 0, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.0.0.1", 1, "1.1.1.1"),
        ("10.0.0.1", 1, ""),
        ("", 1, ""),
    ],
)
def test_the_remote_ip_believes_as_many_hops_as_it_is_told(
    forwarded: str, hops: int | None, ip: str
) -> None:
    """What a client wrote before the first proxy is out of reach."""
    request = check_request(headers={"x-forwarded-for": forwarded})
    assert read(request, "remote.ip", trusted_hops=hops) == ip


def test_an_ipv4_peer_of_a_dual_stack_socket_is_ipv4() -> None:
    """Rules on 10.0.0.0/8 hold whatever the listener is bound to."""
    request = check_request()
    request.attributes.source.address.socket_address.address = "::ffff:10.1.2.3"
    assert read(request, "source.ip") == "10.1.2.3"


@pytest.mark.parametrize(
    ("content_type", "path", "expected"),
    [
        ("application/grpc", "/shop.v1.Catalog/List", ("shop.v1.Catalog", "List")),
        ("application/grpc+proto", "/shop.v1.Catalog/List", ("shop.v1.Catalog", "List")),
        ("application/grpc", "/shop.v1.Catalog/List?x", ("shop.v1.Catalog", "List")),
        ("application/grpc", "/a/b/c", ("", "")),
        ("application/grpc-web", "/shop.v1.Catalog/List", ("", "")),
        ("application/json", "/shop.v1.Catalog/List", ("", "")),
    ],
)
def test_grpc_service_and_method_are_those_of_a_grpc_request(
    content_type: str, path: str, expected: tuple[str, str]
) -> None:
    """The path of any other request has no such parts."""
    attributes = Attributes(check_request(path, headers={"content-type": content_type}))
    found = (attributes.get("request.grpc.service"), attributes.get("request.grpc.method"))
    assert found == expected


def test_a_body_reads_the_same_as_text_or_bytes() -> None:
    """`pack_as_bytes` on the sidecar changes no verdict."""
    as_text, as_bytes = check_request(), check_request()
    as_text.attributes.request.http.body = "é" * 1000
    as_bytes.attributes.request.http.raw_body = ("é" * 1000).encode()
    assert read(as_text, "request.body") == read(as_bytes, "request.body") == "é" * 1000


def test_sni_is_lower_case() -> None:
    """Names in DNS have no letter case."""
    request = check_request()
    request.attributes.tls_session.sni = "Shop.Example"
    assert read(request, "connection.sni") == "shop.example"


def test_values_of_a_repeated_query_parameter_are_joined() -> None:
    """A second value can't stand in for the first."""
    request = check_request("/x?role=user&role=admin&empty=&plus=a+b%21")
    params = read(request, "request.query_params")
    assert params == {"role": "user,admin", "empty": "", "plus": "a b!"}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("source.princpal", "source.principal"),
        ("request.header['x']", "request.headers"),
        ("request.headers[x]", "request.headers"),
        ("request.headers['x", "request.headers"),
        ("source.principal; import os", "source.principal"),
        ("", "no attribute"),
        ("request.path['x']", "no parts"),
    ],
)
def test_an_unknown_attribute_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    """A typo is found when the policy is loaded, not when a request comes."""
    with pytest.raises(UnknownAttributeError, match=nearest):
        reader(name)


def test_a_custom_models_fields_are_bound_by_the_config() -> None:
    """The request of `r = sub, obj, act` is what the config says."""
    bind = {"sub": "source.principal", "obj": "request.path", "act": "request.method"}
    bound = Binding(("sub", "obj", "act"), bind).request(Attributes(check_request()))
    assert [bound[0], bound[1], bound[2]] == ["mesh.example/ns/shop/sa/web", "/items/1", "GET"]


def test_all_faults_of_a_binding_are_told_at_once() -> None:
    """Nobody has to start the server once for each."""
    with pytest.raises(BindingError) as raised:
        Binding(("sub", "obj", "act"), {"sub": "source.pricipal", "object": "request.path"})
    assert len(raised.value.faults) == 4


def test_a_field_of_the_mesh_model_can_be_bound_otherwise() -> None:
    """The rest stays as it is."""
    binding = Binding(tuple(MESH_BINDING), {"service": "request.host"})
    bound = binding.request(Attributes(check_request(host="orders.shop")))
    assert bound[2] == "orders.shop"
    assert bound[3] == "GET"
