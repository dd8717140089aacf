"""A matcher or an eval() rule reaches data and functions, and nothing else of the program.

What text there is comes to: a decision, or our own error. No attribute with a leading underscore,
no builtin, no call on a value, no loop, no recursion to Python's limit.
"""

from contextlib import suppress
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.casbin import Enforcer
from authz.policy.errors import ExpressionError, PolicyError
from authz.policy.language import Language
from authz.policy.model import parse_model
from authz.policy.parser import parse_expression
from authz.policy.snapshot import EngineOptions, PolicyText, Row, Snapshot, Terms
from authz.policy.syntax import Attribute, Call, walk

MODEL = """[request_definition]
r = sub, obj
[policy_definition]
p = rule, obj
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = {}
"""
OPTIONS = EngineOptions(backtracking_regex=True)
LANGUAGE = Language(parse_model(MODEL.format("r.obj == p.obj"), "model.conf"), OPTIONS)
KNOWN = {*LANGUAGE.functions, *LANGUAGE.roles, "eval", "meshWhen"}

# Each is refused: as a matcher by the build, as a rule by matching nothing.
ESCAPES = [
    'r.sub.__class__ == "x"',
    'r.sub.__class__.__mro__[1].__subclasses__() != ""',
    "r.sub._secret == 1",
    'r["sub"] == 1',
    'r.sub["__class__"].x == 1',
    "r.__dict__ != 1",
    "__import__('os').system('true') == 0",
    "open('/etc/passwd') != 1",
    "getattr(r.sub, 'x') == 1",
    "globals() != 1",
    "eval('r.sub.explode()') == 1",
    "exec('1') == 1",
    "type(r.sub) != 1",
    "list(r.obj) != 1",
    "str(r.obj) != 1",
    "len(r.obj) > 0",
    "print(1) == 1",
    "r.sub.explode() == 1",
    "r.sub() == 1",
    "(r.sub)() == 1",
    "(r.sub.explode)() == 1",
    "[r.sub][0]() == 1",
    "r.obj.upper() == 'A'",
    "'{0.__class__}'.format(r.sub) != 1",
    "f'{r.sub.__class__}' != 1",
    "'%s' % r.sub != 1",
    "'a' * 1000000000 != 1",
    "[0] * 1000000000 != 1",
    "9 ** 9 ** 9 ** 9 > 1",
    "1 << 1000000000 > 1",
    "[x for x in r.obj] != 1",
    "(x for x in r.obj) != 1",
    "{x for x in r.obj} != 1",
    "any(x == 1 for x in r.obj)",
    "(lambda: 1)() == 1",
    "lambda: True",
    "(x := 1) == 1",
    "{**r.sub} != 1",
    "[*r.obj] != 1",
    "g(*r.obj)",
    "g(a=r.sub, b=r.sub)",
    "r.sub if r.sub",
    "import os",
    "True; True",
    "r.sub.explode == 1 or True; r.sub()",
    "`id`",
    "r.obj @ r.obj != 1",
    "await r.sub != 1",
    "yield r.sub",
    "\\x5f_import__('os')",
    "r.sub.\N{FULLWIDTH LOW LINE}\N{FULLWIDTH LOW LINE}class__ == 1",
    "\N{SCRIPT SMALL E}val('1') == 1",
]


class Bomb:
    """A request value that must be neither called nor looked into."""

    Age = 18
    _secret = 1

    def explode(self) -> NoReturn:
        """Raise what nobody suppresses."""
        raise BaseExceptionGroup("reached", [KeyboardInterrupt()])

    __call__ = __enter__ = __iter__ = __format__ = explode  # type: ignore[assignment]


def by_matcher(text: str) -> bool:
    """What a model with this matcher decides."""
    rows = (Row("p", ("x", "data"), "policy.csv", 1),)
    made = Snapshot.build(PolicyText(MODEL.format(text), rows, "model.conf"), options=OPTIONS)
    return made.decide((Bomb(), "data")).allowed


def by_rule(text: str) -> bool:
    """What the drop-in decides by a rule with this text."""
    enforcer = Enforcer(Enforcer.new_model(text=MODEL.format("eval(p.rule) && r.obj == p.obj")))
    enforcer.add_policy(text, "data")
    allowed: bool = enforcer.enforce(Bomb(), "data")
    return allowed


