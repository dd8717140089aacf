"""Small worlds for the engine's properties: a model, and chance for its rows and requests.

The words are few, so that requests meet rules often. Chance comes from a seed that hypothesis
draws: drawing each word by itself took longer than all the decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from authz.policy.mesh import mesh_model
from authz.policy.snapshot import EngineOptions, PolicyText, Row

__all__ = ["WORLDS", "World"]

ALLOW = "some(where (p.eft == allow))"
NOT_DENY = "!some(where (p.eft == deny))"
BOTH = f"{ALLOW} && {NOT_DENY}"
PRIORITY = "priority(p.eft) || deny"

SUBJECTS = ["alice", "bob", "root", "admin", "staff"]
OBJECTS = ["data1", "data2", "data3"]
ACTIONS = ["read", "write"]
DOMAINS = ["d1", "d2"]
PATHS = ["/a", "/a/", "/a/b", "/a/b/c", "/ab", "/", "", "/a/b\n", "/x/y/z", "/a.b/c", "/a/b?q=1"]
ADDRESSES = ["10.0.0.1", "10.1.2.3", "192.168.1.7", "::1"]
NETWORKS = ["10.0.0.0/8", "10.1.0.0/16", "192.168.1.7", "0.0.0.0/0", "::/0"]
EFFECTS = ["allow", "deny"]


@dataclass(frozen=True)
class World:
    """One model with what to fill it with.

    Attributes:
        name: For test ids.
        model: Its text.
        rules: For each field of a rule, the words it may hold.
        links: For each role definition, the same.
        request: For each field of a request, the values it may have.
        options: What the engine is built with.
        same_as_pycasbin: Whether pycasbin is asked too.
    """

    name: str
    model: str
    rules: tuple[list[str], ...]
    request: tuple[list[object], ...]
    links: Mapping[str, tuple[list[str], ...]] = field(default_factory=dict)
    options: EngineOptions = field(
        default_factory=lambda: EngineOptions(backtracking_regex=True),
    )
    same_as_pycasbin: bool = True

    def rows(self, chance: Random) -> tuple[Row, ...]:
        """Rows of policy, up to thirty rules and twelve links."""
        rows = [_row("p", self.rules, chance) for _ in range(chance.randrange(31))]
        for key, words in self.links.items():
            rows += [_row(key, words, chance) for _ in range(chance.randrange(13))]
        return tuple(rows)

    def requests(self, chance: Random, count: int) -> list[tuple[object, ...]]:
        """Some requests."""
        return [tuple([chance.choice(values) for values in self.request]) for _ in range(count)]

    def text(self, rows: tuple[Row, ...]) -> PolicyText:
        """The policy that the rows make."""
        return PolicyText(self.model, rows, self.name)


def _row(ptype: str, words: tuple[list[str], ...], chance: Random) -> Row:
    return Row(ptype, tuple([chance.choice(each) for each in words]))


def _model(r: str, p: str, e: str, m: str, *g: str) -> str:
    roles = "\n".join(["[role_definition]", *g]) if g else ""
    return f"""[request_definition]
