"""Models, rules and requests of the engine's scenarios; the same on every run.

Half of the requests are allowed, spread evenly over the rules; half are denied.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

__all__ = ["CASES", "Case", "Person", "Resource", "Rules", "requests"]

Rules = list[tuple[str, ...]]
"""Rows as (ptype, value, value, ...)."""

_SEED = 20261123
_HEAD = "[request_definition]\nr = {r}\n[policy_definition]\np = {p}\n"
_ROLES = "[role_definition]\n{g}\n"
_TAIL = "[policy_effect]\ne = {e}\n[matchers]\nm = {m}\n"
_ALLOW = "some(where (p.eft == allow))"
_DENY_WINS = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
_PRIORITY = "priority(p.eft) || deny"


class Person:
    """A subject with attributes, as ABAC models compare them."""

    def __init__(self, name: str, age: int) -> None:
        self.Name = name
        self.Age = age


class Resource:
    """An object with an owner."""

    def __init__(self, name: str, owner: str) -> None:
        self.Name = name
        self.Owner = owner


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario.

    Attributes:
        name: Stable; "/RULES" is added.
        model: The Casbin model.
        rules: Makes the rows of a policy of n rules.
        allowed: Makes a request that rule i of n allows.
        denied: Makes a request near to it that nothing allows.
        is_indexed: Whether the engine can look its rules up; free-form conditions are tried.
    """

    name: str
    model: str
    rules: Callable[[int], Rules]
    allowed: Callable[[int, int], Sequence[object]]
    denied: Callable[[int, int], Sequence[object]]
    is_indexed: bool = True