@pytest.mark.parametrize("text", ESCAPES)
def test_a_matcher_that_reaches_out_is_no_matcher(text: str) -> None:
    """Refused when the policy is built, or without effect where only a value could tell."""
    with suppress(PolicyError):
        assert not by_matcher(text)


@pytest.mark.parametrize("text", ESCAPES)
def test_a_rule_that_reaches_out_allows_nothing(text: str) -> None:
    """Whoever may write rules may not run programs."""
    assert not by_rule(text)


def test_what_the_rules_are_for_still_works() -> None:
    """Or the tests above would prove nothing."""
    assert by_rule("r.sub.Age >= 18")
    assert by_matcher("r.sub.Age >= 18")


NESTED = {
    "parentheses": lambda depth: "(" * depth + "r.sub.Age" + ")" * depth,
    "open parentheses": lambda depth: "(" * depth,
    "negations": lambda depth: "!" * depth + "r.sub.Age",
    "words": lambda depth: "not " * depth + "r.sub.Age",
    "signs": lambda depth: "-" * depth + "r.sub.Age",
    "lists": lambda depth: "[" * depth + "]" * depth,
    "calls": lambda depth: "keyMatch(" * depth + "r.obj" + ", 'x')" * depth,
    "attributes": lambda depth: "r.sub" + ".Age" * depth,
    "items": lambda depth: "r.sub" + "[0]" * depth,
    "choices": lambda depth: "r.obj == 'x' ? 1 : " * depth + "2",
    "choices in words": lambda depth: "1 if r.obj == 'x' else " * depth + "2",
    "and": lambda depth: " && ".join(["r.obj == p.obj"] * depth),
    "or": lambda depth: " || ".join(["r.obj == 'x'"] * depth),
    "and in or": lambda depth: (
        "(r.obj == p.obj && (r.obj == 'x' || " * depth + "r.obj" + "))" * depth
    ),
    "comparisons": lambda depth: " == ".join(["r.obj"] * depth),
    "sums": lambda depth: " + ".join(["r.sub.Age"] * depth),
    "in": lambda depth: " in ".join(["r.obj"] * depth),
}


@pytest.mark.parametrize("depth", [3, 30, 39, 100, 1_000, 100_000])
@pytest.mark.parametrize("shape", NESTED)
def test_deep_nesting_is_an_error_and_no_recursion(shape: str, depth: int) -> None:
    """It decides, or it is refused with a message; Python's own limits are never met."""
    text = NESTED[shape](depth)
    with suppress(PolicyError):
        by_matcher(text)
    by_rule(text)


WORDS = [
    *("r.sub", "r.obj", "p.obj", "r.sub.Age", "p.rule", "r", "p", "'a'", '"', "1", "0.5", "true"),
    *("==", "!=", "<", ">=", "&&", "||", "!", "in", "not", "and", "or", "+", "-", "*", "/", "%"),
    *(
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "?",
        ":",
        "if",
        "else",
        "g(",
        "keyMatch(",
        "eval(",
        "regexMatch(",
    ),
    *(
        "__class__",
        "_x",
        ".explode",
        "()",
        "lambda",
        "for",
        "x",
        ":=",
        "{",
        "}",
        "\\",
        "\n",
        "#",
        ";",
    ),
    *("r_sub", "p_obj", "open", "__import__", "**", "//", "<<", "@", "`", "é", "\x00", "$"),
]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14), st.sampled_from(["", " "]))
def test_any_text_is_refused_or_reaches_only_data(words: list[str], between: str) -> None:
    """A tree that was accepted has no private attribute and calls only what the language has."""
    text = between.join(words)
    scope = LANGUAGE.scope(Terms())
    try:
        tree = parse_expression(text, scope)
    except ExpressionError:
        return
    for node in walk(tree):
        assert not (isinstance(node, Attribute) and node.name.startswith("_"))
        assert not (isinstance(node, Call) and node.name not in KNOWN)
    assert by_rule(text) in {True, False}
    with suppress(PolicyError):
        assert by_matcher(text) in {True, False}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_characters_are_a_decision_or_our_error(text: str) -> None:
    """Also where no word of the language stands."""
    with suppress(ExpressionError):
        parse_expression(text, LANGUAGE.scope(Terms()))
