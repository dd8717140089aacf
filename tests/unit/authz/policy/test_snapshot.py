"""A Snapshot as a whole: its digest, its build, its release, its plan; and the engine inside."""

import gc
import weakref
from random import Random

import pytest

from authz.policy.engine import Engine
from authz.policy.errors import PolicyError
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from tests.unit.authz.policy.policies import PRIORITY, built, mesh, model

BY_ROLE = model("g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act", roles="g = _, _")


def many(count: int) -> tuple[Row, ...]:
    """Rows of an RBAC policy."""
    rules = [Row("p", (f"r{n % 7}", f"d{n}", "read"), "many.csv", n + 1) for n in range(count)]
    return (*rules, *[Row("g", (f"u{n}", f"r{n % 7}")) for n in range(count)])


def test_the_digest_is_of_the_policy_and_not_of_its_files() -> None:
    """The same rows in another order, from another file, are the same policy."""
    one = mesh("p, *, *, GET, /a, allow\np, *, *, PUT, /b, deny")
    two = mesh("# head\np, *, *, PUT, /b, deny, \np, *, *, GET, /a, allow")
    other = mesh("p, *, *, GET, /a, allow\np, *, *, PUT, /b, allow")
    assert one.digest == two.digest != other.digest
    assert len(one.digest) == 64


def test_the_digest_tells_orders_apart_where_order_decides() -> None:
    """And bindings."""
    text = model("r.sub == p.sub", policy="sub, eft", effect=PRIORITY)
    one, two = built(text, "p, a, allow\np, a, deny"), built(text, "p, a, deny\np, a, allow")
    assert one.digest != two.digest
    rows = PolicyText(text, (), "m")
    bound = Snapshot.build(rows, {"sub": "source.principal"}).digest
    assert bound != Snapshot.build(rows, {"sub": "source.ip"}).digest


def test_a_build_in_slices_makes_the_same_snapshot() -> None:
    """And stops for breath on the way."""
    text = PolicyText(BY_ROLE, many(2000), "m")
    building = Snapshot.build_in_slices(text)
    breaths = 0
    while True:
        try:
            next(building)
        except StopIteration as done:
            sliced = done.value
            break
        breaths += 1
    assert breaths > 20
    assert sliced.digest == Snapshot.build(text).digest
    assert sliced.decide(("u8", "d1", "read")).allowed


def test_a_released_snapshot_leaves_nothing_large_behind() -> None:
    """Every rule is gone once the release has run, before the Snapshot itself is dropped."""
    snapshot = Snapshot.build(PolicyText(mesh_model(), mesh_rows(300)))
    assert snapshot.decide(("td/ns/n/sa/s1", "", "s", "GET", "/a/1/b", {})).allowed
    rules = snapshot._engine.rules["p"]
    alive = weakref.ref(snapshot._engine.program())
    assert len(list(snapshot.release())) > 3
    assert len(rules) == 0
    del snapshot
    gc.collect()
    assert alive() is None


def mesh_rows(count: int) -> tuple[Row, ...]:
    """Rows of a mesh policy."""
    return tuple(
        Row("p", (f"td/ns/n/sa/s{n}", "*", "GET", f"/a/{n}/*", "allow", "")) for n in range(count)
    )


def test_a_thousand_rules_are_not_tried_one_by_one() -> None:
    """The plan says what is looked up, and warns of what is not."""
    (plan,) = mesh("p, *, *, GET, /a, allow").plan()
    (branch,) = plan.branches
    assert [term.how for term in branch] == ["indexed"] * 4 + ["scanned"]
    assert plan.warnings == ()
    (plan,) = built(model("r.sub.age > p.act", policy="act"), "p, 18").plan()
    assert "full scan" in plan.warnings[0]
    (plan,) = built(model('r.sub == p.sub || r.act == "x"'), "p, a, b, c").plan()
    assert [[term.how for term in branch] for branch in plan.branches] == [["indexed"], ["guard"]]
    (plan,) = built(model("regexMatch(r.act, p.act)"), "p, a, b, .*x\np, a, b, .*y").plan()
    assert "tried one by one" in plan.warnings[0]