def requests(case: Case, rules: int, count: int) -> list[Sequence[object]]:
    """Make `count` requests for a policy of that many rules, in an order drawn by a fixed seed."""
    chance = random.Random(_SEED)
    half = count // 2
    places = [index * rules // half for index in range(half)]
    made = [case.allowed(place, rules) for place in places]
    made += [case.denied(place, rules) for place in places]
    chance.shuffle(made)
    return made


def _model(
    *, r: str = "sub, obj, act", p: str = "sub, obj, act", g: str = "", e: str = _ALLOW, m: str
) -> str:
    return _HEAD.format(r=r, p=p) + (_ROLES.format(g=g) if g else "") + _TAIL.format(e=e, m=m)


def _acl(n: int) -> Rules:
    return [("p", f"user{i}", f"data{i // 10}", "read") for i in range(n)]


def _rbac(n: int) -> Rules:
    """A role for ten rules and a user for each role."""
    rules: Rules = [("p", f"role{i // 10}", f"data{i}", "read") for i in range(n)]
    return rules + [("g", f"user{i}", f"role{i}") for i in range(max(1, n // 10))]


def _domains(n: int) -> Rules:
    """Ten domains; in each a user reaches a rule's role by four roles between."""
    rules: Rules = []
    for i in range(n):
        domain = f"domain{i % 10}"
        rules.append(("p", f"role{i // 10}-4", domain, f"data{i}", "read"))
    for i in range(max(1, n // 10)):
        for d in range(10):
            domain = f"domain{d}"
            chain = [f"user{i}", *(f"role{i}-{depth}" for depth in range(5))]
            if d == 0 or n <= 1000:  # Else roles would outnumber rules fifty to one.
                rules += [("g", a, b, domain) for a, b in pairwise(chain)]
    return rules


def _mesh(n: int) -> Rules:
    """Services of a mesh, 50 rules each, with patterns in paths."""
    rules: Rules = []
    for i in range(n):
        service = i // 50
        who = f"td/ns/n{service % 20}/sa/caller{i % 50}" if i % 3 else f"role:team{service}"
        rules.append(
            ("p", who, f"svc{service}", "GET|POST", f"/api/v1/r{i}/*/items/**", "allow", "")
        )
    return rules + [
        ("g", f"td/ns/teams/sa/lead{service}", f"role:team{service}")
        for service in range(n // 50 + 1)
    ]


def _mesh_request(i: int, method: str) -> Sequence[object]:
    service = i // 50
    who = f"td/ns/n{service % 20}/sa/caller{i % 50}" if i % 3 else f"td/ns/teams/sa/lead{service}"
    return (who, "", f"svc{service}", method, f"/api/v1/r{i}/17/items/a/b", None)


def _keymatch2(n: int) -> Rules:
    return [("p", f"user{i // 10}", f"/tenants/t{i}/orders/:id", "GET") for i in range(n)]


def _deny(n: int) -> Rules:
    """Each tenth rule denies what a wider one allows."""
    return [
        ("p", f"user{i}", f"data{i // 10}", "write" if i % 10 == 9 else "read", _effect(i))
        for i in range(n)
    ]


def _effect(i: int) -> str:
    return "deny" if i % 10 == 9 else "allow"


def _priority(n: int) -> Rules:
    return [("p", str(1 + i % 5), f"user{i}", f"data{i // 10}", "read", "allow") for i in range(n)]


def _regex(n: int) -> Rules:
    return [("p", f"user{i // 10}", f"/tenants/t{i}/orders/[0-9]+$", "GET|POST") for i in range(n)]


def _abac(n: int) -> Rules:
    return [("p", f"data{i}", "read", str(18 + i % 3)) for i in range(n)]


def _eval(n: int) -> Rules:
    return [("p", f"r.sub.Age > 18 && r.sub.Name == 'user{i}'", "data1", "read") for i in range(n)]


CASES: tuple[Case, ...] = (
    Case(
        "acl",
        _model(m="r.sub == p.sub && r.obj == p.obj && r.act == p.act"),
        _acl,
        lambda i, _: (f"user{i}", f"data{i // 10}", "read"),
        lambda i, _: (f"user{i}", f"data{i // 10}", "write"),
    ),
    Case(
        "rbac",
        _model(g="g = _, _", m="g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"),
        _rbac,
        lambda i, _: (f"user{i // 10}", f"data{i}", "read"),
        lambda i, _: (f"user{i // 10}", f"data{i}", "write"),
    ),
    Case(
        "rbac-domains",
        _model(
            r="sub, dom, obj, act",
            p="sub, dom, obj, act",
            g="g = _, _, _",
            m="g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act",
        ),
        _domains,
        lambda i, _: (f"user{i // 10}", "domain0", f"data{i // 10 * 10}", "read"),
        lambda i, _: (f"user{i // 10}", "domain0", f"data{i // 10 * 10}", "write"),
    ),
    Case(
        "mesh",
        resources.files("authz.policy").joinpath("mesh.conf").read_text(),
        _mesh,
        lambda i, _: _mesh_request(i, "GET"),
        lambda i, _: _mesh_request(i, "DELETE"),
    ),
    Case(
        "keymatch2",
        _model(m="r.sub == p.sub && keyMatch2(r.obj, p.obj) && r.act == p.act"),
        _keymatch2,
        lambda i, _: (f"user{i // 10}", f"/tenants/t{i}/orders/17", "GET"),
        lambda i, _: (f"user{i // 10}", f"/tenants/t{i}/orders/17/x", "GET"),
    ),
    Case(
        "deny-override",
        _model(
            p="sub, obj, act, eft",
            e=_DENY_WINS,
            m="r.sub == p.sub && r.obj == p.obj && r.act == p.act",
        ),
        _deny,
        lambda i, _: (f"user{i // 10 * 10}", f"data{i // 10}", "read"),
        lambda i, _: (f"user{i // 10 * 10 + 9}", f"data{i // 10}", "write"),
    ),
    Case(
        "priority",
        _model(
            p="priority, sub, obj, act, eft",
            e=_PRIORITY,
            m="r.sub == p.sub && r.obj == p.obj && r.act == p.act",
        ),
        _priority,
        lambda i, _: (f"user{i}", f"data{i // 10}", "read"),
        lambda i, _: (f"user{i}", f"data{i // 10}", "write"),
    ),
    Case(
        "regexmatch",
        _model(m="r.sub == p.sub && regexMatch(r.obj, p.obj) && regexMatch(r.act, p.act)"),
        _regex,
        lambda i, _: (f"user{i // 10}", f"/tenants/t{i}/orders/17", "GET"),
        lambda i, _: (f"user{i // 10}", f"/tenants/t{i}/orders/x", "GET"),
    ),
    Case(
        "abac",
        _model(
            p="obj, act, age",
            m="r.sub.Age > 18 && r.obj.Owner == r.sub.Name "
            "&& r.obj.Name == p.obj && r.act == p.act",
        ),
        _abac,
        lambda i, _: (Person("ann", 30), Resource(f"data{i}", "ann"), "read"),
        lambda i, _: (Person("ann", 30), Resource(f"data{i}", "bob"), "read"),
    ),
    Case(
        "eval",
        _model(
            p="sub_rule, obj, act",
            m="eval(p.sub_rule) && r.obj == p.obj && r.act == p.act",
        ),
        _eval,
        lambda i, _: (Person(f"user{i}", 30), "data1", "read"),
        lambda i, _: (Person(f"user{i}", 10), "data1", "read"),
        is_indexed=False,
    ),
)
"""Every scenario. Free-form ABAC (`eval`) can't be indexed: each rule is an expression."""
