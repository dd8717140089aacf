"""Model text and policy CSV: what is read, and where faults are."""

import pytest

from authz.policy.csv_rows import parse_csv
from authz.policy.errors import PolicyError
from authz.policy.model import parse_model
from tests.unit.authz.policy.policies import model

TEXT = model("r.sub == p.sub")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("p, al, data1, read", ("al", "data1", "read")),
        ("p,al ,  data1,read", ("al", "data1", "read")),
        ('p, "a, b", "say ""hi""", read', ("a, b", 'say "hi"', "read")),
        ("p, f(a, b), [c, d], read", ("f(a, b)", "[c, d]", "read")),
        ("p, al, , ", ("al", "", "")),
        ("p, x # y", ("x # y",)),
        ('p, "", "  "', ("", "")),
    ],
)
def test_a_line_of_policy_is_split_as_casbin_does(line: str, values: tuple[str, ...]) -> None:
    """Quotes as in RFC 4180, and commas in brackets stay."""
    (row,), faults = parse_csv(line, "f.csv")
    assert (row.values, faults) == (values, [])


def test_comments_blank_lines_marks_and_line_ends_are_no_rows() -> None:
    """But they count as lines."""
    rows, faults = parse_csv("\ufeff# head\r\n\r\np, a\r\n  # more\rg, b, c\n", "f.csv")
    assert [(row.ptype, row.values, row.line) for row in rows] == [
        ("p", ("a",), 3),
        ("g", ("b", "c"), 5),
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('p, "a', "not closed"),
        ('p, "a"b, c', "after a closing quote"),
        ("p, f(a, b", "is missing"),
        ("p, a), b", "closes nothing"),
        ("q, a", "starts with p or g"),
    ],
)
def test_a_line_that_can_not_be_read_is_a_fault(line: str, message: str) -> None:
    """The other lines are read all the same."""
    rows, (fault,) = parse_csv(f"p, fine\n{line}\np, fine", "f.csv")
    assert len(rows) == 2
    assert (fault.file, fault.line) == ("f.csv", 2)
    assert message in fault.message


def test_a_model_may_have_comments_anywhere_and_go_on_over_lines() -> None:
    """A # in quotes is no comment."""
    text = """
; old style
[request_definition]   # what is asked
r = sub, obj   # two fields
[policy_definition]
p = sub, obj
[role_definition]
g = _, _
g2 = _, _, (_, _)
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == "#1" \\   # first
    && g(r.obj, \\
         p.obj)
"""
    read = parse_model(text, "m.conf")
    matcher = read.definitions["m"]
    assert matcher.text.split() == ["r.sub", "==", '"#1"', "&&", "g(r.obj,", "p.obj)"]
    assert matcher.line == 13
    assert read.roles["g2"].parameters == 2
    assert read.field_index("p", "obj") == 1
    assert read.field_index("p", "nothing") == -1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[matchers]", "[matcher]", "unknown section"),
        ("m = r.sub == p.sub", "", "has no 'm'"),
        ("m = r.sub == p.sub", "m =", "'m' is empty"),
        ("r = sub, obj, act", "r = sub, sub", "has a field twice"),
        ("r = sub, obj, act", "r = sub, 1x", "is no field name"),
        ("r = sub, obj, act", "r = sub\nr = sub", "defined twice"),
        ("r = sub, obj, act", "just words", "expected KEY = VALUE"),
        ("r = sub, obj, act", "x = sub", "does not belong"),
        ("[role_definition]", "[role_definition]\ng = _", "a role definition is"),
    ],
)
def test_a_model_that_is_not_right_is_refused(old: str, new: str, message: str) -> None:
    """With its line, where it has one."""
    with pytest.raises(PolicyError, match=r"m\.conf") as raised:
        parse_model(TEXT.replace(old, new, 1), "m.conf")
    assert any(message in fault.message for fault in raised.value.faults)
