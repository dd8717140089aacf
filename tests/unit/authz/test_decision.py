"""What Envoy and the caller are told."""

import json

import pytest
from google.protobuf.json_format import MessageToDict

from authz.decision import Caller, CheckSettings, Responder, Verdict
from authz.policy.rules import Rule
from protos.envoy.config.core.v3.base_pb2 import HeaderValueOption
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse

ID = "0192f0c1-7d3a-7c11-8000-000000000001"
OTHER_ID = "0192f0c1-7d3a-7c11-8000-000000000002"
DIGEST = "d" * 64
RULE = Rule(1, "p", ("*", "*", "*", "/**", "allow"), "policy.csv", 12, "allow")
ALLOWED = Verdict(200, "allowed by a rule", RULE)
DENIED = Verdict(403, "denied by a rule", RULE)
NO_RULE = Verdict(403, "no rule matched", misses=("policy.csv:3: path",))
NO_CREDENTIAL = Verdict(401, "no rule matched, and the caller showed no credential")


def answered(
    verdict: Verdict,
    settings: CheckSettings | None = None,
    caller: Caller | None = None,
    decision_id: str = ID,
) -> CheckResponse:
    """The response to one verdict."""
    responder = Responder(settings or CheckSettings())
    serialized = responder.response(verdict, decision_id, DIGEST, caller or Caller())
    return CheckResponse.FromString(serialized)


def headers_of(options: object) -> dict[str, str]:
    """Header options as a dict."""
    return {option.header.key: option.header.value for option in options}  # type: ignore[attr-defined]


def test_an_allowed_request_is_told_so_and_changed_by_default_in_nothing() -> None:
    """No header is set unless the settings say so."""
    response = answered(ALLOWED)
    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    assert not response.ok_response.ListFields()


@pytest.mark.parametrize(
    ("verdict", "rpc", "http"), [(DENIED, 7, 403), (NO_RULE, 7, 403), (NO_CREDENTIAL, 16, 401)]
)
def test_a_denial_carries_an_explicit_status(verdict: Verdict, rpc: int, http: int) -> None:
    """Envoy never has to guess, and never sees a 5xx from a verdict."""
    response = answered(verdict)
    assert response.status.code == rpc
    assert response.denied_response.status.code == http


def test_a_401_says_which_credential_is_wanted() -> None:
    """RFC 9110, section 15.5.2: it must."""
    settings = CheckSettings(challenge='Bearer realm="shop"')
    headers = headers_of(answered(NO_CREDENTIAL, settings).denied_response.headers)
    assert headers["www-authenticate"] == 'Bearer realm="shop"'
    assert "www-authenticate" not in headers_of(answered(DENIED, settings).denied_response.headers)


@pytest.mark.parametrize("verdict", [ALLOWED, DENIED, NO_RULE, NO_CREDENTIAL])
def test_metadata_says_what_was_decided_by_which_rule_of_which_policy(verdict: Verdict) -> None:
    """An access log can be joined with the decision log."""
    metadata = MessageToDict(answered(verdict).dynamic_metadata)
    assert metadata == {
        "meshwarden": {
            "id": ID,
            "verdict": "allow" if verdict.allowed else "deny",
            "rule": verdict.where,
            "reason": verdict.reason,
            "digest": DIGEST,
            "status": verdict.status,
            "misses": list(verdict.misses),
        }
    }


def test_metadata_names_rules_whose_condition_raised() -> None:
    """Whoever wrote it can find it."""
    metadata = MessageToDict(answered(Verdict(403, "x", faults=(RULE,))).dynamic_metadata)
    assert metadata["meshwarden"]["faults"] == ["policy.csv:12"]


def test_the_body_keeps_the_policy_to_itself() -> None:
    """A caller learns that he is denied and what to quote, not why."""
    response = answered(DENIED)
    assert json.loads(response.denied_response.body) == {
        "error": "access denied",
        "decision_id": ID,
    }
    assert headers_of(response.denied_response.headers) == {"content-type": "application/json"}


def test_the_rule_is_revealed_if_switched_on() -> None:
    """For meshes whose callers are colleagues."""
    body = answered(DENIED, CheckSettings(reveal_rule_to_client=True)).denied_response.body
    assert json.loads(body) == {
        "error": "access denied",
        "decision_id": ID,
        "reason": "denied by a rule",
        "rule": "policy.csv:12",
    }


