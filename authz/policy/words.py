"""Expressions and near misses in words."""

from typing import Any

from authz.policy.evaluate import Scene, evaluate
from authz.policy.options import MASKED, Privacy
from authz.policy.syntax import (
    And,
    Arithmetic,
    Attribute,
    Call,
    Compare,
    Const,
    Context,
    Field,
    If,
    In,
    Item,
    Listing,
    Negative,
    Node,
    Not,
    Or,
    walk,
)

__all__ = ["miss_in_words", "written"]

_LONGEST = 80


def written(node: Node) -> str:  # noqa: PLR0911 - one return a kind of node
    """The expression as its author might have written it."""
    match node:
        case And():
            return " && ".join([_term(term) for term in node.terms])
        case Or():
            return " || ".join([_term(term) for term in node.terms])
        case Not():
            return f"!{_inner(node.value)}"
        case Compare() | Arithmetic():
            return f"{_inner(node.left)} {node.operator} {_inner(node.right)}"
        case In():
            return f"{_inner(node.left)} {'not in' if node.negated else 'in'} {_inner(node.right)}"
        case If():
            return f"{_inner(node.test)} ? {_inner(node.then)} : {_inner(node.otherwise)}"
        case _:
            return _value(node)


def _value(node: Node) -> str:  # noqa: PLR0911 - one return a kind of node
    match node:
        case Const():
            return '"' + node.value + '"' if isinstance(node.value, str) else str(node.value)
        case Field():
            return f"{node.key}.{node.name}"
        case Context():
            return node.name
        case Attribute():
            return f"{_inner(node.value)}.{node.name}"
        case Item():
            return f"{_inner(node.value)}[{written(node.key)}]"
        case Call():
            return f"{node.name}({', '.join([written(each) for each in node.arguments])})"
        case Negative():
            return f"-{_inner(node.value)}"
        case Listing():
            return f"({', '.join([written(each) for each in node.items])})"
        case _:
            raise AssertionError(node)


def _term(node: Node) -> str:
    """Written out as part of a chain, in parentheses where it is a chain of its own."""
    return f"({written(node)})" if isinstance(node, (And, Or, If)) else written(node)


def _inner(node: Node) -> str:
    """Written out, in parentheses where another operator stands around it."""
    plain = not isinstance(node, (And, Or, Compare, Arithmetic, In, If))
    return written(node) if plain else f"({written(node)})"


def miss_in_words(term: Node, scene: Scene) -> str:
    """Why a term is not true of a request and a rule.

    These words are kept in logs: of a header or a claim they tell no more than the program allows.
    """
    of_rule = list(dict.fromkeys(each for each in walk(term) if _is_field(each, of_rule=True)))
    asked = list(dict.fromkeys(each for each in walk(term) if _is_field(each, of_rule=False)))
    try:
        evaluate(term, scene)
    except Exception as error:  # noqa: BLE001 - a user's value, and any fault, told in words
        # Its message may quote a header or a claim.
        return _short(f"{_words(term, scene)} raised {type(error).__name__}")
    if isinstance(term, Call) and term.name in {"meshWhen", "eval"} and of_rule:
        field = of_rule[0]
        return _short(f"{field.name} is not met: {_condition(term, field, scene)}")  # type: ignore[arg-type, union-attr]
    if len(of_rule) == 1 and asked:
        field = of_rule[0]
        values = [_told(each, scene) for each in asked]  # type: ignore[arg-type]
        told = " and ".join(dict.fromkeys(value for value in values if value != "''")) or "nothing"
        privacy = [scene.calls.privacy.get(each.name) for each in asked]  # type: ignore[union-attr]
        wanted = MASKED if Privacy.SECRET in privacy else _shown(scene.rule[field.index])  # type: ignore[union-attr]
        return _short(f"{field.name} is {told}, the rule has {wanted}")  # type: ignore[union-attr]
    return _short(f"{_words(term, scene)} is not true")


def _words(term: Node, scene: Scene) -> str:
    """A term as it is written, without what a secret is compared with."""
    privacy = scene.calls.privacy
    secret = any(
        isinstance(each, Field) and not each.of_rule and privacy.get(each.name) is Privacy.SECRET
        for each in walk(term)
    )
    return MASKED if secret else scene.calls.masked(written(term))


def _condition(term: Call, field: Field, scene: Scene) -> str:
    """The text of a condition that a rule brings along, likewise."""
    if term.name == "eval" and Privacy.SECRET in scene.calls.privacy.values():
        return MASKED
    return scene.calls.masked(scene.rule[field.index])


def _is_field(node: Node, *, of_rule: bool) -> bool:
    return isinstance(node, Field) and node.of_rule is of_rule


def _told(field: Field, scene: Scene) -> str:
    """What a field of the request holds, or only that it holds something."""
    value = scene.request[field.index]
    is_told = scene.calls.privacy.get(field.name, Privacy.TOLD) is Privacy.TOLD
    return _shown(value) if is_told or value == "" else MASKED


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _short(text: str) -> str:
    longest = 3 * _LONGEST
    return text if len(text) <= longest else text[: longest - 3] + "..."
