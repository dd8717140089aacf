"""Two policies compared: by line, and by requests that they judge differently."""

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.authoring.diff import Kind, changes
from authz.authoring.effects import Shown
from authz.policy.rules import Row
from authz.policy.snapshot import Snapshot
from tests.unit.authz.authoring.judging import difference, request_of, rows_text, text_of

RBAC = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch2(r.obj, p.obj) && r.act == p.act
"""


def rows(*lines: str) -> list[Row]:
    """Rows of lines such as "p, a, b"."""
    return list(text_of("\n".join(lines)).rows)


def only(shown: tuple[Shown, ...]) -> Shown:
    """The one effect that there is."""
    (each,) = shown
    return each


def test_lines_are_compared_whatever_their_order() -> None:
    """A line that moved is no change; one that differs in little is one change, not two."""
    old = rows("p, a, s, GET, /, allow", "p, b, s, GET, /, allow", "p, c, s, GET, /, allow")
    new = rows("p, c, s, GET, /, allow", "p, b, s, GET, /x, allow", "p, z, t, PUT, /q, deny")
    found = changes(old, new)
    assert [(each.kind, each.row.values[0]) for each in found] == [
        (Kind.CHANGED, "b"),
        (Kind.ADDED, "z"),
        (Kind.REMOVED, "a"),
    ]
    assert changes(old, old[::-1]) == []


def test_one_copy_of_two_is_a_change() -> None:
    """Lines are counted."""
    twice = rows("p, a, s, GET, /, allow", "p, a, s, GET, /, allow")
    assert [each.kind for each in changes(twice, twice[:1])] == [Kind.REMOVED]


def test_an_added_allow_widens_with_a_request_that_shows_it() -> None:
    """Outside of what was allowed before and of what is denied."""
    found = difference(
        text_of("p, *, s, GET, /a/*, allow\np, td/b, s, GET, /a/**, deny\n"),
        text_of("p, *, s, GET, /a/**, allow\np, td/b, s, GET, /a/**, deny\n"),
    )
    shown = only(found.widened)
    assert not found.narrowed
    assert not shown.old.allowed
    assert shown.new.allowed
    assert shown.example.principal != "td/b"
    assert shown.example.path.startswith("/a")


def test_an_added_deny_narrows_what_some_rule_allows() -> None:
    """The request is one that both rules match: nothing else loses anything."""
    found = difference(
        text_of("p, td/ns/a/sa/web, s*, POST, /a/{id}, allow\n"),
        text_of("p, td/ns/a/sa/web, s*, POST, /a/{id}, allow\np, *, *, *, /a/*/**, deny\n"),
    )
    shown = only(found.narrowed)
    assert (shown.example.principal, shown.example.method) == ("td/ns/a/sa/web", "POST")
    assert shown.new.rule is not None
    assert shown.new.rule.effect == "deny"


def test_a_method_taken_out_of_a_deny_widens_for_that_method() -> None:
    """Not for the others that the deny had."""
    allow = "p, *, s, *, /**, allow\n"
    found = difference(
        text_of(allow + "p, *, s, PUT|PATCH, /a, deny\n"),
        text_of(allow + "p, *, s, PUT, /a, deny\n"),
    )
    assert only(found.widened).example.method == "PATCH"


def test_a_condition_is_met_by_the_example() -> None:
    """Headers and addresses are part of it."""
    found = difference(
        text_of("p, td/x, s, GET, /z, allow\n"),
        text_of(
            "p, td/x, s, GET, /z, allow\n"
            "p, *, s, GET, /a, allow, request.headers['x'] == 'b' && source.ip in ['10.0.0.1']\n"
        ),
    )
    example = only(found.widened).example
    assert example.headers == {"x": "b"}
    assert example.source_ip == "10.0.0.1"


def test_a_condition_added_narrows_where_it_does_not_hold() -> None:
    """The example stays outside of the condition."""
    found = difference(
        text_of("p, *, s, GET, /a, allow\n"),
        text_of("p, *, s, GET, /a, allow, request.headers['x'] != ''\n"),
    )
    assert only(found.narrowed).example.headers.get("x", "") == ""
    assert not found.widened


def test_a_role_given_shows_what_it_gives() -> None:
    """By the member's name, also over roles of roles; a role taken shows what it took."""
    base = "p, role:admin, s, *, /**, allow\ng, td/root, role:ops\ng, role:ops, role:admin\n"
    more = base + "g, td/ns/a/sa/new, role:ops\n"
    shown = only(difference(text_of(base), text_of(more)).widened)
    assert shown.example.principal == "td/ns/a/sa/new"
    assert shown.change.row.ptype == "g"
    assert only(difference(text_of(more), text_of(base)).narrowed).example == shown.example


