"""An Envoy asks, a rule answers, and the reason is on record: the way that every request goes."""

import json
import uuid

import grpc
import pytest

from tests.e2e.support.clients import call, tls_channel
from tests.e2e.support.mesh import Mesh

WEB = "spiffe://mesh.example/ns/shop/sa/web"
BATCH = "spiffe://mesh.example/ns/shop/sa/batch"
POLICY_LINES = {"items": "verdicts.csv:2", "secret": "verdicts.csv:3", "public": "verdicts.csv:5"}


def test_an_allowed_request_reaches_the_upstream_as_it_was(mesh: Mesh) -> None:
    """Path, query and body included; the decision is about the path without its query."""
    answer = mesh.send("plain", "POST", "/items/1?a=%20b", body=b"hello")
    assert answer.status == 200
    assert answer.seen["method"] == "POST"
    assert answer.seen["path"] == "/items/1?a=%20b"
    assert answer.seen["body_bytes"] == 5


def test_an_allowed_request_has_our_headers_and_lost_those_we_remove(mesh: Mesh) -> None:
    """What a caller says in a header that we set is overwritten; the answer's headers are ours."""
    answer = mesh.send(
        "plain", "GET", "/items/1", headers={"x-secret": "s", "X-Caller": "admin", "x-kept": "k"}
    )
    seen = [(name, value) for name, value in answer.seen["headers"] if name != "x-decision"]
    assert ("x-caller", "mesh.example/ns/shop/sa/web") in seen
    assert [value for name, value in seen if name == "x-caller"] == ["mesh.example/ns/shop/sa/web"]
    assert ("x-kept", "k") in seen
    assert "x-secret" not in dict(seen)
    assert dict(answer.seen["headers"])["x-decision"] == mesh.metadata(answer)["id"]
    assert answer.headers["x-verdict"] == "allow"


def test_a_denied_request_never_reaches_the_upstream(mesh: Mesh) -> None:
    """The caller gets 403, a JSON body and our header."""
    answer = mesh.send("plain", "GET", "/items/secret/1")
    assert answer.status == 403
    assert "x-upstream" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-verdict"] == "deny"
    assert json.loads(answer.body).keys() == {"error", "decision_id"}


def test_the_client_learns_no_rule_unless_the_settings_reveal_it(mesh: Mesh) -> None:
    """The body has the id, by which an operator finds the rule; the rule itself it has not."""
    answer = mesh.send("plain", "GET", "/items/secret/1")
    said = mesh.metadata(answer)
    assert said["rule"] == POLICY_LINES["secret"]
    assert json.loads(answer.body)["decision_id"] == said["id"]
    shown = repr((answer.headers, answer.body))
    for hidden in (".csv", "secret", "rule", said["digest"], "matched"):
        assert hidden not in shown


@pytest.mark.parametrize(
    ("path", "verdict", "rule", "status"),
    [
        ("/items/7", "allow", POLICY_LINES["items"], 200),
        ("/items/secret/7", "deny", POLICY_LINES["secret"], 403),
        ("/public/7", "allow", POLICY_LINES["public"], 200),
        ("/nowhere", "deny", "", 403),
    ],
)
def test_the_sidecars_access_log_has_the_reason(
    mesh: Mesh, path: str, verdict: str, rule: str, status: int
) -> None:
    """Id (UUIDv7), verdict, deciding line and policy digest, under the filter's own namespace."""
    answer = mesh.send("plain", "GET", path)
    said = mesh.metadata(answer)
    assert answer.status == status
    assert (said["verdict"], said["rule"], said["status"]) == (verdict, rule, status)
    assert uuid.UUID(said["id"]).version == 7
    assert len(bytes.fromhex(said["digest"])) == 32
    assert said["reason"]


def test_a_denial_without_a_rule_names_the_nearest_misses(mesh: Mesh) -> None:
    """A rule that but for the caller would have allowed, and what it lacked."""
    answer = mesh.send("plain", "GET", "/items/7", credential=mesh.identities.batch)
    said = mesh.metadata(answer)
    assert (answer.status, said["rule"], said["reason"]) == (403, "", "no rule matched")
    assert any(miss.startswith(POLICY_LINES["items"] + ": ") for miss in said["misses"]), said


