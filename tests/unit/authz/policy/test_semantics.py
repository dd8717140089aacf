"""Casbin's semantics: effects, roles in all their forms, several definitions, the empty policy."""

from datetime import timedelta
from typing import Any

import pytest

from authz.policy.errors import PolicyError
from authz.policy.snapshot import Terms
from tests.unit.authz.policy.policies import (
    ALLOW,
    BOTH,
    NOON,
    NOT_DENY,
    PRIORITY,
    SUBJECT,
    built,
    model,
)

SAME = "r.sub == p.sub && r.obj == p.obj && r.act == p.act"
BY_ROLE = "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"
WITH_EFFECT = "sub, obj, act, eft"


def said(policy: Any, *request: Any) -> tuple[bool, str | None]:
    """The verdict and where the deciding rule stands."""
    decision = policy.decide(request)
    assert (decision.allowed, decision.rule) == (
        policy.decide_by_scan(request).allowed,
        policy.decide_by_scan(request).rule,
    )
    return decision.allowed, decision.rule and decision.rule.where


BOTH_WAYS = "p, al, d, read, allow\np, al, d, read, deny"


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (ALLOW, (True, "policy.csv:1")),
        (NOT_DENY, (False, "policy.csv:2")),
        (BOTH, (False, "policy.csv:2")),
        (PRIORITY, (True, "policy.csv:1")),
    ],
)
def test_each_effect_weighs_an_allow_and_a_deny_its_own_way(
    effect: str,
    verdict: tuple[bool, str],
) -> None:
    """The same two rules, four verdicts' reasons."""
    policy = built(model(SAME, policy=WITH_EFFECT, effect=effect), BOTH_WAYS)
    assert said(policy, "al", "d", "read") == verdict


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [(ALLOW, False), (NOT_DENY, True), (BOTH, False), (PRIORITY, False)],
)
def test_each_effect_has_its_own_verdict_when_nothing_matches(
    effect: str, *, verdict: bool
) -> None:
    """Only deny-override lets pass what no rule speaks of."""
    policy = built(model(SAME, policy=WITH_EFFECT, effect=effect), BOTH_WAYS)
    assert said(policy, "bo", "d", "read") == (verdict, None)


def test_an_explicit_priority_decides_before_the_order_of_rows() -> None:
    """A smaller number first; equal numbers by order."""
    text = model(SAME, policy=f"priority, {WITH_EFFECT}", effect=PRIORITY)
    policy = built(
        text, "p, 10, al, d, read, allow\np, 2, al, d, read, deny\np, -1, bo, d, read, allow"
    )
    assert said(policy, "al", "d", "read") == (False, "policy.csv:2")
    with pytest.raises(PolicyError, match="priority 'first' is not a whole number"):
        built(text, "p, first, al, d, read, allow")


def test_the_deepest_subject_decides_first() -> None:
    """A rule for a person beats one for the person's role, and that one for the role's role."""
    text = model(BY_ROLE, policy=WITH_EFFECT, effect=SUBJECT, roles="g = _, _")
    csv = """
        p, root, d, read, deny
        p, admin, d, read, deny
        p, staff, d, read, deny
        p, jane, d, read, allow
        g, admin, root
        g, staff, admin
        g, jane, staff
        g, al, staff
    """
    policy = built(text, csv)
    assert said(policy, "jane", "d", "read") == (True, "policy.csv:5")
    assert said(policy, "al", "d", "read") == (False, "policy.csv:4")
    with pytest.raises(PolicyError, match="circle: admin, root"):
        built(text, "g, admin, root\ng, root, admin")


def test_roles_are_followed_nine_links_deep_and_circles_end() -> None:
    """Casbin's depth; what is further away is not reached."""
    links = "\n".join(f"g, r{number}, r{number + 1}" for number in range(12))
    policy = built(
        model(BY_ROLE, roles="g = _, _"), f"p, r9, d, a\np, r10, d, b\n{links}\ng, r3, r1"
    )
    assert policy.decide(("r0", "d", "a")).allowed
    assert not policy.decide(("r0", "d", "b")).allowed
    assert policy.explain(("r7", "d", "a")).role_path == ("r7", "r8", "r9")


DOMAINS = model(
    "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj",
    request="sub, dom, obj",
    policy="sub, dom, obj",
    roles="g = _, _, _",
)


def test_a_role_in_one_domain_is_none_in_another() -> None:
    """Tenants stay apart."""
    policy = built(DOMAINS, "p, admin, d1, x\np, admin, d2, x\ng, al, admin, d1")
    assert said(policy, "al", "d1", "x") == (True, "policy.csv:1")
    assert said(policy, "al", "d2", "x") == (False, None)


def test_domains_may_be_matched_by_pattern() -> None:
    """A role in `*` is one in every domain."""
    csv = "p, admin, d1, x\np, admin, d2, x\ng, al, admin, d*"
    policy = built(DOMAINS, csv, domain_matching={"g": "keyMatch"})
    assert said(policy, "al", "d2", "x") == (True, "policy.csv:2")
    assert said(policy, "bo", "d2", "x") == (False, None)