def test_what_changes_nothing_is_said_to() -> None:
    """A rule that another one covers already."""
    base = "p, *, s, GET, /**, allow\n"
    found = difference(text_of(base), text_of(base + "p, td/x, s, GET, /a, allow\n"))
    assert (found.widened, found.narrowed) == ((), ())
    assert [each.kind for each in found.silent] == [Kind.ADDED]


def test_a_model_of_ones_own_gets_examples_in_its_fields() -> None:
    """Of a role's member, of a pattern, of a deny."""
    base = "p, admin, /a/:id, read, allow\ng, alice, admin\n"
    widened = difference(
        text_of(base, RBAC), text_of(base + "p, admin, /b/*, read, allow\n", RBAC)
    ).widened
    assert only(widened).example.values["sub"] == "alice"
    given = difference(text_of(base, RBAC), text_of(base + "g, bob, admin\n", RBAC)).widened
    assert only(given).example.values == {"sub": "bob", "obj": "/a/1", "act": "read"}
    denied = difference(
        text_of(base, RBAC), text_of(base + "p, alice, /a/1, read, deny\n", RBAC)
    ).narrowed
    assert only(denied).example.values["obj"] == "/a/1"


def test_another_model_has_every_rule_looked_at() -> None:
    """The lines are the same, the verdicts are not."""
    lines = "p, alice, /a, read, allow\n"
    other = RBAC.replace("keyMatch2(r.obj, p.obj)", "r.obj != p.obj")
    found = difference(text_of(lines, RBAC), text_of(lines, other))
    assert found.model_changed
    assert not found.changes
    assert found.narrowed


def test_order_is_a_difference_only_where_it_decides() -> None:
    """As with Casbin's priority effect without a priority field."""
    first, second = "p, a, /a, read, allow\n", "p, a, /a, read, deny\n"
    priority = RBAC.replace(
        "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny"
    )
    assert difference(
        text_of(first + second, priority), text_of(second + first, priority)
    ).reordered
    assert not difference(text_of(first + second, RBAC), text_of(second + first, RBAC)).reordered


SEGMENTS = st.sampled_from(["a", "b", "*", "**", "{id}", "a*"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
RULES = st.tuples(
    st.sampled_from(["*", "td/a", "td/b", "td/*", "role:x", "role:y", "user:i/a", "user:i/*"]),
    st.sampled_from(["*", "s", "t", "s*"]),
    st.sampled_from(["*", "GET", "GET|POST", "POST"]),
    PATHS,
    st.sampled_from(["allow", "allow", "deny"]),
    st.sampled_from(["", "", "request.headers['x'] == 'a'", "request.headers['x'] != 'a'"]),
).map(lambda values: Row("p", values))
LINKS = st.tuples(
    st.sampled_from(["td/a", "td/b", "td/c/*", "user:i/a", "role:y"]),
    st.sampled_from(["role:x", "role:y"]),
).map(lambda values: Row("g", values))
HELD = [Row("g", ("td/z", "role:x")), Row("g", ("td/z", "role:y"))]


@given(st.lists(RULES, max_size=5), st.lists(st.one_of(RULES, LINKS), max_size=3), RULES)
@settings(max_examples=60, deadline=None)
def test_every_example_is_judged_as_it_is_said(
    common: list[Row], added: list[Row], removed: Row
) -> None:
    """Denied before and allowed now, or the other way; each change is in exactly one place."""
    old, new = rows_text([*common, removed, *HELD]), rows_text([*common, *added, *HELD])
    found = difference(old, new)
    before, after = Snapshot.build(old), Snapshot.build(new)
    for shown, allowed in ((found.widened, True), (found.narrowed, False)):
        for each in shown:
            request = request_of(each.example)
            assert after.decide(request).allowed is allowed
            assert before.decide(request).allowed is not allowed
    told = {id(each.change) for each in (*found.widened, *found.narrowed)}
    assert told.isdisjoint(map(id, found.silent))
    assert len(told) + len(found.silent) == len(found.changes)
