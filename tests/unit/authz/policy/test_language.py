"""The expression language: what it means, and what it has no words for."""

from typing import Any

import pytest

from authz.policy.errors import PolicyError
from tests.unit.authz.policy.policies import built, model


class Person:
    """A subject with attributes, some of them not for policies."""

    def __init__(self, name: str, age: int) -> None:
        self.name = name
        self.age = age
        self._secret = name
        self.tags = ["a", "b"]

    def method(self) -> str:
        """Code, not data."""
        return self.name


def true_of(matcher: str, sub: Any = "alice", obj: Any = "data1") -> bool:
    """Whether a matcher is true of a request and one rule (alice, data1)."""
    policy = built(model(matcher, request="sub, obj", policy="sub, obj"), "p, alice, data1")
    decision = policy.decide((sub, obj))
    assert decision.allowed == policy.decide_by_scan((sub, obj)).allowed
    return decision.allowed


@pytest.mark.parametrize(
    "matcher",
    [
        "r.sub == p.sub && r.obj == p.obj",
        "r_sub == p_sub and r_obj == p_obj",
        "r.sub == \"alice\" || r.sub == 'bob'",
        "r.sub != 'bob' && !(r.sub == 'bob')",
        "!r.sub == 'bob'",
        "not r.sub == 'bob'",
        "r.sub in ('alice', 'bob')",
        "r.sub in ['alice']",
        "r.sub not in ('bob', 'eve')",
        "1 + 2 * 3 - 4 / 2 == 5",
        "7 % 4 == 3 && -1 < 0 && +1 > 0",
        "1 < 2 <= 2 < 3",
        "1.5 > 1 && .5 < 1 && 1e3 == 1000",
        "r.sub + '-' + r.obj == 'alice-data1'",
        "true && !false",
        "(r.sub == 'alice' ? 1 : 0) == 1",
        "(1 if r.sub == 'alice' else 0) == 1",
        "1",
        "r.sub == 'al\\x69ce' && 'it\\'s' == \"it's\"",
        "regexMatch(r.sub, '^al\\w+$')",
        "keyMatch2(r.obj, 'data1')",
        "((((((((r.sub == 'alice'))))))))",
    ],
)
def test_what_the_language_says(matcher: str) -> None:
    """Each of these is true."""
    assert true_of(matcher)


@pytest.mark.parametrize(
    "matcher",
    ["0", "false", "r.sub == 'bob'", "r.sub in ()", "r.sub == 'alice' && r.obj == 'x'", "1 > 2"],
)
def test_what_is_not_true(matcher: str) -> None:
    """Each of these is false, and raises nothing."""
    assert not true_of(matcher)


def test_attributes_of_objects_and_keys_of_dicts_are_read_alike() -> None:
    """ABAC on whatever the application has."""
    assert true_of("r.sub.age > 18 && r.sub.name == p.sub", Person("alice", 20))
    assert true_of("r.sub.age > 18 && r.sub.name == p.sub", {"age": 20, "name": "alice"})
    assert true_of(
        "r.sub.tags[1] == 'b' && r.sub['name'] == 'alice'", {"name": "alice", "tags": "ab"}
    )
    assert true_of("'a' in r.sub.tags", Person("alice", 20))


@pytest.mark.parametrize(
    "matcher",
    [
        "r.sub.method == 1",
        "r.sub.nothing == 1",
        "r.sub.name.upper == 1",
        "r.sub.name > 3",
        "r.sub.tags * 3 == 1",
        "r.sub.name * 3 == 1",
        "r.sub.name % 3 == 1",
        "r.sub.age / 0 == 1",
        "r.sub.name",
        "r.sub.tags",
    ],
)
def test_a_matcher_that_raises_allows_nothing(matcher: str) -> None:
    """A value it can't judge is judged closed, and named."""
    policy = built(model(matcher, request="sub, obj", policy="sub, obj"), "p, alice, data1")
    decision = policy.decide((Person("alice", 20), "data1"))
    assert not decision.allowed
    assert len(decision.faults) == 1