@pytest.mark.parametrize(
    ("path", "status"), [("/items/7", 200), ("/items/secret/7", 403), ("/nowhere", 403)]
)
def test_the_decision_log_has_the_same_id(mesh: Mesh, path: str, status: int) -> None:
    """One id joins the access log of the sidecar with the decision log of the service."""
    said = mesh.metadata(mesh.send("plain", "GET", path))
    record = mesh.service.record(said["id"])
    assert record["verdict"] == said["verdict"]
    assert record["digest"] == said["digest"]
    assert record["status"] == status
    assert record["principal"] == "mesh.example/ns/shop/sa/web"
    assert (record["service"], record["method"], record["path"]) == ("catalog", "GET", path)
    where = f"{record['rule_file']}:{record['rule_line']}" if "rule_file" in record else ""
    assert where == said["rule"]


def test_a_caller_without_a_credential_is_asked_for_one(mesh: Mesh) -> None:
    """401 where a rule would have allowed somebody; 403 where nobody is allowed."""
    wanted = mesh.send("plain", "GET", "/items/1", credential=None)
    assert wanted.status == 401
    assert "www-authenticate" in wanted.headers
    assert mesh.send("plain", "GET", "/nowhere", credential=None).status == 403
    assert mesh.send("plain", "GET", "/items/secret/1", credential=None).status == 403


def test_anybody_passes_where_the_rule_says_anybody(mesh: Mesh) -> None:
    """With a certificate, with another, with none."""
    for credential in (mesh.identities.web, mesh.identities.batch, None):
        assert mesh.send("plain", "GET", "/public/a", credential=credential).status == 200


def test_the_sidecars_certificate_names_the_service_where_its_envoy_does_not(mesh: Mesh) -> None:
    """Account and namespace; never the Host, which the caller writes."""
    assert mesh.send("nameless", "GET", "/named").status == 200
    assert mesh.send("nameless", "GET", "/items/1", headers={"host": "catalog"}).status == 403
    assert mesh.send("plain", "GET", "/named", headers={"host": "catalog.shop"}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-client-cert": f"URI={WEB}"},
        {"x-meshwarden-source": "127.0.0.1", "x-caller": "mesh.example/ns/shop/sa/web"},
        {"source.principal": "mesh.example/ns/shop/sa/web"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_header_makes_a_caller_somebody_else(mesh: Mesh, headers: dict[str, str]) -> None:
    """Who calls is what its certificate says to the sidecar."""
    batch = mesh.identities.batch
    answer = mesh.send("plain", "GET", "/items/1", headers=headers, credential=batch)
    assert answer.status == 403


@pytest.mark.parametrize(
    ("uris", "hosts"),
    [([WEB, BATCH], []), ([BATCH, WEB], []), ([], [WEB]), ([], ["mesh.example"]), ([], [])],
    ids=["web-and-batch", "batch-and-web", "as-a-host", "host", "no-name"],
)
def test_a_certificate_without_exactly_one_uri_names_nobody(
    mesh: Mesh, uris: list[str], hosts: list[str]
) -> None:
    """Envoy falls back to the first URI, a DNS name or the subject; a policy must not."""
    credential = mesh.identities.signer.issue_odd("mesh.example/ns/shop/sa/web", uris, hosts)
    answer = mesh.send("plain", "GET", "/items/1", credential=credential)
    assert answer.status in {401, 403}
    assert "principal" not in mesh.service.record(mesh.metadata(answer)["id"])


def test_a_grpc_call_passes_the_sidecar(mesh: Mesh) -> None:
    """Its path is its service and method."""
    with tls_channel(
        mesh.sidecar.port("plain"), mesh.identities.authority, mesh.identities.web
    ) as channel:
        assert call(channel, "/shop.Catalog/Get", b"request") == b"request"


@pytest.mark.parametrize(
    ("method", "who", "code"),
    [
        ("/shop.Catalog/Delete", "web", grpc.StatusCode.PERMISSION_DENIED),
        ("/shop.Catalog/Get", "nobody", grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_a_denied_grpc_caller_gets_grpcs_own_status(
    mesh: Mesh, method: str, who: str, code: grpc.StatusCode
) -> None:
    """7 for a 403 and 16 for a 401, with one readable line that names the decision."""
    credential = mesh.identities.web if who == "web" else None
    with (
        tls_channel(mesh.sidecar.port("plain"), mesh.identities.authority, credential) as channel,
        pytest.raises(grpc.RpcError) as denied,
    ):
        call(channel, method, b"request")
    assert denied.value.code() is code
    details = denied.value.details() or ""
    assert "; decision " in details
    assert ".csv" not in details


def test_no_request_here_was_an_rpc_error(mesh: Mesh) -> None:
    """The sidecar counts the checks that got no verdict."""
    assert mesh.sidecar.errors("plain") == 0
    assert mesh.sidecar.errors("nameless") == 0
