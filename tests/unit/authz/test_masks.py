"""What is told of a request: nothing that opens doors, and no header or claim unasked."""

from collections.abc import Mapping

import pytest

from authz import masks
from authz.policy.csv_rows import parse_csv
from authz.policy.options import Privacy
from authz.policy.rules import PolicyText
from meshwarden.follower import build_policy
from meshwarden.publication import Publication
from meshwarden.service import check_service
from meshwarden.settings import Decisions, Settings
from telemetry.record import DecisionRecord
from tests.fakes.envoy import check_request
from tests.unit.authz.policy.policies import model

SIGNED = "eyJhbGciOiJub25l.eyJzdWIiOiJhbm4i.c2ln"


def recorded(
    csv: str,
    bind: Mapping[str, str],
    sent: Mapping[str, str],
    signed: Mapping[str, object] | None = None,
    matcher: str = "",
    **decisions: tuple[str, ...],
) -> DecisionRecord:
    """The record of one request, judged by a model of somebody's own."""
    made: list[DecisionRecord] = []
    settings = Settings(decisions=Decisions(sample_allows=1, **decisions))  # type: ignore[arg-type]
    fields = ", ".join(bind)
    matcher = matcher or " && ".join(f"r.{name} == p.{name}" for name in bind)
    rows, _ = parse_csv(csv, "policy.csv")
    text = PolicyText(model(matcher, request=fields, policy=fields), tuple(rows), "model.conf")
    service = check_service(settings, made.append)
    service.policy = build_policy(Publication(text, dict(bind), "", 0, ""), settings)
    tokens = {"jwt": {"iss": "https://id", "sub": "ann", **(signed or {})}}
    request = check_request("/a?code=hidden-code", headers=dict(sent), tokens=tokens)
    service.answer(request.SerializeToString(), 1)
    (record,) = made
    return record


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Proxy-Authorization", "cookie", "set-cookie", "x-api-key", "X-ApiKey",
        "x-amz-security-token", "x-auth", "x-csrf-token", "session_id", "x-forwarded-client-cert",
        "client_secret", "password", "x-hub-signature-256", "id_token", "at_jwt", "sid", "nonce",
    ],
)  # fmt: skip
def test_names_of_what_opens_doors_are_known(name: str) -> None:
    """In any letter case, as a header or as a claim."""
    assert masks.is_secret(name)


@pytest.mark.parametrize(
    "name", ["accept", ":authority", "x-env", "user-agent", "sub", "email", "groups", "author"]
)
def test_names_of_other_things_are_told_from_them(name: str) -> None:
    """A log that masks everything says nothing."""
    assert not masks.is_secret(name)


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        ("source.principal", Privacy.TOLD),
        ("request.path", Privacy.TOLD),
        ("request.headers['x-tenant']", Privacy.PRIVATE),
        ('request.headers["X-Env"]', Privacy.TOLD),
        ("request.raw_headers['x-env']", Privacy.TOLD),
        ("request.headers['cookie']", Privacy.SECRET),
        ("request.auth.claims['team']", Privacy.TOLD),
        ("request.auth.claims['email']", Privacy.PRIVATE),
        ("request.auth.claims['team']['lead']", Privacy.PRIVATE),
        ("request.query_params['token']", Privacy.SECRET),
        ("request.query", Privacy.PRIVATE),
        ("request.raw_path", Privacy.PRIVATE),
        ("metadata.filter['a']['b']", Privacy.PRIVATE),
    ],
)
def test_what_the_settings_name_is_told_and_no_secret(attribute: str, found: Privacy) -> None:
    """Even where they name it."""
    assert masks.privacy(attribute, ["x-env", "cookie"], ["team"]) is found


def test_a_record_keeps_no_header_and_no_claim_unasked() -> None:
    """The default."""
    record = recorded("", {"path": "request.path"}, {"x-env": "prod"}, {"email": "ann@x"})
    assert (record.headers, record.claims) == ({}, {})


