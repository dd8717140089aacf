"""Expression text to its tree.

Casbin's expressions are govaluate's in Go and Python's in pycasbin; this grammar takes what both
share and both spellings of what they spell apart (`&&` and `and`, `a ? b : c` and `b if a else c`).

    choice  = or [ "?" choice ":" choice | "if" or "else" choice ]
    or      = and { ("||" | "or") and }            and = not { ("&&" | "and") not }
    not     = ("!" | "not") not | comparison
    comparison = sum { ("==" | "!=" | "<" | "<=" | ">" | ">=" | ["not"] "in") sum }
    sum     = product { ("+" | "-") product }      product = unary { ("*" | "/" | "%") unary }
    unary   = ("-" | "+" | "!") unary | value      value = atom { "." NAME | "[" choice "]" }
"""

from collections.abc import Callable
from typing import NoReturn, Protocol

from authz.policy.errors import ExpressionError
from authz.policy.syntax import (
    And,
    Arithmetic,
    Attribute,
    Call,
    Compare,
    Const,
    If,
    In,
    Item,
    Listing,
    Negative,
    Node,
    Not,
    Or,
)
from authz.policy.tokens import Token, tokens

__all__ = ["Scope", "parse_expression"]

# Deeper text than this is nobody's policy; it keeps our own recursion far from Python's limit.
_MAX_DEPTH = 40
_CONSTANTS = {"true": True, "false": False, "True": True, "False": False, "None": None, "nil": None}
_WORDS = {"and": "&&", "or": "||", "not": "!"}
_RESERVED = {"and", "or", "not", "in", "if", "else"}
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}


class Scope(Protocol):
    """What names mean where an expression stands."""

    def resolve(self, names: tuple[str, ...]) -> tuple[Node, int]:
        """Resolve the start of a dotted name.

        Args:
            names: The parts, such as ("r", "sub", "Age").

        Returns:
            The node, and how many of the parts it has used up; the rest are attributes of it.

        Raises:
            ExpressionError: There is no such name.
        """
        ...

    def check_call(self, name: str, arguments: tuple[Node, ...]) -> None:
        """Check that a function exists and takes these arguments.

        Raises:
            ExpressionError: It doesn't.
        """
        ...


def parse_expression(text: str, scope: Scope) -> Node:
    """Parse one expression whole.

    Cost: O(length); longer than 16,384 characters or 4,096 tokens is refused.

    Raises:
        ExpressionError: The text is outside the language, or a name in it means nothing.
    """
    parser = _Parser(text, scope)
    node = parser.choice()
    parser.expect_end()
    return node


