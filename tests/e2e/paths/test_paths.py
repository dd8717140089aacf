"""Spellings of a path, sent through a real Envoy as they are: no spelling evades a rule.

The rules: GET /docs/** is allowed to anybody, GET /docs/private/** denied, GET /a.b allowed,
GET /one/* allowed, GET /host allowed for the host shop.example.
"""

import pytest

from tests.e2e.support.mesh import Mesh

ALLOWED = [
    "/docs",
    "/docs/a",
    "/docs/a/b/c",
    "/docs/a?next=/docs/private/x",
    "/docs/a?%2e%2e%2Fx",
    "/docs/%61",
    "/docs//a",
    "/docs/./a",
    "/docs/Private/a",
    "/a.b",
    "/%61.b",
    "/one/x",
    "/one/a%20b",
]
DENIED = [
    # Beyond what the pattern covers: anchored at both ends, one segment for one star.
    "/docsx",
    "/x/docs/a",
    "/DOCS/a",
    "/Docs/a",
    "/aXb",
    "/a.b/",
    "/a.bc",
    "/one",
    "/one/",
    "/one/x/y",
    "//docs/a",
    # Ways into what is denied.
    "/docs/private",
    "/docs/private/a",
    "/docs//private/a",
    "//docs/private/a",
    "/docs/./private/a",
    "/docs/x/../private/a",
    "/docs/%70rivate/a",
    "/docs/%2e/private/a",
    "/docs/x/%2e%2e/private/a",
    "/docs/x/%2E%2E/private/a",
    "/docs/private;v=1/a",
    "/docs/private;/a",
    "/docs;x/private/a",
    "/docs/private/a;b",
    "/docs/private?x",
    "/docs/private/../private/a",
    # Ways out of what is allowed.
    "/docs/../admin",
    "/docs/%2e%2e/admin",
    "/docs/..;/admin",
    "/docs/..%2Fadmin",
    "/docs/..%2fadmin",
    "/docs%2Fa",
    "/docs%2fprivate%2Fa",
    "/docs/%252e%252e/admin",
    "/docs/a\\..\\..\\admin",
    "/docs/%5c..%5cadmin",
    "/docs/%00",
    "/docs/a%0a",
    "/a.b%0a",
    "/docs/%",
    "/docs/%zz",
    "/docs/%c0%af",
    "/docs/%ff",
]


@pytest.mark.parametrize("path", ALLOWED)
def test_an_honest_path_is_allowed_and_passed_on_as_it_was(mesh: Mesh, path: str) -> None:
    """Normalised for the decision only."""
    answer = mesh.send("paths", "GET", path)
    assert answer.status == 200
    assert answer.seen["path"] == path


@pytest.mark.parametrize("path", DENIED)
def test_no_spelling_of_a_path_evades_a_rule(mesh: Mesh, path: str) -> None:
    """Denied by a verdict of ours; Envoy itself refuses one or the other with 400 before."""
    answer = mesh.send("paths", "GET", path)
    assert answer.status in {400, 403}
    if answer.status == 403:
        assert mesh.metadata(answer)["verdict"] == "deny"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("shop.example", 200),
        ("shop.example:8443", 200),
        ("SHOP.Example", 200),
        ("shop.example.", 200),
        ("shop.example.evil", 403),
        ("evil-shop.example", 403),
        ("shop-example", 403),
        ("[::1]:80", 403),
    ],
)
def test_a_host_is_compared_without_case_and_port(mesh: Mesh, host: str, status: int) -> None:
    """A final dot names the same host (RFC 3986, section 3.2.2)."""
    assert mesh.send("paths", "GET", "/host", headers={"host": host}).status == status


@pytest.mark.parametrize("method", ["POST", "get", "Get", "GETX", "OPTIONS", "PRI"])
def test_a_method_is_compared_with_its_case(mesh: Mesh, method: str) -> None:
    """The rules here are about GET; Envoy refuses the odd ones itself."""
    answer = mesh.send("paths", method, "/docs/a")
    assert answer.status in {400, 403}


def test_an_absolute_form_names_the_same_path(mesh: Mesh) -> None:
    """Proxies send `GET http://host/path` (RFC 9112, section 3.2.2)."""
    assert mesh.send("paths", "GET", "http://shop.example/docs/a").status == 200
    assert mesh.send("paths", "GET", "http://shop.example/docs/private/a").status == 403


def test_no_path_here_was_an_rpc_error(mesh: Mesh) -> None:
    """Every one that Envoy relayed got a verdict."""
    assert mesh.sidecar.errors("paths") == 0
