"""Casbin models, policies and requests by chance, made so that pycasbin can decide most of them.

Every matcher is put together from terms; words are few, so that requests meet rules often.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

__all__ = ["Case", "Thing", "make_case"]

_EFFECTS = [
    "some(where (p.eft == allow))",
    "!some(where (p.eft == deny))",
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "priority(p.eft) || deny",
    "subjectPriority(p.eft) || deny",
]
# In the order in which one may be the other's role, for those models that allow no circles.
_NAMES = ["alice", "bob", "root", "team", "staff", "admin", "role:x"]
_DOMAINS = ["d1", "d2", "d3"]
_ACTS = ["read", "write", "GET"]
_PATHS = ["/a", "/a/b", "/a/b/c", "/b/1", "/b/1/b/1", "/b/1/b/2", "/a/", "a", "/b/1?x=/2", ""]
_ADDRESSES = ["10.0.0.1", "10.1.2.3", "192.168.1.7", "::1", "fe80::1"]


@dataclass(frozen=True)
class Thing:
    """A subject or object with attributes, for ABAC."""

    Owner: str
    Age: int


@dataclass
class Case:
    """One model with its policy and the requests to decide.

    Attributes:
        model: Text.
        rows: (ptype, *values), in the order of the policy.
        requests: The values of each, behind the number of its definitions, "" or "2".
        role_matching: By role definition, pycasbin's function by which names match.
        domain_matching: The same for domains.
        conditions: Links of `g`, with their domain if they have one, that hold only if both their
            parameters are the same.
        ordered: Whether the order of rules may change a verdict.
    """

    model: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    role_matching: dict[str, str] = field(default_factory=dict)
    domain_matching: dict[str, str] = field(default_factory=dict)
    conditions: list[tuple[str, ...]] = field(default_factory=list)
    ordered: bool = False


# Terms of a matcher, with R and P for the definitions' keys; what the rule's field may hold.
_Term = tuple[str, Sequence[str]]
_SUBJECT: list[_Term] = [
    ("R.sub == P.sub", _NAMES),
    ('(R.sub == P.sub || P.sub == "*")', [*_NAMES, "*"]),
    ('R.sub in (P.sub, "root")', _NAMES),
    ("R.sub != P.sub", _NAMES),
    ("regexMatch(R.sub, P.sub)", ["^a", "b.b", "t|s", "alice$", "^(root|team)$"]),
]
_BY_ROLE: list[_Term] = [
    ("g(R.sub, P.sub)", _NAMES),
    ('(g(R.sub, P.sub) || R.sub == "root")', _NAMES),
    ("(g(R.sub, P.sub) || keyMatch(R.sub, P.sub))", [*_NAMES, "*", "a*"]),
    ("!g(R.sub, P.sub)", _NAMES),
]
_IN_DOMAIN: list[_Term] = [
    ("g(R.sub, P.sub, R.dom) && R.dom == P.dom", _NAMES),
    ("g(R.sub, P.sub, P.dom) && R.dom == P.dom", _NAMES),
    ("g(R.sub, P.sub, R.dom) && keyMatch(R.dom, P.dom)", _NAMES),
    ('(g(R.sub, P.sub, R.dom) || g(R.sub, P.sub, "d1")) && R.dom == P.dom', _NAMES),
    ("R.dom == P.dom && (R.sub == P.sub || g(R.sub, P.sub, R.dom))", _NAMES),
]
_OBJECT: list[_Term] = [
    ("R.obj == P.obj", _PATHS),
    ("keyMatch(R.obj, P.obj)", ["/a/*", "/*", "*", "/a", "/b/1", "/a*b", "/a.b"]),
    (
        "keyMatch2(R.obj, P.obj)",
        ["/a/:x", "/a/*", "*", "/:x/:y", "/a/b", "/b/:id/b/:id", "/a.b", "/a+"],
    ),
    ("keyMatch3(R.obj, P.obj)", ["/a/{x}", "/a/*", "/{x}/{y}", "/a", "/b/{id}/b/{id}"]),
    ("keyMatch4(R.obj, P.obj)", ["/a/{x}", "/b/{x}/b/{x}", "/{x}/{y}", "/a/*", "/b/{x}/b/{y}"]),
    ("keyMatch5(R.obj, P.obj)", ["/a/{x}", "/a/*", "/b/1", "/{x}/1"]),
    ("regexMatch(R.obj, P.obj)", ["^/a", "/[ab]/.*", "/b/[0-9]+$", "a", "^$"]),
    ("globMatch(R.obj, P.obj)", ["/a/*", "/[ab]", "/?", "*", "/b/*/b/?", "a"]),
    ("(R.obj == P.obj || keyMatch2(R.obj, P.obj))", ["/a/:x", "/b/1", "/a"]),
    ('R.obj in ["/a", "/b/1", P.obj]', ["/a/b", "a"]),
    ("!keyMatch(R.obj, P.obj)", ["/a/*", "/b/1"]),
    ("g2(R.obj, P.obj)", ["/a", "files", "/b/1", "docs"]),
    ('keyGet(R.obj, P.obj) == "b"', ["/a/*", "/*", "/a"]),
    ('keyGet2(R.obj, P.obj, "x") in ("b", "1")', ["/a/:x", "/:y/:x", "/b/:x/b/:z"]),
    ('keyGet3(R.obj, P.obj, "x") != ""', ["/a/{x}", "/{y}/{x}", "/b/{z}"]),
]
_ACT: list[_Term] = [
    ("R.act == P.act", _ACTS),
    ("regexMatch(R.act, P.act)", ["(read)|(write)", "r.*", "GET", ".*"]),
    ('(R.act == P.act || P.act == "*")', [*_ACTS, "*"]),
    ("!(R.act != P.act)", _ACTS),
    ('(R.act == P.act and not R.act == "GET")', _ACTS),
    ('(P.act if P.act == "read" else "write") == R.act', _ACTS),
]
_AROUND = [
    "{0}",
    "{0}",
    '{0} || R.sub == "root"',
    'R.act != "none" && ({0})',
    '!(R.act == "write") && ({0})',
    "({0}) && 1 + 2 * 3 == 7 && 7 % 4 > 2",
    '({0}) && timeMatch("_", "9999-12-30 00:00:00")',
    "same(R.act, R.act) && ({0})",
]
# Values that a caller may come with all the same; without containers: divergence "Values that are
# no text".
_ODD = [None, 5, True, 1.5, "", "/a\n", "/a.b", "alice\n", "/b/é", b"/a"]
# What a pattern was written for.
_MEANT = {
    "/a/*": "/a/b",
    "/a/:x": "/a/b",
    "/a/{x}": "/a/b",
    "/:x/:y": "/b/1",
    "/{x}/{y}": "/a/b",
    "/{x}/1": "/b/1",
    "/b/:id/b/:id": "/b/1/b/2",
    "/b/{id}/b/{id}": "/b/1/b/2",
    "/b/{x}/b/{x}": "/b/1/b/1",
    "/b/*/b/?": "/b/1/b/1",
    "^/a": "/a/b/c",
    "/[ab]": "/a",
    "/?": "/a",
    "r.*": "read",
    "(read)|(write)": "write",
    ".*": "GET",
    "10.0.0.0/8": "10.1.2.3",
    "10.1.0.0/16": "10.1.2.3",
    "fe80::/10": "fe80::1",
    "d*": "d2",
}
_CONDITIONS = [
    "R.sub.Age > 18",
    'R.sub.Age + 2 < 30 && R.sub.Owner == "alice"',
    "R.sub.Owner == R.obj.Owner || R.sub.Age >= 60",
    "!(R.sub.Age == 40)",
    "R.sub.Age * 2 - 1 > R.obj.Age % 7",
    'R.sub.Owner in ("alice", "bob")',
    "R.obj.Owner != P.act",
    'keyMatch(R.obj.Owner, "al*")',
    "R.sub.Age / 2 > 10 || -R.sub.Age < -60",
]
_PEOPLE = [
    Thing("alice", 17),
    Thing("bob", 40),
    {"Owner": "alice", "Age": 64},
    {"Owner": "carol", "Age": 19},
]


def make_case(chance: Random, requests: int) -> Case:
    """Make one case, of up to a dozen rules for each of its policy definitions.

    Args:
        chance: Where all choices come from.
        requests: How many for each request definition.
    """
    return _Maker(chance).make(requests)


@dataclass
class _Parts:
    """One matcher with the fields that go with it, and what they may hold."""

    matcher: str
    request: dict[str, Sequence[Any]]
    rule: dict[str, Sequence[str]]


def _parts(chance: Random, kind: str, effect: str) -> _Parts:
    act, acts = chance.choice(_ACT)
    if kind == "attributes":
        fields: dict[str, Sequence[Any]] = {"sub": _PEOPLE, "obj": _PEOPLE, "act": _ACTS}
        if chance.random() < 0.7:
            texts = [each.replace("R.", "r.").replace("P.", "p.") for each in _CONDITIONS]
            return _Parts(f"eval(P.rule) && {act}", fields, {"rule": texts, "act": acts})
        return _Parts(f"{chance.choice(_CONDITIONS)} && {act}", fields, {"act": acts})
    fields = {"sub": _NAMES, "obj": _PATHS, "act": _ACTS}
    object_, objects = chance.choice(_OBJECT)
    if kind == "address":
        nets = ["10.0.0.0/8", "10.1.0.0/16", "192.168.1.7", "0.0.0.0/0", "::/0", "fe80::/10"]
        fields["sub"] = _ADDRESSES
        subject, subjects = "ipMatch(R.sub, P.sub)", nets
    else:
        terms = {"plain": _SUBJECT, "roles": _BY_ROLE, "domains": _IN_DOMAIN}[kind]
        subject, subjects = chance.choice(terms)
    rule = {"sub": subjects, "obj": objects, "act": acts}
    if kind == "domains":
        fields = {"sub": _NAMES, "dom": _DOMAINS, "obj": _PATHS, "act": _ACTS}
        rule = {"sub": subjects, "dom": [*_DOMAINS, "d*"], "obj": objects, "act": acts}
    terms_ = [subject, object_, act]
    if not effect.startswith("subject"):
        chance.shuffle(terms_)
    return _Parts(chance.choice(_AROUND).format(" && ".join(terms_)), fields, rule)


class _Maker:
    """Makes one case."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.case = Case()
        self.effect = chance.choice(_EFFECTS)
        self.by_subject = self.effect.startswith("subject")
        self.definitions: dict[str, list[str]] = {letter: [] for letter in "rpem"}
        self.links: dict[str, str] = {}

    def make(self, requests: int) -> Case:
        """Put everything together."""
        chance, case = self.chance, self.case
        kinds = ["plain", "roles", "roles", "domains", "attributes", "address"]
        kind = chance.choice(["roles", "domains"] if self.by_subject else kinds)
        case.ordered = "riority" in self.effect
        for number in ["", "2"] if chance.random() < 0.2 and kind != "attributes" else [""]:
            parts = _parts(chance, kind, self.effect)
            rows = self._fill(number, parts)
            self._ask(number, parts, rows, requests)
            if "g2(" in parts.matcher:
                self.links["g2"] = "_, _"
        if kind == "domains":
            conditional = not self.by_subject and chance.random() < 0.2 and not self.links
            self.links["g"] = "_, _, _, (_, _)" if conditional else "_, _, _"
        elif kind == "roles" and chance.random() < 0.2 and not self.links:
            self.links["g"] = "_, _, (_, _)"
        elif kind == "roles" or self.links:
            # pycasbin reads no g2 where there is no g.
            self.links["g"] = "_, _"
        if self.links:
            self._link()
        if "g2" in self.links:
            self._link_objects()
        case.model = self._text()
        chance.shuffle(case.requests)
        return case

    def _text(self) -> str:
        links = [f"{key} = {value}" for key, value in sorted(self.links.items())]
        return "\n".join(
            [
                "[request_definition]",
                *self.definitions["r"],
                "[policy_definition]",
                *self.definitions["p"],
                *(["[role_definition]", *links] if links else []),
                "[policy_effect]",
                *self.definitions["e"],
                "[matchers]",
                *self.definitions["m"],
            ]
        )

    def _fill(self, number: str, parts: _Parts) -> list[dict[str, str]]:
        """Add the definitions of one number, with rules; returns the rules by their fields."""
        chance = self.chance
        rule = dict(parts.rule)
        if self.effect.startswith("priority") and chance.random() < 0.4 and not number:
            rule = {"priority": ["1", "2", "10", "20"], **rule}
        if self.effect != _EFFECTS[0] or chance.random() < 0.5:
            rule["eft"] = ["allow", "allow", "deny", "deny", "other"]
        r, p = f"r{number}", f"p{number}"
        matcher = parts.matcher.replace("R.", f"{r}.").replace("P.", f"{p}.")
        self.definitions["r"].append(f"{r} = {', '.join(parts.request)}")
        self.definitions["p"].append(f"{p} = {', '.join(rule)}")
        self.definitions["e"].append(f"e{number} = {self.effect.replace('p.', p + '.')}")
        self.definitions["m"].append(f"m{number} = {matcher}")
        rows = {
            (p, *[chance.choice(words) for words in rule.values()])
            for _ in range(chance.choice([0, 1, 2, 4, 8, 12]))
        }
        ordered = chance.sample(sorted(rows), len(rows))
        self.case.rows += ordered
        return [dict(zip(rule, row[1:], strict=True)) for row in ordered]

    def _ask(self, number: str, parts: _Parts, rows: list[dict[str, str]], requests: int) -> None:
        """Add requests: most of them such as a rule was meant for, a few odd."""
        chance = self.chance
        for _ in range(requests):
            values = {name: chance.choice(words) for name, words in parts.request.items()}
            if rows and chance.random() < 0.7:
                for name, word in chance.choice(rows).items():
                    meant = _MEANT.get(word, word)
                    if name in values and meant in parts.request[name]:
                        values[name] = meant
            if chance.random() < 0.1:
                values[chance.choice(sorted(values))] = chance.choice(_ODD)
            self.case.requests.append((number, *values.values()))

    def _link(self) -> None:
        """Add rows of `g`, and how its names match."""
        chance, case, kind = self.chance, self.case, self.links["g"]
        names, domains = list(_NAMES), list(_DOMAINS)
        if kind == "_, _, _" and not self.by_subject and chance.random() < 0.3:
            case.domain_matching["g"] = "keyMatch"
            domains = ["d1", "d2", "d*", "*"]
        if kind == "_, _" and not self.by_subject and chance.random() < 0.15:
            # As members only: divergence "A pattern in the place of a role".
            case.role_matching["g"] = "keyMatch"
            names[:4] = ["a*", "b*", "*", "role:*"]
        rows: dict[tuple[str, ...], list[str]] = {}
        for _ in range(chance.choice([0, 1, 3, 6, 9])):
            member, role = chance.sample(range(len(names)), 2)
            if self.by_subject:
                member, role = sorted((member, role))
            if "*" in names[role]:
                continue
            link: tuple[str, ...] = names[member], names[role]
            link = (*link, chance.choice(domains)) if kind.startswith("_, _, _") else link
            if link not in rows:
                rows[link] = [chance.choice("xy"), chance.choice("xy")] if "(" in kind else []
        if "(" in kind:
            case.conditions = [link for link in rows if chance.random() < 0.8]
        case.rows += [("g", *link, *more) for link, more in rows.items()]

    def _link_objects(self) -> None:
        """Add rows of `g2`; their members may be patterns."""
        chance = self.chance
        patterns = chance.random() < 0.5
        members = ["/a/:x", "/:x/:y", "/a", "/b/1"] if patterns else ["/a", "/a/b", "/b/1", "docs"]
        made = {("g2", chance.choice(members), chance.choice(["files", "docs"])) for _ in range(4)}
        self.case.rows += sorted(row for row in made if row[1] != row[2])
        if patterns:
            self.case.role_matching["g2"] = "keyMatch2"
