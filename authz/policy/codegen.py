"""Expression trees to Python source.

The source is made of our own words only: places in tuples, names counted up by us, operators from
a list. No text of a policy or a model ever becomes source; constants are handed over as objects.
The code runs with no builtins.
"""

from collections.abc import Callable, Mapping
from typing import Any

from authz.policy import operations
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

__all__ = ["Emitter", "is_truth"]

_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder"}
_COMPARE = {"==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Emitter:
    """Turns nodes into expressions of Python, and collects the objects that these name.

    Attributes:
        names: What the code will run with: every name in it that is not a local one.
        request: How a field of the request is written.
        known: How a node is written that has been worked out already.
    """

    def __init__(
        self,
        call: Callable[["Emitter", Call], str],
        request: Callable[[int], str],
        boolean: Mapping[str, bool],
        *,
        attributes: Callable[[str], Callable[[Any], Any]] | None = None,
    ) -> None:
        self.names: dict[str, Any] = {"__builtins__": {}}
        self._call = call
        self.request = request
        self._boolean = boolean
        self._attributes = attributes
        self.known: dict[Node, str] = {}

    def name(self, value: Any, letter: str = "k") -> str:
        """A name for an object that the code needs."""
        for name, known in self.names.items():
            if known is value:
                return name
        name = f"{letter}{len(self.names)}"
        self.names[name] = value
        return name

    def emit(self, node: Node) -> str:  # noqa: PLR0911 - one return a kind of node
        """The expression for one node."""
        known = self.known.get(node)
        if known is not None:
            return known
        match node:
            case Const():
                return self.name(node.value)
            case Field():
                return f"v[{node.index}]" if node.of_rule else self.request(node.index)
            case And():
                return "(" + " and ".join([self._operand(term) for term in node.terms]) + ")"
            case Or():
                return "(" + " or ".join([self._operand(term) for term in node.terms]) + ")"
            case Not():
                return f"(not {self.emit(node.value)})"
            case Compare():
                operator = _COMPARE[node.operator]
                return f"({self.emit(node.left)} {operator} {self.emit(node.right)})"
            case In():
                operator = "not in" if node.negated else "in"
                return f"({self.emit(node.left)} {operator} {self.emit(node.right)})"
            case Call():
                return self._call(self, node)
            case _:
                return self._value(node)

    def _operand(self, node: Node) -> str:
        """A term of a chain: what is false of it is False, as the interpreter has it."""
        text = self.emit(node)
        return text if is_truth(node, self._boolean) else f"({text} or False)"

    def _value(self, node: Node) -> str:  # noqa: PLR0911 - one return a kind of node
        match node:
            case Attribute():
                plain = self._attributes is None
                read = operations.attribute if plain else operations.absent_attribute
                return f"{self.name(read)}({self.emit(node.value)}, {self.name(node.name)})"
            case Item():
                if self._attributes is None:
                    return f"{self.emit(node.value)}[{self.emit(node.key)}]"
                absent = self.name(operations.absent_item)
                return f"{absent}({self.emit(node.value)}, {self.emit(node.key)})"
            case Context() if self._attributes is not None:
                return f"{self.name(self._attributes(node.name))}(a)"
            case Negative():
                return f"{self.name(operations.negative)}({self.emit(node.value)})"
            case Arithmetic():
                apply = self.name(getattr(operations, _ARITHMETIC[node.operator]))
                return f"{apply}({self.emit(node.left)}, {self.emit(node.right)})"
            case If():
                return (
                    f"({self.emit(node.then)} if {self.emit(node.test)}"
                    f" else {self.emit(node.otherwise)})"
                )
            case Listing():
                return "(" + "".join([f"{self.emit(each)}, " for each in node.items]) + ")"
            case _:
                raise AssertionError(node)

    def function(self, source: str, name: str) -> Callable[..., Any]:
        """Compile source that defines one function; the source is ours, never a user's."""
        exec(_compiled(source), self.names)  # noqa: S102 - see the head of this file
        made: Callable[..., Any] = self.names[name]
        return made


_CODE: dict[str, Any] = {}
_MAX_CODE = 1024


def _compiled(source: str) -> Any:
    """Expressions that differ in their constants only have the same source: compile it once."""
    code = _CODE.get(source)
    if code is None:
        if len(_CODE) >= _MAX_CODE:
            _CODE.clear()
        code = _CODE[source] = compile(source, "<matcher>", "exec")
    return code


def is_truth(node: Node, boolean: Mapping[str, bool]) -> bool:
    """Whether a node always comes to a truth value.

    Args:
        node: The node.
        boolean: Which functions always return one, by name.
    """
    match node:
        case Compare() | In() | Not():
            return True
        case Const():
            return isinstance(node.value, bool)
        case And() | Or():
            return all(is_truth(term, boolean) for term in node.terms)
        case Call():
            return boolean.get(node.name, False)
        case _:
            return False