def test_who_can_and_what_can_are_asked_with_fields_left_open() -> None:
    """The answer is rules, and what hangs on the open fields."""
    policy = mesh(
        "p, role:ops, *, *, /admin/**, allow\np, *, *, GET, /**, allow\ng, td/ns/o/sa/*, role:ops",
    )
    grants = policy.who_can({"service": "s", "method": "PUT", "path": "/admin/x"})
    assert [(grant.rule.where, grant.members) for grant in grants] == [
        ("policy.csv:1", ("td/ns/o/sa/*",)),
    ]
    rules = [grant.rule.where for grant in policy.what_can({"who": "td/ns/o/sa/a", "user": ""})]
    assert rules == ["policy.csv:1", "policy.csv:2"]
    with pytest.raises(KeyError, match="no field 'nobody'"):
        policy.who_can({"nobody": "x"})


def test_an_explanation_has_every_matching_rule_and_the_way_to_the_role() -> None:
    """Also those that did not decide."""
    policy = built(BY_ROLE, "p, admin, d, read\np, al, d, read\ng, al, staff\ng, staff, admin")
    explained = policy.explain(("al", "d", "read"))
    assert [rule.where for rule in explained.matching] == ["policy.csv:1", "policy.csv:2"]
    assert explained.role_path == ("al", "staff", "admin")
    missed = policy.explain(("al", "d", "write"))
    assert [miss.reason for miss in missed.misses] == ["act is 'write', the rule has 'read'"] * 2


def test_rules_and_roles_can_come_and_go() -> None:
    """After each change the engine decides as one built from what is left."""
    chance = Random(5)
    engine = Engine(parse_model(BY_ROLE, "m"))
    rows = [*many(90), *many(3)]
    there: list[Row] = []
    for step in range(600):
        if there and chance.random() < 0.4:
            row = there.pop(chance.randrange(len(there)))
            assert engine.remove(row.ptype, row.values)
        else:
            row = chance.choice(rows)
            there.append(row)
            engine.add(row)
        request = (f"u{chance.randrange(9)}", f"d{chance.randrange(9)}", "read")
        fresh = engine.decide_by_scan(request)
        assert engine.decide(request).allowed == fresh.allowed, step
    assert not engine.remove("p", ("nobody", "d1", "read"))
    assert not engine.remove("g", ("nobody", "r1"))


def test_patterns_can_come_and_go() -> None:
    """Whatever kind of index they are in."""
    text = model("keyMatch2(r.obj, p.obj) && ipMatch(r.sub, p.sub) && regexMatch(r.act, p.act)")
    chance = Random(6)
    engine = Engine(parse_model(text, "m"), EngineOptions(backtracking_regex=True))
    paths = ["/a", "/a/:x", "/a/*", "/:x/b", "/a.b", "*", "/a/b"]
    nets = ["10.0.0.0/8", "10.1.0.0/16", "::1"]
    acts = ["re.*", "read", ".*d", "^w", "(a|b)"]
    there: list[tuple[str, ...]] = []
    for _ in range(400):
        if there and chance.random() < 0.45:
            assert engine.remove("p", there.pop(chance.randrange(len(there))))
        else:
            there.append((chance.choice(nets), chance.choice(paths), chance.choice(acts)))
            engine.add(Row("p", there[-1]))
        request = (
            chance.choice(["10.1.2.3", "10.2.0.1", "::1"]),
            chance.choice(["/a", "/a/b", "/x/b", "/axb", "/a\n", ""]),
            chance.choice(["read", "write", "a"]),
        )
        assert engine.decide(request).rule == engine.decide_by_scan(request).rule


def test_a_policy_of_another_model_is_refused_whole() -> None:
    """A matcher with two faults still names the model's line."""
    with pytest.raises(PolicyError, match=r"model.conf:\d+: unknown policy effect"):
        built(model("r.sub == p.sub", effect="some(where (p.eft == maybe))"), "")