class _Parser:
    """A recursive descent over the tokens, one method a rule of the grammar."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0
        self._scope = scope

    def expect_end(self) -> None:
        if self._tokens[self._at].kind != "end":
            self._fail("an operator")

    def choice(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {_MAX_DEPTH} levels")
        node = self._or()
        if self._take("?"):
            then = self.choice()
            self._expect(":")
            node = If(node, then, self.choice())
        elif self._take_word("if"):
            test = self._or()
            if not self._take_word("else"):
                self._fail("else")
            node = If(test, node, self.choice())
        self._depth -= 1
        return node

    def _or(self) -> Node:
        terms = [self._and()]
        while self._take("||"):
            terms.append(self._and())
        return _joined(Or, terms)

    def _and(self) -> Node:
        terms = [self._not()]
        while self._take("&&"):
            terms.append(self._not())
        return _joined(And, terms)

    def _not(self) -> Node:
        negations = 0
        while self._take("!"):
            negations += 1
        node = self._comparison()
        # Two negations make a truth value of anything; more than two say nothing new.
        for _ in range(min(negations, 2 + negations % 2)):
            node = Not(node)
        return node

    def _comparison(self) -> Node:
        left = self._sum()
        terms: list[Node] = []
        while True:
            if self._peek().text in _COMPARISONS and self._peek().kind == "operator":
                operator = self._next().text
                right = self._sum()
                terms.append(Compare(operator, left, right))
            elif self._take_word("in"):
                right = self._sum()
                terms.append(In(left, right, negated=False))
            elif self._peek().text == "not" and self._tokens[self._at + 1].text == "in":
                self._at += 2
                right = self._sum()
                terms.append(In(left, right, negated=True))
            else:
                break
            left = right
        return _joined(And, terms) if terms else left

    def _sum(self) -> Node:
        return self._left_to_right({"+", "-"}, self._product)

    def _product(self) -> Node:
        return self._left_to_right({"*", "/", "%"}, self._unary)

    def _left_to_right(self, operators: set[str], operand: Callable[[], Node]) -> Node:
        node = operand()
        length = 0
        while self._peek().kind == "operator" and self._peek().text in operators:
            length += 1
            if length > _MAX_DEPTH:
                raise ExpressionError(f"more than {_MAX_DEPTH} operators in a row")
            node = Arithmetic(self._next().text, node, operand())
        return node

    def _unary(self) -> Node:
        signs: list[str] = []
        while self._peek().kind == "operator" and self._peek().text in {"-", "+", "!"}:
            signs.append(self._next().text)
            if len(signs) > _MAX_DEPTH:
                raise ExpressionError(f"more than {_MAX_DEPTH} signs in a row")
        node = self._value()
        for sign in reversed(signs):
            if sign == "!":
                node = Not(node)
            elif sign == "-":
                node = Negative(node)
        return node

    def _value(self) -> Node:
        node = self._atom()
        length = 0
        while True:
            length += 1
            if length > _MAX_DEPTH:
                raise ExpressionError(f"more than {_MAX_DEPTH} attributes in a row")
            if self._take("."):
                node = Attribute(node, self._attribute_name())
            elif self._take("["):
                node = Item(node, self.choice())
                self._expect("]")
            elif self._peek().text == "(" and self._peek().kind == "operator":
                raise ExpressionError("a value can't be called; only functions by name can")
            else:
                return node

    def _attribute_name(self) -> str:
        token = self._next()
        if token.kind != "name":
            self._at -= 1
            self._fail("an attribute name")
        if token.text.startswith("_"):
            raise ExpressionError(f"{token.text!r}: names that start with _ are private")
        return token.text

    def _atom(self) -> Node:
        token = self._peek()
        if token.kind in {"string", "number"}:
            return Const(self._next().value)
        if self._take("("):
            return self._group(")", single=True)
        if self._take("["):
            return self._group("]", single=False)
        if token.kind == "name" and token.text not in _RESERVED:
            return self._name()
        return self._fail("a value")

    def _group(self, closing: str, *, single: bool) -> Node:
        """Read to the closing bracket: a list, or with `single` one value in parentheses."""
        items: list[Node] = []
        comma = False
        while not self._take(closing):
            if items and not comma:
                self._fail(f"{closing!r}")
            items.append(self.choice())
            comma = self._take(",")
        if single and len(items) == 1 and not comma:
            return items[0]
        return Listing(tuple(items))

    def _name(self) -> Node:
        name = self._next().text
        if self._take("("):
            group = self._group(")", single=False)
            arguments = group.items if isinstance(group, Listing) else ()
            self._scope.check_call(name, arguments)
            return Call(name, arguments)
        if name in _CONSTANTS:
            return Const(_CONSTANTS[name])
        names = [name]
        # Private names are refused wherever they stand, before anything is looked up.
        while self._peek().text == "." and self._tokens[self._at + 1].kind == "name":
            if len(names) > _MAX_DEPTH:
                raise ExpressionError(f"more than {_MAX_DEPTH} attributes in a row")
            self._at += 1
            names.append(self._attribute_name())
        if self._peek().text == "(" and self._peek().kind == "operator":
            raise ExpressionError(f"{'.'.join(names)}: a value can't be called")
        node, used = self._scope.resolve(tuple(names))
        for attribute in names[used:]:
            node = Attribute(node, attribute)
        return node

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _take(self, text: str) -> bool:
        token = self._tokens[self._at]
        if token.kind == "string" or (token.text != text and _WORDS.get(token.text) != text):
            return False
        self._at += 1
        return True

    def _take_word(self, word: str) -> bool:
        token = self._tokens[self._at]
        if token.kind != "name" or token.text != word:
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"{text!r}")

    def _fail(self, wanted: str) -> NoReturn:
        token = self._peek()
        found = "the end" if token.kind == "end" else repr(token.text[:40])
        raise ExpressionError(f"expected {wanted} at character {token.at + 1}, found {found}")


def _joined(kind: type[And | Or], terms: list[Node]) -> Node:
    """One node for a chain, with chains of the same kind inside it folded in."""
    if len(terms) == 1:
        return terms[0]
    flat: list[Node] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, kind) else (term,))
    return kind(tuple(flat))