@pytest.mark.parametrize(
    ("matcher", "message"),
    [
        ("r.sub.__class__ == 1", "private"),
        ("r.sub._secret == 1", "private"),
        ("r.sub['x'].__dict__", "private"),
        ("__import__('os')", "unknown function"),
        ("open('/etc/passwd')", "unknown function"),
        ("getattr(r.sub, 'x')", "unknown function"),
        ("r.sub.method()", "can't be called"),
        ("r.sub.tags.pop()", "can't be called"),
        ("'x'.format(1)", "can't be called"),
        ("(r.sub)(1)", "can't be called"),
        ("[1 for x in r.sub]", "expected ']'"),
        ("lambda: 1", "unknown name 'lambda'"),
        ("r.sub := 1", "unexpected '='"),
        ("r.sub = 1", "use == to compare"),
        ("r.sub & 1", "use && for and"),
        ("{}", "dicts can't be written"),
        ("f'{r.sub}'", "unknown name 'f'"),
        ("r.sub == 'x", "not closed"),
        ("r.sub ==", "expected a value"),
        ("r.nobody == 1", "r has no field 'nobody'"),
        ("r == 1", "r needs a field"),
        ("x.y == 1", "unknown name 'x.y'"),
        ("r2.sub == 1", "unknown name"),
        ("keyMatch(r.sub)", "takes 2 arguments"),
        ("keymatch2(r.sub, p.sub)", "did you mean keyMatch2?"),
        ("g(r.sub, p.sub)", "unknown function 'g'"),
        ("regexMatch(r.sub, '(')", "no regular expression"),
        ("regexMatch(r.sub, '(?<=a)b')", "no regular expression for re2"),
        ("timeMatch('_', '_')", "unknown function"),
        ("9 ** 9 ** 9", "expected a value"),
        ("(" * 60 + "1" + ")" * 60, "nested deeper"),
        ("-" * 60 + "1", "signs in a row"),
        ("1" + "+1" * 60, "operators in a row"),
        ("r.sub" + ".a" * 60, "attributes in a row"),
        ("1 == " + "1" * 5000, "a number longer"),
        ("r.sub == 'a' || " * 5000 + "1", "longer than"),
    ],
)
def test_what_the_language_has_no_words_for_is_refused_at_load(matcher: str, message: str) -> None:
    """No attribute, builtin, loop or call on a value can be reached; depth is bounded."""
    with pytest.raises(PolicyError) as raised:
        true_of(matcher)
    (fault,) = raised.value.faults
    assert fault.file == "model.conf"
    assert fault.line == 11
    assert message in fault.message


def test_long_chains_are_no_deep_nesting() -> None:
    """What is written flat is evaluated flat."""
    assert true_of(" || ".join(["r.sub == 'bob'"] * 300 + ["r.sub == 'alice'"]))


def test_a_false_term_outweighs_one_that_raises() -> None:
    """A deny rule for one object does not fire on another because of an odd subject."""
    text = model(
        "r.sub.age > 18 && r.obj == p.obj",
        request="sub, obj",
        policy="obj, eft",
        effect="some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    )
    policy = built(text, "p, data1, deny\np, data2, allow")
    assert policy.decide(("odd", "data1")).rule is not None
    other = policy.decide(("odd", "data2"))
    assert (other.allowed, other.rule) == (False, None)
    assert [rule.where for rule in other.faults] == ["policy.csv:2"]


def test_a_rule_may_bring_its_own_condition() -> None:
    """eval(p.rule), compiled once; what it holds is checked at load like a matcher."""
    text = model("eval(p.rule) && r.obj == p.obj", request="sub, obj", policy="rule, obj")
    policy = built(text, "p, \"r.sub.age > 18 && r.sub.name in ('al', 'bo')\", data1")
    assert policy.decide(({"age": 20, "name": "bo"}, "data1")).allowed
    assert not policy.decide(({"age": 17, "name": "bo"}, "data1")).allowed
    with pytest.raises(PolicyError, match=r"policy.csv:1: rule: '__x__': names that start"):
        built(text, "p, r.sub.__x__, data1")
    with pytest.raises(PolicyError, match=r"eval\(\) inside eval"):
        built(text, "p, eval('1'), data1")
