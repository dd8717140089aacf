"""What lint says about coverings is so: held against the engine on generated rules and requests."""

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.authoring.callers import Callers
from authz.authoring.mesh_rules import Coverage, MeshRule, covers, service_covers, text_covers
from authz.authoring.shapes import meet
from authz.policy.language import Language
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.rules import PolicyText, Row
from authz.policy.segments import matches, parse_segments
from authz.policy.snapshot import Snapshot

LANGUAGE = Language(parse_model(mesh_model(), "mesh"), EngineOptions())

SEGMENTS = ["a", "b", "ab", "a*", "*b", "a*b", "*", "**", "{id}", ""]
PATHS = st.lists(st.sampled_from(SEGMENTS), max_size=4).map(lambda parts: "/" + "/".join(parts))
SERVICES = st.sampled_from(["*", "a", "ab", "a*", "*b", "a*b", "*a*", "b"])
METHODS = st.sampled_from(["*", "GET", "GET|HEAD", "HEAD|GET", "POST", "GET|HEAD|POST"])
MEMBERS = st.sampled_from(
    ["td/a", "td/b", "td/a/b", "td/*", "td/**", "*/a", "**", "td/a*", "user:i/a", "user:i/*"]
)
ROLES = st.sampled_from(["role:x", "role:y", "role:z"])
WHO = st.one_of(st.just("*"), MEMBERS, ROLES)
WHEN = st.sampled_from(["", "", "one == 'a'", "one   == 'a'", "one == 'b'"])
EFFECTS = st.sampled_from(["allow", "deny"])
RULES = st.tuples(WHO, SERVICES, METHODS, PATHS, EFFECTS, WHEN).map(lambda row: Row("p", row))
LINKS = st.lists(
    st.tuples(st.one_of(MEMBERS, ROLES), ROLES).map(lambda row: Row("g", row)), max_size=6
)
REQUESTS = st.tuples(
    st.sampled_from(["", "td/a", "td/b", "td/a/b", "td/ab", "x/a"]),
    st.sampled_from(["", "user:i/a", "user:i/b", "user:j/a"]),
    st.sampled_from(["", "a", "ab", "aab", "b", "ba"]),
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    st.lists(st.sampled_from(["a", "b", "ab", "aab", "x", ""]), max_size=4).map(
        lambda parts: "/" + "/".join(parts)
    ),
    st.sampled_from([{"one": "a"}, {"one": "b"}]),
)


def rule_of(row: Row) -> MeshRule:
    """A rule as lint sees it."""
    return MeshRule.of(row, LANGUAGE.when)


def matcher(row: Row, links: list[Row]) -> Snapshot:
    """A policy that allows what one rule matches."""
    values = (*row.values[:4], "allow", row.values[5])
    return Snapshot.build(PolicyText(mesh_model(), (Row("p", values), *links)))


def given_everywhere(links: list[Row]) -> list[Row]:
    """The engine refuses rules for roles that nobody has."""
    return [*links, *(Row("g", ("td/nobody", f"role:{name}")) for name in "xyz")]


@given(RULES, RULES, LINKS, st.lists(REQUESTS, min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_what_is_covered_is_matched(
    wide: Row, narrow: Row, links: list[Row], requests: list[tuple[object, ...]]
) -> None:
    """If lint says A covers B, every request that matches B matches A."""
    links = given_everywhere(links)
    if covers(rule_of(wide), rule_of(narrow), Callers(links)):
        one, other = matcher(wide, links), matcher(narrow, links)
        for request in requests:
            assert one.decide(request).allowed or not other.decide(request).allowed


@given(PATHS, PATHS, st.lists(st.sampled_from(["a", "b", "ab", "aab", ""]), max_size=5))
@settings(max_examples=150, deadline=None)
def test_a_covered_path_pattern_has_no_value_of_its_own(
    wide: str, narrow: str, parts: list[str]
) -> None:
    """Also the empty segment, stars in segments, and `**` in a row."""
    value = "/" + "/".join(parts)
    if text_covers(wide, narrow) and matches(parse_segments(narrow), value):
        assert matches(parse_segments(wide), value)


@given(PATHS, PATHS, st.lists(st.sampled_from(["a", "b", "ab", "aab", ""]), max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_two_patterns_share_fits_both(one: str, other: str, parts: list[str]) -> None:
    """And where nothing is said to be shared, no value is."""
    forms = parse_segments(one), parse_segments(other)
    met = meet(*forms)
    if met is not None:
        assert matches(forms[0], met)
        assert matches(forms[1], met)
    else:
        value = "/" + "/".join(parts)
        assert not (matches(forms[0], value) and matches(forms[1], value))


def test_patterns_that_cover_and_that_do_not() -> None:
    """The ones that people write."""
    assert text_covers("/orders/**", "/orders")
    assert text_covers("/orders/**", "/orders/*/items/**")
    assert text_covers("/**", "/**/x")
    assert text_covers("/{a}/b", "/*/b")
    assert text_covers("/*/**", "/*/a/**")
    assert text_covers("/a*", "/ab*c")
    assert not text_covers("/*/b", "/a/*")
    assert not text_covers("/orders/*", "/orders/")
    assert not text_covers("/ab*c", "/a*c")
    assert not text_covers("/**", "**")
    assert not text_covers("/*", "/**")
    assert service_covers("a*", "ab*c")
    assert not service_covers("*b*", "*")
    assert not service_covers("a*a", "a")


@given(st.lists(RULES, max_size=12), LINKS)
@settings(max_examples=100, deadline=None)
def test_the_index_finds_what_trying_every_pair_finds(rows: list[Row], links: list[Row]) -> None:
    """But for twins, which are told apart by nothing."""
    rules = [rule_of(row) for row in rows]
    callers = Callers(given_everywhere(links))
    coverage = Coverage(rules, callers)
    later = {id(twin) for _, twin in coverage.twins}
    firsts = {id(rule): id(rule) for rule in rules} | {
        id(twin): id(first) for first, twin in coverage.twins
    }
    for rule in rules:
        found = {id(each) for each in coverage.covering(rule)}
        tried = {
            id(each)
            for each in rules
            if id(each) not in later
            and firsts[id(each)] != firsts[id(rule)]
            and covers(each, rule, callers)
        }
        assert found == tried
