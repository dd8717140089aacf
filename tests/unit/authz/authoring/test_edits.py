"""One rule added or taken out: what a person means, and what they get told when they don't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.authoring.edits import EditError, Pick, add, build_link, build_rule, remove
from authz.policy.csv_rows import parse_csv, parse_line, write_line
from authz.policy.mesh import mesh_model
from authz.policy.rules import PolicyText, Row

RBAC = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, "x") && r.obj == p.obj && r.act == p.act
"""
ROWS = """\
p, role:web, orders, GET, /orders/*, allow
p, role:web, orders, PUT, /orders/*, allow, request.headers['x-env'] == 'prod'
p, *, orders, DELETE, /orders/**, deny
p, *, orders, DELETE, /orders/**, deny
g, td/ns/shop/sa/frontend, role:web
"""
FRONTEND = {
    "who": "td/ns/shop/sa/frontend",
    "service": "orders",
    "method": "GET",
    "path": "/x",
}


def mesh(rows: str = ROWS) -> PolicyText:
    """A policy of the built-in model."""
    return PolicyText(mesh_model(), tuple(parse_csv(rows, "policy.csv")[0]))


def rbac() -> PolicyText:
    """A policy of a model of somebody's own."""
    return PolicyText(RBAC, (Row("p", ("alice", "data", "read"), "p.csv", 1),), "model.conf")


def test_a_rule_is_made_by_its_fields_names() -> None:
    """An empty condition is left off, as people write it."""
    row = build_rule(mesh(), "p", "deny", FRONTEND)
    assert row.values == ("td/ns/shop/sa/frontend", "orders", "GET", "/x", "deny")
    conditioned = build_rule(mesh(), "p", "allow", {**FRONTEND, "when": "source.ip == '::1'"})
    assert conditioned.values[-1] == "source.ip == '::1'"


def test_a_spiffe_id_is_taken_as_the_principal_it_is() -> None:
    """Rules name callers without the scheme."""
    row = build_rule(mesh(), "p", "allow", {**FRONTEND, "who": "spiffe://td/ns/a/sa/b"})
    assert row.values[0] == "td/ns/a/sa/b"
    link = build_link(mesh(), "g", ("spiffe://td/ns/a/sa/b", "role:web"))
    assert link.values[0] == "td/ns/a/sa/b"


def test_a_short_name_is_refused_and_the_whole_one_is_offered() -> None:
    """It would make a rule that nobody can ever meet."""
    with pytest.raises(EditError, match="do you mean td/ns/shop/sa/frontend"):
        build_rule(mesh(), "p", "allow", {**FRONTEND, "who": "frontend"})


def test_a_misspelt_field_is_told_with_the_nearest() -> None:
    """And with all that there are."""
    with pytest.raises(EditError, match="nearest is 'sub'; it has sub, obj, act"):
        build_rule(rbac(), "p", "allow", {"subj": "bob", "obj": "data", "act": "read"})


def test_a_missing_field_is_named() -> None:
    """No field of a rule has a silent default."""
    with pytest.raises(EditError, match="act missing: a p has sub, obj, act"):
        build_rule(rbac(), "p", "allow", {"sub": "bob", "obj": "data"})


def test_a_model_without_effects_can_not_deny() -> None:
    """A rule that says deny there would allow."""
    with pytest.raises(EditError, match="only ever allows"):
        build_rule(rbac(), "p", "deny", {"sub": "bob", "obj": "data", "act": "read"})


def test_a_definition_that_the_model_lacks_is_told_with_those_it_has() -> None:
    """Rules and roles alike."""
    with pytest.raises(EditError, match="no 'p2'; it has p"):
        build_rule(rbac(), "p2", "allow", {})
    with pytest.raises(EditError, match="no 'g2'; it has g"):
        build_link(rbac(), "g2", ("alice", "admin"))


def test_a_link_with_a_value_too_few_shows_all_of_them() -> None:
    """Roles in domains have three."""
    with pytest.raises(EditError, match="has 3 values, not 2: MEMBER ROLE DOMAIN"):
        build_link(rbac(), "g", ("alice", "admin"))


def test_what_the_policy_says_already_is_not_added_twice() -> None:
    """It is told where it stands."""
    again = Row("p", ("role:web", "orders", "GET", "/orders/*", "allow", ""))
    edit = add(mesh(), again)
    assert edit.added == ()
    assert edit.same is not None
    assert edit.same.line == 1


def test_lines_that_say_the_same_are_revoked_together() -> None:
    """One of them left behind would go on denying."""
    edit = remove(mesh(), Pick("p", {"method": "DELETE"}))
    assert [row.line for row in edit.removed] == [3, 4]
    assert len(edit.text.rows) == 3


def test_an_empty_condition_picks_the_rule_without_one() -> None:
    """A row that leaves it off has an empty one."""
    edit = remove(mesh(), Pick("p", {"who": "role:web", "when": ""}))
    assert [row.line for row in edit.removed] == [1]


def test_several_lines_are_listed_and_none_is_removed() -> None:
    """With their places, by which one of them can be named."""
    with pytest.raises(EditError) as caught:
        remove(mesh(), Pick("p", {"who": "role:web"}))
    told = str(caught.value).splitlines()
    assert told[0].startswith("2 lines are meant")
    assert [line.split(": ")[0].strip() for line in told[1:]] == ["policy.csv:1", "policy.csv:2"]
    assert remove(mesh(), Pick("p", {"who": "role:web"}, "policy.csv:2")).removed[0].line == 2


def test_where_none_is_meant_the_nearest_come_first() -> None:
    """A slip of the hand in one field is the likeliest cause."""
    with pytest.raises(EditError) as caught:
        remove(mesh(), Pick("p", {"who": "role:wbe", "method": "PUT", "path": "/orders/*"}))
    told = str(caught.value).splitlines()
    assert told[0] == "no p has who 'role:wbe', method 'PUT', path '/orders/*'"
    assert told[2].strip().startswith("policy.csv:2: ")


@pytest.mark.parametrize(
    "values",
    [
        ("a", "b"),
        ("a", ""),
        ("", "a"),
        ("say, what",),
        ('"quoted"',),
        ('mid"dle',),
        ("f(x, y)",),
        ("f(x",),
        ("x]",),
        ("request.headers['a'] == 'x, y'",),
        ("#1",),
    ],
)
def test_a_written_line_is_parsed_to_the_same_row(values: tuple[str, ...]) -> None:
    """Quotes, commas, brackets, empty values."""
    assert parse_line(write_line(Row("p", values))) == ["p", *values]


@given(st.lists(st.text(st.sampled_from('ab ,"()[]#\n\r\t\u2028*') | st.characters()), min_size=1))
def test_any_row_is_written_so_that_it_is_parsed_again_or_refused(values: list[str]) -> None:
    """Nothing comes back as another row, whatever is in it; a file of two lines has two rows."""
    row = Row("p", tuple(values))
    try:
        line = write_line(row)
    except ValueError:
        return
    rows, faults = parse_csv(f"{line}\n{line}\n", "p.csv")
    assert not faults
    assert [each.values for each in rows] == [row.values] * 2


@pytest.mark.parametrize("value", ["a\nb", " a", "a\r"])
def test_what_no_line_can_hold_is_refused(value: str) -> None:
    """It would come back as something else."""
    with pytest.raises(ValueError, match="no line of policy"):
        write_line(Row("p", (value, "x")))
