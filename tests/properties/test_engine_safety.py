"""Whatever text a model or a policy is made of: it is used, or refused by our own error."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.policy.csv_rows import parse_csv
from authz.policy.engine import Engine
from authz.policy.errors import ExpressionError, PolicyError
from authz.policy.language import Language, Terms
from authz.policy.mesh import mesh_model
from authz.policy.model import parse_model
from authz.policy.options import EngineOptions
from authz.policy.parser import parse_expression
from authz.policy.rules import PolicyText, Row
from authz.policy.snapshot import Snapshot
from authz.policy.syntax import Attribute, walk

MODEL = """[request_definition]
r = sub, obj
[policy_definition]
p = sub, obj, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = {matcher}
"""
LANGUAGE = Language(parse_model(MODEL.format(matcher="true"), "m"), EngineOptions())
SCOPE = LANGUAGE.scope(Terms())
TEXT = """
    r.sub p.obj r p g eval keyMatch2 regexMatch ipMatch meshPath meshWhen in not and or if else
    true false None 'x' "y" 1 2.5 ( ) [ ] , . ? : ! && || == != < <= > >= + - * / % ** =~ = { }
    __class__ _x .__dict__ lambda import for yield await print exec open getattr \\ # ' " ; @ $
"""
WORDS = TEXT.split()
expressions = st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)
tight = st.lists(st.sampled_from(WORDS), max_size=25).map("".join)
values = st.sampled_from(["alice", "", "10.0.0.1", 3, None, {"sub": "x"}, ["a"], b"x", object()])
quick = settings(max_examples=400, deadline=None)


@quick
@given(text=st.one_of(expressions, tight, st.text(max_size=60)))
def test_any_expression_is_parsed_or_refused(text: str) -> None:
    """And no tree reaches a private attribute."""
    try:
        node = parse_expression(text, SCOPE)
    except ExpressionError:
        return
    assert not any(isinstance(each, Attribute) and each.name.startswith("_") for each in walk(node))


@quick
@given(text=expressions, sub=values, obj=values)
def test_any_matcher_that_is_taken_decides_and_never_raises(text: str, sub: Any, obj: Any) -> None:
    """As the scan does, whatever the request is made of."""
    try:
        engine = Engine(parse_model(MODEL.format(matcher=text.replace("\\", "")), "m"))
        engine.program()
    except PolicyError:
        return
    for row in (
        ("alice", "10.0.0.0/8", "allow"),
        ("", "/a/:x", "deny"),
        ("r.sub == 1", "(", "allow"),
    ):
        engine.add(Row("p", row))
    fast, slow = engine.decide((sub, obj)), engine.decide_by_scan((sub, obj))
    assert (fast.allowed, fast.rule) == (slow.allowed, slow.rule)
    assert isinstance(fast.misses, tuple)


@quick
@given(text=st.text(max_size=200))
def test_any_csv_is_read_or_has_faults_with_a_line(text: str) -> None:
    """Never an exception."""
    rows, faults = parse_csv(text, "f.csv")
    assert all(row.line > 0 for row in rows)
    assert all(fault.line > 0 and fault.file == "f.csv" for fault in faults)


@quick
@given(
    text=st.one_of(st.text(max_size=300), expressions.map(lambda each: MODEL.format(matcher=each)))
)
def test_any_model_is_read_or_refused(text: str) -> None:
    """PolicyError and nothing else."""
    with contextlib.suppress(PolicyError):
        Snapshot.build(PolicyText(text, (), "m.conf"))


fields = st.sampled_from(
    ["*", "td/ns/a/sa/b", "GET", "/a/**", "allow", "role:x", "a.b == 1", "", "\n"]
)


@quick
@given(rows=st.lists(st.lists(st.one_of(fields, st.text(max_size=8)), max_size=7), max_size=4))
def test_any_rows_make_a_mesh_policy_or_are_refused(rows: list[list[str]]) -> None:
    """And what is made decides on anything."""
    made = tuple(Row("p", tuple(row), "f.csv", number) for number, row in enumerate(rows, 1))
    try:
        snapshot = Snapshot.build(PolicyText(mesh_model(), made))
    except PolicyError:
        return
    for path in ("/a", "", "\ud800", "\0", "/" * 5000):
        decision = snapshot.decide(("td/ns/a/sa/b", "", "s", "GET", path, {}))
        assert isinstance(decision.allowed, bool)


@pytest.mark.parametrize("path", ["/a" * 20000, "/" * 40000, "/x" * 20000 + "/y"])
def test_a_very_long_path_is_decided_in_bounded_time(path: str) -> None:
    """Patterns with many stars don't multiply: each segment is looked at once for each place."""
    rows = tuple(
        Row("p", ("*", "*", "*", pattern, "allow", ""))
        for pattern in ("/**/a/**/b", "/**/x/**/y/**/z", "/*/**/*/q", "/**/x*x*x*x*q")
    )
    snapshot = Snapshot.build(PolicyText(mesh_model(), rows))
    assert not snapshot.decide(("", "", "s", "GET", path, {})).allowed
