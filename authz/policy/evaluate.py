"""The meaning of an expression, by walking its tree.

This is the plain form of what the compiler makes fast, and the judge where something raises: a term
that raises is neither true nor false, and a conjunction with a false term is false all the same, a
disjunction with a true one true (Kleene's strong logic). So what a rule comes to never depends on
the order in which its terms, or the rules, are tried.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from authz.policy import operations
from authz.policy.options import Privacy
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
)

__all__ = ["Calls", "Scene", "evaluate", "holds"]

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Calls(Protocol):
    """What names in call position do, and what may be told.

    Attributes:
        privacy: Of the request's fields, by name; those that are not here may be told.
    """

    privacy: Mapping[str, Privacy]

    def masked(self, text: str) -> str:
        """The text of a condition without what must not be told."""
        ...

    def plain(self, name: str) -> Callable[..., Any]:
        """The function of that name, or the role definition as a function of names."""
        ...

    def condition(self, text: Any) -> Node:
        """The tree of the text that a rule hands to `eval`; raises on what is no text."""
        ...

    def when(self, text: Any) -> Node | None:
        """The tree of a condition over attributes; None where the rule has none."""
        ...

    def attribute(self, name: str) -> Callable[[Any], Any]:
        """The reader of a dotted attribute name."""
        ...


@dataclass(slots=True)
class Scene:
    """What an expression is evaluated over.

    Attributes:
        request: Values of the request, by the index of the field.
        rule: Values of the rule.
        calls: What functions do.
        attributes: The value that dotted names in a condition are read from.
        in_condition: Whether this is such a condition, where a key that is not there is "".
    """

    request: Any
    rule: Any
    calls: Calls
    attributes: Any = None
    in_condition: bool = False


def holds(node: Node, scene: Scene) -> bool:
    """Whether a matcher is true of a request and a rule.

    Raises:
        Exception: Whatever a term raised that the outcome hangs on.
    """
    return operations.truth(evaluate(node, scene))


def evaluate(node: Node, scene: Scene) -> Any:  # noqa: PLR0911 - one return a kind of node
    """What a node comes to; raises what its terms raise where they matter."""
    match node:
        case Const():
            return node.value
        case Field():
            return (scene.rule if node.of_rule else scene.request)[node.index]
        case And():
            return _joined(node.terms, scene, stops_at=False)
        case Or():
            return _joined(node.terms, scene, stops_at=True)
        case Not():
            return not evaluate(node.value, scene)
        case Compare():
            compare = COMPARE[node.operator]
            return compare(evaluate(node.left, scene), evaluate(node.right, scene))
        case In():
            inside = operations.contains(evaluate(node.left, scene), evaluate(node.right, scene))
            return inside != node.negated
        case Call():
            return _call(node, scene)
        case _:
            return _value(node, scene)


def _value(node: Node, scene: Scene) -> Any:  # noqa: PLR0911 - one return a kind of node
    match node:
        case Attribute():
            absent = scene.in_condition
            read = operations.absent_attribute if absent else operations.attribute
            return read(evaluate(node.value, scene), node.name)
        case Item():
            item = operations.absent_item if scene.in_condition else operations.item
            return item(evaluate(node.value, scene), evaluate(node.key, scene))
        case Context():
            return scene.calls.attribute(node.name)(scene.attributes)
        case Negative():
            return operations.negative(evaluate(node.value, scene))
        case Arithmetic():
            apply = operations.ARITHMETIC[node.operator]
            return apply(evaluate(node.left, scene), evaluate(node.right, scene))
        case If():
            chosen = node.then if evaluate(node.test, scene) else node.otherwise
            return evaluate(chosen, scene)
        case Listing():
            return tuple([evaluate(each, scene) for each in node.items])
        case _:
            raise AssertionError(node)


def _joined(terms: tuple[Node, ...], scene: Scene, *, stops_at: bool) -> Any:
    """Evaluate a chain: the first value that decides it wins over any that raised."""
    raised: Exception | None = None
    value: Any = None
    for term in terms:
        try:
            value = evaluate(term, scene)
        except Exception as error:  # noqa: BLE001 - whatever it is, a later term may outweigh it
            raised = raised or error
        else:
            if bool(value) is stops_at:
                # What is false is False: only what is true may be taken for what it is.
                return value if stops_at else False
    if raised is not None:
        raise raised
    return False if stops_at else value


def _call(node: Call, scene: Scene) -> Any:
    if node.name == "eval":
        tree = scene.calls.condition(evaluate(node.arguments[0], scene))
        return evaluate(tree, scene)
    if node.name == "meshWhen":
        when = scene.calls.when(evaluate(node.arguments[1], scene))
        if when is None:
            return True
        attributes = evaluate(node.arguments[0], scene)
        return holds(when, Scene((), (), scene.calls, attributes, in_condition=True))
    function = scene.calls.plain(node.name)
    return function(*[evaluate(each, scene) for each in node.arguments])
