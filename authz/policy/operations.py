"""What the operators of the language do with values.

The interpreter and the compiled code call the same functions, so they can't come to differ.
"""

from collections.abc import Callable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = [
    "absent_attribute",
    "absent_item",
    "add",
    "attribute",
    "contains",
    "divide",
    "item",
    "multiply",
    "negative",
    "remainder",
    "subtract",
    "truth",
]

_MAX_TEXT = 100_000
_DATA = frozenset({str, int, float, bool, list, tuple, dict, set, type(None)})
_HIDDEN = (BuiltinFunctionType, FunctionType, MethodType, ModuleType, type)
_PLAIN = (str, bytes, int, float, list, tuple, set, frozenset, type(None), *_HIDDEN)
_FORMS: dict[type, str] = {}
_MAX_FORMS = 1024


def attribute(value: Any, name: str) -> Any:
    """`value.name`: a mapping's key, or a public attribute that is data.

    Raises:
        KeyError: The mapping has no such key.
        AttributeError: The object has no such attribute.
        TypeError: It is code, or the value is plain and has no attributes.
    """
    if name[0] == "_":
        raise AttributeError(f"{name!r} is private")
    kind = type(value)
    form = _FORMS.get(kind) or _form(kind)
    if form == "mapping":
        return value[name]
    if form == "plain":
        raise TypeError(f"{kind.__name__} has no attributes here")
    try:
        found = getattr(value, name)
    except AttributeError:
        # pycasbin falls back to value[name] as well.
        return value[name]
    if type(found) not in _DATA and isinstance(found, _HIDDEN):
        raise TypeError(f"{name!r} is code, not data")
    return found


def _form(kind: type) -> str:
    """What a type's attributes are; remembered, since the check is slow and types are few."""
    if len(_FORMS) >= _MAX_FORMS:
        _FORMS.clear()
    if issubclass(kind, Mapping):
        form = "mapping"
    else:
        form = "plain" if issubclass(kind, _PLAIN) else "object"
    _FORMS[kind] = form
    return form


def item(value: Any, key: Any) -> Any:
    """`value[key]`; raises as Python does."""
    return value[key]


def absent_item(value: Any, key: Any) -> Any:
    """`value[key]` in a condition over attributes: a header that is not there is ""."""
    if isinstance(value, Mapping):
        return value.get(key, "")
    return value[key] if isinstance(value, Sequence) and value else ""


def absent_attribute(value: Any, name: str) -> Any:
    """`value.name` in a condition over attributes: a key that is not there is ""."""
    if isinstance(value, Mapping):
        return value.get(name, "")
    return attribute(value, name)


def contains(left: Any, right: Any) -> bool:
    """`left in right`."""
    return left in right


def truth(value: Any) -> bool:
    """What a whole matcher came to.

    Raises:
        TypeError: It is neither a truth value nor a number.
    """
    if isinstance(value, (bool, int, float)):
        return bool(value)
    raise TypeError(f"a matcher comes to a truth value or a number, not {type(value).__name__}")


def negative(value: Any) -> Any:
    """`-value`, of numbers."""
    return -_number(value)


def add(left: Any, right: Any) -> Any:
    """`left + right`, of numbers or of text."""
    if isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _MAX_TEXT:
            raise ValueError(f"text longer than {_MAX_TEXT} characters")
        return left + right
    return _number(left) + _number(right)


def subtract(left: Any, right: Any) -> Any:
    """`left - right`, of numbers."""
    return _number(left) - _number(right)


def multiply(left: Any, right: Any) -> Any:
    """`left * right`, of numbers: text is not repeated."""
    return _number(left) * _number(right)


def divide(left: Any, right: Any) -> Any:
    """`left / right`, of numbers."""
    return _number(left) / _number(right)


def remainder(left: Any, right: Any) -> Any:
    """`left % right`, of numbers: text is not formatted."""
    return _number(left) % _number(right)


def _number(value: Any) -> Any:
    if isinstance(value, (str, bytes, list, tuple, dict, set)):
        raise TypeError(f"{type(value).__name__} is not a number")
    return value


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
