"""A Casbin model of somebody's own, its request fields bound to attributes in the config file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.mesh import Identities, Mesh
from tests.e2e.support.service import Service
from tests.e2e.support.sidecar import Inbound, Sidecar
from tests.e2e.support.upstream import Upstream

MODEL = """\
[request_definition]
r = sub, dom, obj, act

[policy_definition]
p = sub, dom, obj, act

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = g(r.sub, p.sub, r.dom) && r.dom == p.dom && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)
"""
POLICY = """\
p, editor, acme, /books/:id, ^(GET|PUT)$
g, mesh.example/ns/shop/sa/web, editor, acme
"""
BINDING = {
    "sub": "source.principal",
    "dom": 'request.headers["x-tenant"]',
    "obj": "request.path",
    "act": "request.method",
}


@pytest.fixture(scope="module")
def mesh(
    new_folder: Callable[[], Path], identities: Identities, upstream: Upstream
) -> Iterator[Mesh]:
    """Run a service with that model, a denial's body as text, and a sidecar before it."""
    policy = {"model.conf": MODEL, "books.csv": POLICY}
    settings = {
        "policy.bind": BINDING,
        "check.denied.body": "text",
        "check.denied.reveal_rule": True,
    }
    with Service(new_folder(), policy, settings) as service:
        service.wait_ready()
        with Sidecar(
            new_folder(),
            identities.authority,
            identities.catalog,
            upstream,
            [Inbound("own", service.port)],
        ) as sidecar:
            sidecar.wait_ready()
            yield Mesh(service, sidecar, identities)


@pytest.mark.parametrize(
    ("method", "path", "tenant", "status"),
    [
        ("GET", "/books/1", "acme", 200),
        ("PUT", "/books/1", "acme", 200),
        ("PUT", "/books/1?draft=1", "acme", 200),
        ("DELETE", "/books/1", "acme", 403),
        ("GET", "/books/1/pages", "acme", 403),
        ("GET", "/books/1", "other", 403),
        ("GET", "/books/1", "", 403),
    ],
)
def test_the_model_decides_by_the_fields_it_was_given(
    mesh: Mesh, method: str, path: str, tenant: str, status: int
) -> None:
    """A role in a domain, a path pattern and a method pattern, as in Casbin's own examples."""
    headers = {"x-tenant": tenant} if tenant else {}
    assert mesh.send("own", method, path, headers=headers).status == status


def test_another_caller_has_no_role(mesh: Mesh) -> None:
    """The subject is the certificate's."""
    answer = mesh.send(
        "own", "GET", "/books/1", headers={"x-tenant": "acme"}, credential=mesh.identities.batch
    )
    assert answer.status == 403


def test_the_deciding_line_of_the_models_own_policy_is_named(mesh: Mesh) -> None:
    """By file and line, as for the built-in model."""
    answer = mesh.send("own", "GET", "/books/1", headers={"x-tenant": "acme"})
    assert mesh.metadata(answer)["rule"] == "books.csv:1"


def test_the_body_is_text_and_reveals_where_the_settings_say_so(mesh: Mesh) -> None:
    """One line: what, why, and which decision."""
    answer = mesh.send("own", "DELETE", "/books/1", headers={"x-tenant": "acme"})
    said = mesh.metadata(answer)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.body.decode() == f"access denied: no rule matched; decision {said['id']}\n"


def test_no_request_here_was_an_rpc_error(mesh: Mesh) -> None:
    """Every check got a verdict."""
    assert mesh.sidecar.errors("own") == 0