PATTERNS = model(
    "g(r.sub, p.sub) && g2(r.obj, p.obj) && regexMatch(r.act, p.act)",
    roles="g = _, _\ng2 = _, _",
)
PATTERN_ROWS = """
p, alice, /pen/1, GET
p, book_admin, book_group, GET
p, pen_admin, pen_group, GET
g, alice, book_admin
g, bob, pen_admin
g2, /book/:id, book_group
g2, /pen/:id, pen_group
"""


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        (("alice", "/book/1", "GET"), True),
        (("alice", "/pen/1", "GET"), True),
        (("alice", "/pen/2", "GET"), False),
        (("bob", "/book/1", "GET"), False),
        (("bob", "/pen/2", "GET"), True),
    ],
)
def test_members_of_a_role_may_be_patterns(request_: tuple[str, ...], *, verdict: bool) -> None:
    """Every book is in the group of books."""
    policy = built(PATTERNS, PATTERN_ROWS, role_matching={"g2": "keyMatch2"})
    assert said(policy, *request_)[0] is verdict


CONDITIONAL = model(BY_ROLE, roles="g = _, _, (_, _)")


def test_a_link_may_hold_for_a_time_only() -> None:
    """And is asked about at each decision."""
    clock = [NOON]
    policy = built(
        CONDITIONAL,
        """
        p, night, d, read
        g, al, night, 2026-06-01 11:00:00, 2026-06-01 13:00:00
        g, bo, night, _, _
        """,
        now=lambda: clock[0],
        link_condition={"g": "timeMatch"},
    )
    assert policy.decide(("al", "d", "read")).allowed
    clock[0] += timedelta(hours=2)
    assert not policy.decide(("al", "d", "read")).allowed
    assert policy.decide(("bo", "d", "read")).allowed


def test_a_condition_that_nothing_would_check_is_refused() -> None:
    """Nothing silently does nothing."""
    with pytest.raises(PolicyError, match="no condition is configured"):
        built(CONDITIONAL, "p, night, d, read\ng, al, night, _, _")


SEVERAL = """
[request_definition]
r = sub, obj, act
r2 = sub, obj, act
[policy_definition]
p = sub, obj, act
p2 = sub_rule, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
e2 = !some(where (p2.eft == deny))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
m2 = eval(p2.sub_rule) && r2.obj == p2.obj && r2.act == p2.act
"""


def test_several_definitions_live_in_one_model() -> None:
    """Each matcher with its own request, policy and effect, or with another's effect."""
    policy = built(
        SEVERAL,
        "p, admin, d, read\ng, al, admin\np2, r2.sub.age > 18, d, read, allow",
    )
    second = Terms("r2", "p2", "e", "m2")
    assert policy.decide(("al", "d", "read")).allowed
    assert policy.decide(({"age": 20}, "d", "read"), second).allowed
    assert not policy.decide(({"age": 10}, "d", "read"), second).allowed
    assert policy.decide(({"age": 10}, "d", "read"), Terms("r2", "p2", "e2", "m2")).allowed
    with pytest.raises(PolicyError, match="not among the definitions"):
        policy.decide(("al", "d", "read"), Terms("r2", "p", "e", "m2"))


def test_an_empty_policy_asks_the_matcher_once() -> None:
    """ABAC without rules; and nothing to match is nothing allowed."""
    abac = built(model("r.sub == r.obj.owner", request="sub, obj", policy="sub, obj"), "")
    assert abac.decide(("al", {"owner": "al"})).allowed
    assert not abac.decide(("al", {"owner": "bo"})).allowed
    assert not abac.decide(("al", "odd")).allowed
    assert said(built(model(SAME), ""), "al", "d", "read") == (False, None)
    assert said(built(model(SAME, effect=NOT_DENY), ""), "al", "d", "read") == (True, None)


def test_a_superuser_needs_no_rule() -> None:
    """The idiom with ||: the first rule is named as the one that decided."""
    policy = built(model(f'{SAME} || r.sub == "root"'), "p, al, d, read\np, bo, d, read")
    assert said(policy, "root", "any", "any") == (True, "policy.csv:1")
    assert said(policy, "bo", "d", "read") == (True, "policy.csv:2")


def test_an_effect_that_is_neither_is_refused_or_takes_no_part() -> None:
    """In the server `Deny` is a fault; pycasbin's way is an option."""
    text = model(SAME, policy=WITH_EFFECT, effect=NOT_DENY)
    with pytest.raises(PolicyError, match="unknown effect 'Deny'"):
        built(text, "p, al, d, read, Deny")
    assert built(text, "p, al, d, read, Deny", any_effect=True).decide(("al", "d", "read")).allowed


def test_functions_of_the_program_may_be_called() -> None:
    """And judge closed when they raise."""

    def owns(subject: str, thing: str) -> bool:
        if subject == "odd":
            raise RuntimeError(subject)
        return thing.startswith(subject)

    policy = built(
        model("owns(r.sub, r.obj) && r.act == p.act", policy="act"),
        "p, read",
        functions={"owns": owns},
    )
    assert policy.decide(("al", "al/1", "read")).allowed
    assert not policy.decide(("bo", "al/1", "read")).allowed
    odd = policy.decide(("odd", "odd/1", "read"))
    assert not odd.allowed
    assert [rule.where for rule in odd.faults] == ["policy.csv:1"]


def test_an_address_that_is_none_denies_without_trying_every_rule() -> None:
    """A deny rule counts as matching, an allow rule does not, and some of them are named."""
    text = model("ipMatch(r.ip, p.net)", request="ip", policy="net, eft", effect=BOTH)
    allow = "\n".join(f"p, 10.0.{number}.0/24, allow" for number in range(200))
    open_ = built(text, allow)
    assert said(open_, "10.0.7.9") == (True, "policy.csv:8")
    odd = open_.decide(("odd",))
    assert not odd.allowed
    assert 0 < len(odd.faults) <= 8
    closed = built(text, f"{allow}\np, 192.168.0.0/16, deny")
    assert said(closed, "odd") == (False, "policy.csv:201")