def test_a_record_keeps_those_that_the_settings_name() -> None:
    """What isn't there is left out, lists are told as JSON, long values are cut."""
    record = recorded(
        "",
        {"path": "request.path"},
        {"x-env": "prod", "x-long": "a" * 1000},
        {"groups": ["a", "b"], "level": 3},
        headers=("x-env", "x-long", "x-none"),
        claims=("groups", "level", "none"),
    )
    assert record.headers == {"x-env": "prod", "x-long": "a" * 253 + "..."}
    assert record.claims == {"groups": '["a", "b"]', "level": "3.0"}


def test_what_opens_doors_is_masked_although_it_is_named() -> None:
    """By its name, by its form, and inside of something else."""
    record = recorded(
        "",
        {"path": "request.path"},
        {"authorization": "Bearer hidden", "x-odd": f"v1 {SIGNED}", "x-plain": "bearer hidden"},
        {"act": {"sub": "bob", "access_token": "hidden"}, "raw": ["x", SIGNED]},
        headers=("authorization", "x-odd", "x-plain"),
        claims=("act", "raw"),
    )
    assert record.headers == dict.fromkeys(("authorization", "x-odd", "x-plain"), "[masked]")
    assert record.claims == {
        "act": '{"access_token": "[masked]", "sub": "bob"}',
        "raw": '["x", "[masked]"]',
    }


def test_a_near_miss_tells_no_header_that_a_field_is_bound_to() -> None:
    """That it was there is told, and what the rule has."""
    bind = {"tenant": "request.headers['x-tenant']", "path": "request.path"}
    record = recorded("p, acme, /a", bind, {"x-tenant": "hidden"})
    assert record.misses == ("policy.csv:1: tenant is [masked], the rule has 'acme'",)
    record = recorded("p, acme, /a", bind, {"x-tenant": "other"}, headers=("x-tenant",))
    assert record.misses == ("policy.csv:1: tenant is 'other', the rule has 'acme'",)
    record = recorded("p, acme, /a", bind, {})
    assert record.misses == ("policy.csv:1: tenant is nothing, the rule has 'acme'",)


@pytest.mark.parametrize("sent", ["hidden", "other-hidden"])
def test_a_rule_whose_words_are_a_secret_is_told_without_them(sent: str) -> None:
    """A request that matched has held the very same."""
    bind = {"key": "request.headers['x-api-key']", "path": "request.path"}
    record = recorded("p, hidden, /a", bind, {"x-api-key": sent}, headers=("x-api-key",))
    assert "hidden" not in str(record)
    assert record.headers == {"x-api-key": "[masked]"}
    if sent == "hidden":
        assert (record.verdict, record.rule_text) == ("allow", "p, [masked], /a")
    else:
        assert record.misses == ("policy.csv:1: key is [masked], the rule has [masked]",)


@pytest.mark.parametrize(
    "matcher",
    ['r.key == "hidden" && r.path == p.path', "eval(p.key) && r.path == p.path"],
)
@pytest.mark.parametrize("sent", ["hidden", "other-hidden"])
def test_a_secret_in_a_matcher_or_in_a_rules_condition_is_not_told(matcher: str, sent: str) -> None:
    """Whether it matched or nearly did."""
    bind = {"key": "request.headers['x-api-key']", "path": "request.path"}
    csv = 'p, r.key == "hidden", /a' if "eval" in matcher else "p, any, /a"
    record = recorded(csv.replace('"', "'"), bind, {"x-api-key": sent}, matcher=matcher)
    assert (record.verdict == "allow") is (sent == "hidden")
    assert "hidden" not in str(record)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("request.headers['x-env'] == 'prod'", "request.headers['x-env'] == 'prod'"),
        ("request.headers['X-Api-Key'] == 'k'", "request.headers['X-Api-Key'] == '[masked]'"),
        ("'k' == request.headers[\"cookie\"]", "'[masked]' == request.headers[\"cookie\"]"),
        ("request.headers['cookie'] in ['a', 'b'", "request.headers['cookie'] in ['[masked]', "),
        ("request.headers['cookie'] == 'cut of", "request.headers['cookie'] == '[masked]'"),
        ("p, role:x, s, GET, /a, allow", "p, role:x, s, GET, /a, allow"),
    ],
)
def test_a_condition_on_a_secret_is_told_without_its_literals(text: str, masked: str) -> None:
    """Where it compares with one; other conditions stay as they are written."""
    assert masks.masked_text(text).startswith(masked)
