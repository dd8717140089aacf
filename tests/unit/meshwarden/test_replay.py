"""Decisions on record are decided again where that can be told, and never guessed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from authz.policy.options import MASKED, EngineOptions
from authz.policy.rules import PolicyText
from meshwarden.authoring.replay import Judge, replay
from telemetry.record import DecisionRecord
from tests.fakes.policy import mesh_text

_OPEN = "p, *, shop, GET, /open, allow"


def judge(*lines: str, bind: Mapping[str, str] | None = None) -> Judge:
    """A policy of the mesh model."""
    return Judge(mesh_text(*lines), bind or {}, EngineOptions())


def record(verdict: str = "allow", **known: Any) -> DecisionRecord:
    """A decision about GET /open on the shop."""
    reason = {"allow": "allowed by a rule", "deny": "no rule matched"}[verdict]
    about = {"reason": reason, "service": "shop", "method": "GET", "path": "/open", **known}
    return DecisionRecord("id", 1_800_000_000_000_000_000, verdict, 200, **about)


def test_what_would_be_decided_otherwise_is_named_with_its_rule() -> None:
    """Both ways; by workload, by user and by role."""
    candidate = judge(
        "p, role:clerk, shop, GET, /open, allow",
        "p, user:https://id.example/ann, shop, GET, /open, allow",
        "p, *, shop, GET, /shut, allow",
        "g, td/ns/shop/sa/web, role:clerk",
    )
    found = replay(
        [
            record(principal="td/ns/shop/sa/web"),
            record(user="user:https://id.example/ann"),
            record(principal="td/ns/shop/sa/other"),
            record("deny", path="/shut"),
        ],
        candidate,
    )
    assert found.same == 2
    assert not found.untold
    denied, allowed = found.differences
    assert (denied.allowed, denied.rule) == (False, None)
    assert allowed.allowed
    assert allowed.rule is not None
    assert allowed.rule.where == "policy.csv:3"


def test_what_hangs_on_something_that_is_not_on_record_is_not_told() -> None:
    """Only where it is asked for: a rule about another path reads no header."""
    when = "request.headers['x-env'] == 'prod'"
    candidate = judge(_OPEN, f"p, *, shop, GET, /odd, allow, {when}")
    found = replay([record(), record("deny", path="/odd")], candidate)
    assert found.same == 1
    assert list(found.untold) == ["request.headers['x-env'] is not on record"]


@pytest.mark.parametrize(
    ("kept", "told"),
    [({"x-env": "prod"}, 1), ({"x-env": "dev"}, 1), ({"x-env": MASKED}, 0), ({"x-env": "p..."}, 0)],
)
def test_a_header_counts_if_it_was_kept_whole(kept: dict[str, str], told: int) -> None:
    """Masked or cut it is as good as not there."""
    candidate = judge("p, *, shop, GET, /open, allow, request.headers['X-Env'] == 'prod'")
    found = replay([record(headers=kept)], candidate)
    assert found.told == told
    if kept == {"x-env": "prod"}:
        assert found.same == 1


@pytest.mark.parametrize(("kept", "told"), [("night", 1), ("3", 0), ("true", 0), ('["a"]', 0)])
def test_a_claim_counts_if_it_can_only_have_been_text(kept: str, told: int) -> None:
    """A number and the text of it look alike in a record, and not to a policy."""
    candidate = judge("p, *, shop, GET, /open, allow, request.auth.claims['shift'] == 'night'")
    found = replay([record(claims={"shift": kept})], candidate)
    assert found.told == told


@pytest.mark.parametrize(
    "known",
    [
        {"reason": "ambiguous path: it has an encoded slash"},
        {"reason": "the CheckRequest is larger than max_request_bytes"},
        {"reason": "a rule denies another reading of the path"},
        {"reason": "the decision raised ValueError"},
        {"path": "/" + "a" * 1023},
        {"principal": "not an id"},
    ],
)
def test_what_was_decided_by_more_than_the_record_is_not_told(known: dict[str, str]) -> None:
    """How a path was written is lost, and so is what was too large to read."""
    found = replay([record("deny", **known)], judge(_OPEN))
    assert (found.told, found.untold.total()) == (0, 1)


def test_a_decision_that_its_own_policy_would_not_make_again_is_not_told() -> None:
    """Something else has decided then, whatever it was; other policies' are believed."""
    enforced = judge(_OPEN)
    odd, other = record("deny", digest=enforced.digest), record("deny", digest="other")
    found = replay([odd, other], judge("p, *, *, GET, /**, allow"), enforced)
    assert len(found.differences) == 1
    assert found.differences[0].record is other
    assert found.untold.total() == 1


def test_what_a_shadow_said_is_no_decision() -> None:
    """It stands beside the one that was made."""
    found = replay([record(), _as_shadow(record())], judge(_OPEN))
    assert (found.same, found.told, found.untold.total()) == (1, 1, 0)


def _as_shadow(said: DecisionRecord) -> DecisionRecord:
    said.verdict = "would_deny"
    return said


def test_a_model_of_ones_own_is_asked_in_its_fields() -> None:
    """A field that is bound to what no record holds makes nothing of it tellable."""
    model = (
        "[request_definition]\nr = sub, act\n[policy_definition]\np = sub, act\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.sub == p.sub && r.act == p.act\n"
    )
    rows = mesh_text("p, td/ns/shop/sa/web, GET").rows
    text = PolicyText(model, rows, "model.conf")
    asked = [record(principal="td/ns/shop/sa/web")]
    known = Judge(text, {"sub": "source.principal", "act": "request.method"}, EngineOptions())
    assert replay(asked, known).same == 1
    unknown = Judge(text, {"sub": "connection.sni", "act": "request.method"}, EngineOptions())
    assert list(replay(asked, unknown).untold) == ["connection.sni is not on record"]


def test_options_of_the_engine_reach_the_candidate() -> None:
    """A condition may call what the settings allow."""
    options = dataclasses.replace(EngineOptions(), functions={"odd": lambda text: len(text) % 2})
    text = mesh_text("p, *, shop, GET, /open, allow, odd(request.method)")
    assert replay([record()], Judge(text, {}, options)).same == 1
