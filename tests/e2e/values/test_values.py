"""What callers send, through an Envoy, and what rules make of it: headers, bodies, queries."""

import json

import pytest

from tests.e2e.support.listeners import MIB
from tests.e2e.support.mesh import Mesh

BOTH_FORMS = pytest.mark.parametrize("inbound", ["plain", "raw-headers"])
# Envoy takes these in a header's value; none of them is UTF-8.
NOT_UTF8 = [b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"a\x80b", b"\xc3"]


@BOTH_FORMS
@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/by-header", {"x-env": "prod"}, 200),
        ("/by-header", {"X-ENV": "prod"}, 200),
        ("/by-header", {"x-env": "PROD"}, 403),
        ("/by-header", {"x-env": "prod "}, 200),  # Envoy trims it, as RFC 9110 says.
        ("/by-header", {}, 403),
        ("/but-header", {"x-env": "test"}, 403),
        ("/but-header", {}, 200),
        ("/but-header", [("x-env", "test"), ("x-env", "prod")], 200),
    ],
)
def test_a_rule_about_a_header_has_one_verdict_in_both_forms(
    mesh: Mesh, inbound: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Envoy tells headers as a map of text, or with `encode_raw_headers` as a list of bytes."""
    assert mesh.send(inbound, "GET", path, headers=headers).status == status


@BOTH_FORMS
def test_values_of_one_name_are_joined_in_both_forms(mesh: Mesh, inbound: str) -> None:
    """By a comma, as RFC 9110 (section 5.3) says; so neither value alone satisfies the rule."""
    twice = [("x-env", "prod"), ("x-env", "prod")]
    assert mesh.send(inbound, "GET", "/by-header", headers=twice).status == 403


@BOTH_FORMS
@pytest.mark.parametrize("value", NOT_UTF8)
def test_a_header_that_is_not_utf8_is_judged(mesh: Mesh, inbound: str, value: bytes) -> None:
    """It equals no text of a rule, and leaves rules about other headers alone."""
    assert mesh.send(inbound, "GET", "/by-header", headers={"x-env": value}).status == 403
    odd = {"x-odd": value, "x-env": "prod"}
    assert mesh.send(inbound, "GET", "/by-header", headers=odd).status == 200


@pytest.mark.parametrize("inbound", ["body", "body-bytes"])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"open sesame", 200), (b"open the door", 403), (b"", 403), (b"\xff\xfe\x00", 403)],
)
def test_a_rule_can_be_about_the_body(mesh: Mesh, inbound: str, body: bytes, status: int) -> None:
    """Where the sidecar sends one, as text or as bytes."""
    assert mesh.send(inbound, "POST", "/by-body", body=body).status == status


def test_a_rule_about_the_body_matches_nothing_where_the_sidecar_sends_none(mesh: Mesh) -> None:
    """A sidecar without `with_request_body` leaves it empty."""
    assert mesh.send("plain", "POST", "/by-body", body=b"open sesame").status == 403


@pytest.mark.parametrize("inbound", ["body", "body-bytes"])
def test_a_body_of_4_mib_is_judged_and_passed_on_whole(mesh: Mesh, inbound: str) -> None:
    """Allowed by what it begins with, and by its size."""
    body = b"open sesame".ljust(4 * MIB, b".")
    answer = mesh.send(inbound, "POST", "/by-body", body=body)
    assert answer.status == 200
    assert answer.seen["body_bytes"] == len(body)
    assert mesh.send(inbound, "PUT", "/by-size", body=body).status == 200
    assert mesh.send(inbound, "PUT", "/by-size", body=b"small").status == 403


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("tenant=a", 200),
        ("x=1&tenant=a", 200),
        ("tenant=%61", 200),
        ("tenant=b", 403),
        ("tenant=a&tenant=b", 403),
        ("", 403),
        ("tenant=%ff", 403),
    ],
)
def test_a_rule_can_be_about_the_query(mesh: Mesh, query: str, status: int) -> None:
    """Decoded; two values of one name are not either of them."""
    assert mesh.send("plain", "GET", f"/by-query?{query}").status == status


def test_a_rule_can_be_about_the_connection(mesh: Mesh) -> None:
    """Mutual TLS, and the name that the caller asked the sidecar's TLS for."""
    # Python names no IP address as SNI (RFC 6066, section 3), so the condition is not met.
    assert mesh.send("plain", "GET", "/by-sni").status == 403


def test_ten_thousand_headers_are_judged_through_an_envoy_that_takes_them(mesh: Mesh) -> None:
    """Envoy's own limit is 100; a sidecar with a higher one relays them."""
    many = [(f"x-{number}", "v") for number in range(10_000)]
    allowed = mesh.send("many-headers", "GET", "/by-header", headers=[*many, ("x-env", "prod")])
    assert allowed.status == 200
    assert len(allowed.seen["headers"]) > 10_000
    assert mesh.send("many-headers", "GET", "/by-header", headers=many).status == 403


@pytest.mark.parametrize(
    ("segment", "status"),
    [("a", 200), ("%61", 200), ("%2e%2e/", 403), ("%00", 403), ("%ff", 403), ("%2f", 403)],
)
def test_a_path_of_64_kib_is_judged_through_an_envoy_that_takes_it(
    mesh: Mesh, segment: str, status: int
) -> None:
    """Envoy's own limit for all headers together is 60 KiB."""
    path = "/public/" + segment * (64 * 1024 // len(segment))
    assert mesh.send("many-headers", "GET", path).status == status


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "x-real-ip", "x-envoy-external-address", "forwarded"]
)
def test_a_caller_does_not_choose_its_address(mesh: Mesh, header: str) -> None:
    """It is the connection's, whatever a header says, unless a setting names trusted proxies."""
    for value in ("203.0.113.9", "203.0.113.9, 203.0.113.9", "for=203.0.113.9"):
        assert mesh.send("plain", "GET", "/by-ip", headers={header: value}).status == 403


def test_a_denied_answer_names_its_decision_even_for_odd_requests(mesh: Mesh) -> None:
    """Body and metadata stay well formed."""
    answer = mesh.send("plain", "GET", "/by-header", headers={"x-env": b"\xff"})
    assert json.loads(answer.body)["decision_id"] == mesh.metadata(answer)["id"]


@pytest.mark.parametrize("inbound", ["plain", "raw-headers", "body", "body-bytes", "many-headers"])
def test_nothing_that_was_sent_here_was_an_rpc_error(mesh: Mesh, inbound: str) -> None:
    """Every one of these requests got a verdict."""
    assert mesh.sidecar.errors(inbound) == 0
