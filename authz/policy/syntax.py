"""The expression tree: everything a matcher can say, and nothing else.

There is no node for a loop, an assignment, a lambda or a call on a value, so no matcher text can
reach one, whatever is done with the tree afterwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "And",
    "Arithmetic",
    "Attribute",
    "Call",
    "Compare",
    "Const",
    "Context",
    "Field",
    "If",
    "In",
    "Item",
    "Listing",
    "Negative",
    "Node",
    "Not",
    "Or",
    "children",
    "walk",
]


@dataclass(frozen=True, slots=True)
class Const:
    """A literal: str, int, float, bool or None."""

    value: object


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the request (`r.sub`) or of the rule (`p.sub`).

    Attributes:
        key: The definition, "r2" or "p", ...
        name: The field's name.
        index: Its place in the definition.
    """

    key: str
    name: str
    index: int

    @property
    def of_rule(self) -> bool:
        """Whether the rule has it, not the request."""
        return self.key[0] == "p"


@dataclass(frozen=True, slots=True)
class Context:
    """A dotted attribute name in a condition over attributes, such as `request.headers`."""

    name: str


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`: an attribute of an object, or a key of a dict."""

    value: "Node"
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """`value[key]`."""

    value: "Node"
    key: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a registered function, a role definition or `eval`."""

    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Logical not."""

    value: "Node"


@dataclass(frozen=True, slots=True)
class Negative:
    """A minus sign before a number."""

    value: "Node"


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction of two or more terms."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction of two or more terms."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """One of == != < <= > >=."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class In:
    """Membership; negated for `not in`."""

    left: "Node"
    right: "Node"
    negated: bool


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One of + - * / %."""

    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class If:
    """A ternary, in either spelling."""

    test: "Node"
    then: "Node"
    otherwise: "Node"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list or tuple written out."""

    items: tuple["Node", ...]


Node = (
    Const
    | Field
    | Context
    | Attribute
    | Item
    | Call
    | Not
    | Negative
    | And
    | Or
    | Compare
    | In
    | Arithmetic
    | If
    | Listing
)


def children(node: Node) -> tuple[Node, ...]:  # noqa: PLR0911 - one return a kind of node
    """The parts of a node, from left to right."""
    match node:
        case Const() | Field() | Context():
            return ()
        case Attribute() | Not() | Negative():
            return (node.value,)
        case Item():
            return (node.value, node.key)
        case Call():
            return node.arguments
        case And() | Or():
            return node.terms
        case Compare() | In() | Arithmetic():
            return (node.left, node.right)
        case If():
            return (node.test, node.then, node.otherwise)
        case Listing():
            return node.items


def walk(node: Node) -> Iterator[Node]:
    """Every node of a tree, the root first."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))
