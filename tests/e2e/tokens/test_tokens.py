"""What the sidecar knows and a caller can't forge: tokens that it verified, and its own routes."""

import pytest

from tests.e2e.support.clients import Answer
from tests.e2e.support.mesh import Mesh
from tests.e2e.support.tokens import Issuer


def ask(mesh: Mesh, path: str, token: str = "") -> Answer:
    """Ask without a certificate, as end users do."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return mesh.send("tokens", "GET", path, headers=headers, credential=None)


def test_a_rule_names_a_user_by_issuer_and_subject(mesh: Mesh, issuer: Issuer) -> None:
    """Envoy's jwt_authn verified the token; ext_authz passed its claims on."""
    answer = ask(mesh, "/account", issuer.token("ann"))
    assert answer.status == 200
    said = mesh.metadata(answer)
    assert said["rule"] == "users.csv:2"
    assert mesh.service.record(said["id"])["user"] == "user:https://issuer.example/ann"


def test_another_user_is_denied(mesh: Mesh, issuer: Issuer) -> None:
    """403: he has shown who he is."""
    assert ask(mesh, "/account", issuer.token("eve")).status == 403
    assert ask(mesh, "/account", issuer.token("ann2")).status == 403
    assert ask(mesh, "/account", issuer.token("ANN")).status == 403


def test_a_user_without_a_token_is_asked_for_one(mesh: Mesh) -> None:
    """401: a token might help."""
    assert ask(mesh, "/account").status == 401


def test_a_user_can_have_a_role(mesh: Mesh, issuer: Issuer) -> None:
    """By `g, user:..., role:...`."""
    assert ask(mesh, "/orders", issuer.token("bob")).status == 200
    assert ask(mesh, "/orders", issuer.token("ann")).status == 403


def test_a_rule_can_be_about_a_claim(mesh: Mesh, issuer: Issuer) -> None:
    """A claim that is missing is no fault."""
    assert ask(mesh, "/by-claim", issuer.token("x", tenant="a")).status == 200
    assert ask(mesh, "/by-claim", issuer.token("x", tenant="b")).status == 403
    assert ask(mesh, "/by-claim", issuer.token("x", tenant=["a"])).status == 403
    assert ask(mesh, "/by-claim", issuer.token("x")).status == 403


def test_a_token_that_somebody_else_signed_is_nobodys(mesh: Mesh) -> None:
    """Envoy refuses it before it asks us."""
    answer = ask(mesh, "/account", Issuer().token("ann"))
    assert answer.status == 401
    assert mesh.sidecar.log_of(answer.request_id)["meshwarden"] is None


@pytest.mark.parametrize(
    "subject", ["role:clerk", "../ann", "ann/../ann", "user:https://issuer.example/ann", "*", ""]
)
def test_no_subject_passes_for_somebody_else(mesh: Mesh, issuer: Issuer, subject: str) -> None:
    """Whatever an issuer lets users call themselves."""
    assert ask(mesh, "/account", issuer.token(subject)).status in {401, 403}
    assert ask(mesh, "/orders", issuer.token(subject)).status in {401, 403}


def test_a_sidecar_that_passes_no_metadata_has_no_users(mesh: Mesh, issuer: Issuer) -> None:
    """A bearer token that nobody verified says nothing."""
    headers = {"authorization": f"Bearer {issuer.token('ann')}"}
    assert mesh.send("plain", "GET", "/account", headers=headers).status == 403


def test_a_rule_can_be_about_the_routes_metadata(mesh: Mesh) -> None:
    """The route says gold on one path and nothing on the other."""
    assert ask(mesh, "/tier/gold").status == 200
    assert ask(mesh, "/tier/lead").status == 403


def test_no_token_here_was_an_rpc_error(mesh: Mesh) -> None:
    """Every check got a verdict."""
    assert mesh.sidecar.errors("tokens") == 0
