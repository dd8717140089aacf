"""What it costs to ask who somebody is, counted in patterns that are tried."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from authz.policy.functions.spec import Pattern
from authz.policy.language import Language
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.roles import Roles
from authz.policy.snapshot import PolicyText, Row, Snapshot

MODEL = """[request_definition]
r = sub, dom, obj
[policy_definition]
p = sub, dom, obj
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.dom) && r.obj == p.obj
"""
MANY = 2_000


class Counted:
    """Roles by a function of the engine's, which counts the patterns that are tried."""

    def __init__(self, function: str) -> None:
        options = EngineOptions(role_matching={"g": function}, domain_matching={"g": "keyMatch"})
        self.language = Language(parse_model(MODEL, "m"), options)
        self.roles: Roles = self.language.roles["g"]
        self.tried = 0
        assert self.roles.prepare is not None
        self._prepare = self.roles.prepare
        self.roles.prepare = self.prepare

    def prepare(self, text: str) -> Pattern:
        """As the function does it."""
        made = self._prepare(text)
        return replace(made, matches=self._counting(made.matches))

    def _counting(self, matches: Callable[[object], bool]) -> Callable[[object], bool]:
        def counted(value: object) -> bool:
            self.tried += 1
            return matches(value)

        return counted


@pytest.mark.parametrize(
    ("function", "pattern", "member"),
    [
        ("keyMatch", "td/ns/{}/*", "td/ns/7/sa/x"),
        ("keyMatch2", "/td/:ns/{}", "/td/any/7"),
        ("globMatch", "td/{}/*", "td/7/x"),
        ("regexMatch", "^td/{}/", "td/7/x"),
        ("ipMatch", "10.1.{}.0/24", "10.1.7.3"),
        ("meshWho", "td/ns/*/sa/x-{}", "td/ns/any/sa/x-7"),
    ],
)
def test_a_stranger_does_not_make_every_pattern_be_tried(
    function: str, pattern: str, member: str
) -> None:
    """Somebody may come with a new name each time; it took 24 ms each with thousands of them."""
    counted = Counted(function)
    for number in range(250 if function == "ipMatch" else MANY):
        counted.roles.add(pattern.format(number), f"role{number}", "d")
    assert counted.roles.has(member, "role7", "d")
    assert not counted.roles.has(member, "role8", "d")
    for stranger in ("nobody", "td/ns/n/sa/nobody", "/td/any/nobody", "10.2.0.1"):
        assert counted.roles.reach(stranger, "d").names == {stranger}
    assert counted.tried < 10


def test_patterns_come_and_go_one_by_one() -> None:
    """What is filed follows the links."""
    roles = Counted("keyMatch2").roles
    roles.add("/a/:x", "role-a", "d")
    assert roles.has("/a/1", "role-a", "d")
    roles.add("/:x/1", "role-b", "d")
    assert roles.has("/a/1", "role-b", "d")
    assert roles.remove("/a/:x", "role-a", "d")
    assert roles.reach("/a/1", "d").names == {"/a/1", "role-b"}
    roles.add("/a/1", "role-c", "e")
    assert not roles.has("/a/1", "role-c", "d")


def test_domains_share_the_links_of_those_they_match() -> None:
    """A caller that names ever new domains made a copy of all links for each."""
    roles = Counted("keyMatch").roles
    for number in range(MANY):
        roles.add(f"user{number}", "role:a", "*")
    seen = {id(place.links) for number in range(50) for place in roles._in_domain(f"d{number}")}
    assert len(seen) == 1
    assert roles.has("user7", "role:a", "d3")
    assert not roles.has("user7", "role:b", "d3")


def test_a_role_that_is_a_pattern_is_compared_with_rules_once() -> None:
    """Not once for each of the callers that have it."""
    options = EngineOptions(role_matching={"g": "keyMatch2"})
    rows = [Row("p", (f"/lib/{number}", "d", "book")) for number in range(MANY)]
    rows.append(Row("g", ("/user/:x", "/lib/:y", "d")))
    snapshot = Snapshot.build(PolicyText(MODEL, tuple(rows)), None, options)
    for number in range(200):
        assert snapshot.decide((f"/user/{number}", "d", "book")).allowed
        assert not snapshot.decide((f"/other/{number}", "d", "book")).allowed


def test_names_too_long_to_be_kept_are_answered_all_the_same() -> None:
    """A caller chooses its name: what is remembered of it is bounded."""
    rows = (Row("g", ("user:iss/**", "role:a")), Row("p", ("role:a", "*", "*", "/**", "allow")))
    snapshot = Snapshot.build(PolicyText(mesh_model(), rows))
    for number in range(20):
        long = f"user:iss/{number}" + "x" * 10_000
        assert snapshot.decide(("", long, "s", "GET", "/", {})).allowed
    kept = snapshot._engine.language.roles["g"]._reached
    assert all(len(name) < 1_000 for name, _ in kept)


@pytest.mark.parametrize(
    "function", ["keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "globMatch"]
)
def test_filed_names_reach_what_trying_each_of_them_reaches(function: str) -> None:
    """While links and domains come and go."""
    words = ["/a", "/a/*", "/:x", "/a/:x", "/{x}", "/a/{x}", "*", "/a*", "/a/b", "/b", "", "/a\n"]
    chance = Random(3)
    for _ in range(30):
        filed = Counted(function).roles
        tried = Counted(function).roles
        tried.prepare = tried.domain_prepare = None
        links: list[tuple[str, str, str]] = []
        for _ in range(12):
            if links and chance.random() < 0.3:
                gone = links.pop(chance.randrange(len(links)))
                assert filed.remove(*gone) == tried.remove(*gone)
            else:
                link = chance.choice(words), chance.choice(words), chance.choice(["d", "d*", "e"])
                links.append(link)
                filed.add(*link)
                tried.add(*link)
            for name in words:
                domain = chance.choice(["d", "d1", "e", "x"])
                wanted = tried.reach(name, domain)
                assert filed.reach(name, domain).names == wanted.names, (links, name, domain)
                assert set(filed.reach(name, domain).patterns) == set(wanted.patterns)