def test_the_body_can_be_text_or_nothing() -> None:
    """As the settings say."""
    text = answered(DENIED, CheckSettings(denied_body="text")).denied_response
    assert text.body == f"access denied; decision {ID}\n"
    none = answered(DENIED, CheckSettings(denied_body="none")).denied_response
    assert (none.body, list(none.headers)) == ("", [])


@pytest.mark.parametrize(("status", "for_grpc"), [(400, 403), (401, 401), (403, 403), (413, 403)])
def test_grpc_callers_get_a_status_that_envoy_translates_to_a_denial(
    status: int, for_grpc: int
) -> None:
    """Envoy makes 16 of 401 and 7 of 403, but INTERNAL of 400 and UNKNOWN of 413."""
    response = answered(Verdict(status, "x"), caller=Caller(is_grpc=True)).denied_response
    assert response.status.code == for_grpc
    assert "content-type" not in headers_of(response.headers)


def test_grpc_callers_get_one_line_of_text_as_the_message() -> None:
    """Envoy puts the body into grpc-message."""
    response = answered(DENIED, caller=Caller(is_grpc=True)).denied_response
    assert response.body == f"access denied; decision {ID}"


def test_headers_are_set_over_what_the_caller_sent() -> None:
    """A caller can't bring his own."""
    settings = CheckSettings(
        request_headers={"x-decision": "{decision_id}", "x-who": "{principal}|{user}|{verdict}"},
        remove_request_headers=("cookie",),
        allowed_response_headers={"x-rule": "{rule}@{digest}"},
    )
    caller = Caller(principal="td/ns/shop/sa/web", user="user:https://id/alice")
    ok = answered(ALLOWED, settings, caller).ok_response
    assert headers_of(ok.headers) == {
        "x-decision": ID,
        "x-who": "td/ns/shop/sa/web|user:https://id/alice|allow",
    }
    assert {option.append_action for option in ok.headers} == {
        HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    }
    assert list(ok.headers_to_remove) == ["cookie"]
    assert headers_of(ok.response_headers_to_add) == {"x-rule": f"policy.csv:12@{DIGEST}"}


def test_denied_responses_have_headers_of_their_own() -> None:
    """Those for allowed requests are not set on them."""
    settings = CheckSettings(
        request_headers={"x-a": "1"}, denied_response_headers={"x-decision": "{decision_id}"}
    )
    headers = headers_of(answered(DENIED, settings).denied_response.headers)
    assert headers == {"x-decision": ID, "content-type": "application/json"}


def test_a_users_name_can_not_break_out_of_a_header() -> None:
    """What is not printable ASCII is percent-encoded."""
    settings = CheckSettings(request_headers={"x-user": "{user}"})
    caller = Caller(user="user:i/a\r\nx-admin: 1\udcff é%")
    value = answered(ALLOWED, settings, caller).ok_response.headers[0].header.value
    assert value == "user:i/a%0D%0Ax-admin: 1%FF %C3%A9%25"


def test_answers_of_one_kind_differ_in_their_id_only() -> None:
    """What is kept of an answer is never another's."""
    responder = Responder(CheckSettings())
    for verdict in (ALLOWED, DENIED, NO_RULE, NO_CREDENTIAL, DENIED, ALLOWED):
        for decision_id in (ID, OTHER_ID):
            kept = responder.response(verdict, decision_id, DIGEST)
            assert CheckResponse.FromString(kept) == answered(verdict, decision_id=decision_id)


def test_an_id_of_another_length_is_answered_too() -> None:
    """Slower, and right."""
    metadata = MessageToDict(answered(ALLOWED, decision_id="7").dynamic_metadata)
    assert metadata["meshwarden"]["id"] == "7"


def test_what_is_kept_of_answers_is_bounded() -> None:
    """Callers who make each denial look different don't fill the memory."""
    responder = Responder(CheckSettings())
    for number in range(5_000):
        responder.response(Verdict(403, "x", misses=(str(number),)), ID, DIGEST)
    assert len(responder._pieces) <= 2_048


def test_text_that_is_not_utf8_is_shown_and_does_not_raise() -> None:
    """Misses may quote what a caller sent."""
    response = answered(Verdict(403, "x", misses=("\udcff",)))
    assert MessageToDict(response.dynamic_metadata)["meshwarden"]["misses"] == ["?"]


def test_a_fault_of_ours_is_no_denial() -> None:
    """Envoy takes `error_response` by its failure mode."""
    response = CheckResponse.FromString(Responder(CheckSettings()).fault())
    assert response.WhichOneof("http_response") == "error_response"
    assert response.error_response.status.code == 503
    assert response.status.code == 14