r = {r}
[policy_definition]
p = {p}
{roles}
[policy_effect]
e = {e}
[matchers]
m = {m}
"""


def _keys(function: str, patterns: list[str]) -> World:
    return World(
        function,
        _model("sub, obj", "sub, obj", ALLOW, f"r.sub == p.sub && {function}(r.obj, p.obj)"),
        (SUBJECTS, patterns),
        (SUBJECTS, PATHS),
    )


TRIPLE = (SUBJECTS, OBJECTS, ACTIONS)
ROLES = {"g": (SUBJECTS, SUBJECTS)}
DOMAIN_ROLES = {"g": (SUBJECTS, SUBJECTS, DOMAINS)}
SAME = "r.sub == p.sub && r.obj == p.obj && r.act == p.act"
BY_ROLE = "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"
KEYS2 = ["/a", "/a/*", "/:x", "/a/:x", "/:x/:y/:z", "/*", "*", "/a.b/:x", "/a/:x/c", "/a/b"]
KEYS3 = ["/a", "/a/*", "/{x}", "/a/{x}", "/{x}/{y}/{z}", "/*", "/a.b/{x}", "/a/{x}/c"]

WORLDS = [
    World(
        "acl",
        _model("sub, obj, act", "sub, obj, act", ALLOW, SAME),
        ([*SUBJECTS, ""], [*OBJECTS, ""], ACTIONS),
        ([*SUBJECTS, ""], [*OBJECTS, ""], ACTIONS),
    ),
    World(
        "superuser",
        _model("sub, obj, act", "sub, obj, act", ALLOW, f'{SAME} || r.sub == "root"'),
        TRIPLE,
        TRIPLE,
    ),
    World(
        "wildcards",
        _model(
            "sub, obj, act",
            "sub, obj, act, eft",
            BOTH,
            '(r.sub == p.sub || p.sub == "*") && (keyMatch(r.obj, p.obj) || r.obj == "data3")'
            ' && (p.act == "*" || regexMatch(r.act, p.act))',
        ),
        (
            [*SUBJECTS, "*"],
            ["data1", "data*", "*"],
            ["*", "read", "(read)|(write)", "re.*"],
            EFFECTS,
        ),
        TRIPLE,
    ),
    World(
        "rbac",
        _model("sub, obj, act", "sub, obj, act", ALLOW, BY_ROLE, "g = _, _"),
        TRIPLE,
        TRIPLE,
        ROLES,
    ),
    World(
        "rbac deny",
        _model("sub, obj, act", "sub, obj, act, eft", BOTH, BY_ROLE, "g = _, _"),
        (*TRIPLE, EFFECTS),
        TRIPLE,
        ROLES,
    ),
    World(
        "rbac not deny",
        _model("sub, obj, act", "sub, obj, act, eft", NOT_DENY, BY_ROLE, "g = _, _"),
        (*TRIPLE, EFFECTS),
        TRIPLE,
        ROLES,
    ),
    World(
        "priority",
        _model("sub, obj, act", "sub, obj, act, eft", PRIORITY, BY_ROLE, "g = _, _"),
        (*TRIPLE, EFFECTS),
        TRIPLE,
        ROLES,
    ),
    World(
        "explicit priority",
        _model("sub, obj, act", "priority, sub, obj, act, eft", PRIORITY, BY_ROLE, "g = _, _"),
        (["1", "2", "10"], *TRIPLE, EFFECTS),
        TRIPLE,
        ROLES,
    ),
    World(
        "resource roles",
        _model(
            "sub, obj, act",
            "sub, obj, act",
            ALLOW,
            "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
            "g = _, _",
            "g2 = _, _",
        ),
        TRIPLE,
        TRIPLE,
        {**ROLES, "g2": (OBJECTS, OBJECTS)},
    ),
    World(
        "domains",
        _model(
            "sub, dom, obj, act",
            "sub, dom, obj, act",
            ALLOW,
            "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act",
            "g = _, _, _",
        ),
        (SUBJECTS, DOMAINS, OBJECTS, ACTIONS),
        (SUBJECTS, DOMAINS, OBJECTS, ACTIONS),
        DOMAIN_ROLES,
    ),
    World(
        "domain of the rule",
        _model(
            "sub, dom, obj, act",
            "sub, dom, obj, act",
            ALLOW,
            "g(r.sub, p.sub, p.dom) && keyMatch(r.dom, p.dom) && r.obj == p.obj",
            "g = _, _, _",
        ),
        (SUBJECTS, [*DOMAINS, "d*"], OBJECTS, ACTIONS),
        (SUBJECTS, DOMAINS, OBJECTS, ACTIONS),
        {"g": (SUBJECTS, SUBJECTS, [*DOMAINS, "d*"])},
    ),
    _keys("keyMatch", ["/a", "/a/*", "*", "/a*b", "/*", "/a/b"]),
    _keys("keyMatch2", KEYS2),
    _keys("keyMatch3", KEYS3),
    _keys("keyMatch4", [*KEYS3, "/{x}/{x}", "/{x}/{x}/{y}"]),
    _keys("keyMatch5", KEYS3),
    _keys("regexMatch", ["/a", "^/a$", "/a/.*", ".*b", "/a|/x", "/a?b*", "/a/(b|c)", "/[a-x]/y"]),
    World(
        "addresses",
        _model(
            "ip, obj",
            "net, obj, eft",
            BOTH,
            "ipMatch(r.ip, p.net) && r.obj == p.obj",
        ),
        (NETWORKS, OBJECTS, EFFECTS),
        (ADDRESSES, OBJECTS),
    ),
    World(
        "attributes",
        _model("sub, obj, act", "act", ALLOW, "r.sub == r.obj.Owner && r.act == p.act"),
        (ACTIONS,),
        (SUBJECTS, [{"Owner": "alice"}, {"Owner": "bob"}], ACTIONS),
    ),
    World(
        "eval",
        _model(
            "sub, obj, act",
            "rule, obj, act",
            ALLOW,
            "eval(p.rule) && r.obj == p.obj && r.act == p.act",
        ),
        (
            [
                "r.sub.Age > 18",
                "r.sub.Age > 18 && r.sub.Age < 60",
                "r.sub.Name == 'alice' || r.sub.Age == 70",
                "!(r.sub.Age >= 18) && p.obj != 'data2'",
                "r.sub.Age + 2 * 10 - 1 > 40 / 2",
                "r.sub.Name in ('bob', 'root')",
            ],
            OBJECTS,
            ACTIONS,
        ),
        (
            [{"Age": 16, "Name": "alice"}, {"Age": 40, "Name": "bob"}, {"Age": 70, "Name": "x"}],
            OBJECTS,
            ACTIONS,
        ),
    ),
    World(
        "in",
        _model(
            "sub, obj, act",
            "sub, obj, act",
            ALLOW,
            "(g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act) || r.obj in ('data2', 'data3')",
            "g = _, _",
        ),
        TRIPLE,
        TRIPLE,
        ROLES,
    ),
    World(
        "negation",
        _model(
            "sub, obj, act",
            "sub, obj, act, eft",
            BOTH,
            "!(r.sub == p.sub) && r.obj == p.obj && !(r.act != p.act || r.sub == 'root')",
        ),
        (*TRIPLE, EFFECTS),
        TRIPLE,
    ),
    World(
        "mesh",
        mesh_model(),
        (
            ["*", "td/ns/a/sa/x", "td/ns/a/sa/*", "td/**", "role:r1", "user:i/s", "user:i/*"],
            ["*", "s1.a", "s2.a", "s*", "*.a"],
            ["*", "GET", "POST", "GET|PUT"],
            ["/**", "/a", "/a/*", "/a/**", "/*/b", "/**/b", "/a/b*", "/{x}/b/**/c", "**"],
            EFFECTS,
            ["", "", "a.b == 'x'", "n.m > 3", "ipMatch(s.ip, '10.0.0.0/8')"],
        ),
        (
            ["", "td/ns/a/sa/x", "td/ns/b/sa/x", "role:r1"],
            ["", "user:i/s", "user:i/t"],
            ["", "s1.a", "s3.b"],
            ["GET", "POST", "PUT"],
            PATHS,
            [
                {"a.b": "x", "n.m": 4, "s.ip": "10.1.1.1"},
                {"a.b": "y", "n.m": "z", "s.ip": "bad"},
                {},
            ],
        ),
        {"g": (["td/ns/a/sa/x", "td/ns/*/sa/*", "user:i/s", "role:r1", "role:r2"], ["role:r1"])},
        same_as_pycasbin=False,
    ),
    World(
        "role patterns",
        _model(
            "sub, obj, act",
            "sub, obj, act, eft",
            BOTH,
            "g(r.sub, p.sub) && g2(r.obj, p.obj) && regexMatch(r.act, p.act)",
            "g = _, _",
            "g2 = _, _",
        ),
        (SUBJECTS, ["books", "pens", "/a/b", "/a/*"], ["read", ".*"], EFFECTS),
        (SUBJECTS, PATHS, ACTIONS),
        {**ROLES, "g2": (["/a/:x", "/a/b", "/:x", "/a/*"], ["books", "pens", "/a/*"])},
        EngineOptions(backtracking_regex=True, role_matching={"g2": "keyMatch2"}),
        same_as_pycasbin=False,
    ),
]
