"""What names mean in matchers, in rules handed to `eval`, and in conditions over attributes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from authz.policy.errors import ExpressionError
from authz.policy.functions import Function
from authz.policy.model import Model
from authz.policy.nearest import did_you_mean
from authz.policy.syntax import Const, Context, Field, Node

__all__ = ["ConditionScope", "MatcherScope"]

_ESCAPED = re.compile(r"([rp]\d*)_(.+)")


class MatcherScope:
    """Names in a matcher: fields of one request and one policy definition, functions and roles."""

    def __init__(
        self,
        model: Model,
        request: str,
        policy: str,
        functions: Mapping[str, Function],
    ) -> None:
        self._model = model
        self._keys = (request, policy)
        self._functions = functions

    def resolve(self, names: tuple[str, ...]) -> tuple[Node, int]:
        """Resolve `r.sub`, or `r_sub` as pycasbin keeps it."""
        first = names[0]
        if first in self._keys:
            if len(names) == 1:
                raise ExpressionError(
                    f"{first} needs a field, such as {first}.{self._example(first)}"
                )
            return self._field(first, names[1]), 2
        escaped = _ESCAPED.fullmatch(first)
        if escaped and escaped[1] in self._keys:
            return self._field(escaped[1], escaped[2]), 1
        if first in self._model.definitions:
            raise ExpressionError(f"{first} is not among the definitions this matcher runs with")
        raise ExpressionError(f"unknown name {'.'.join(names)[:60]!r}")

    def check_call(self, name: str, arguments: tuple[Node, ...]) -> None:
        """Check a call of a function, a role definition, `eval` or `meshWhen`."""
        if name in self._model.roles:
            wanted = 2 + self._model.roles[name].domains
            if len(arguments) != wanted:
                raise ExpressionError(f"{name}() takes {wanted} arguments, not {len(arguments)}")
            return
        if name == "eval":
            if len(arguments) != 1:
                raise ExpressionError("eval() takes one argument")
            return
        if name == "meshWhen":
            if len(arguments) != 2:  # noqa: PLR2004 - the attributes and the text
                raise ExpressionError("meshWhen() takes two arguments")
            return
        check_function(name, arguments, self._functions)

    def _field(self, key: str, name: str) -> Field:
        fields = self._model.definitions[key].fields
        if name not in fields:
            told = f"; it has {', '.join(fields)}{did_you_mean(name, fields)}"
            raise ExpressionError(f"{key} has no field {name!r}{told}")
        return Field(key, name, fields.index(name))

    def _example(self, key: str) -> str:
        return self._model.definitions[key].fields[0]


class ConditionScope:
    """Names in a condition over attributes: dotted attribute names and functions, nothing else."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        read: Callable[[str], Callable[[Any], Any]],
    ) -> None:
        self._functions = functions
        self._read = read

    def resolve(self, names: tuple[str, ...]) -> tuple[Node, int]:
        """Resolve a whole dotted name; the reader of attributes has the last word on it."""
        name = ".".join(names)
        try:
            self._read(name)
        except Exception as error:
            raise ExpressionError(str(error) or f"unknown attribute {name!r}") from error
        return Context(name), len(names)

    def check_call(self, name: str, arguments: tuple[Node, ...]) -> None:
        """Check a call of a function; roles and `eval` are not for conditions."""
        check_function(name, arguments, self._functions)


def check_function(
    name: str,
    arguments: tuple[Node, ...],
    functions: Mapping[str, Function],
) -> None:
    """Check that a function exists, takes so many arguments, and can use a literal pattern.

    Raises:
        ExpressionError: It can't; the message names the nearest function there is.
    """
    function = functions.get(name)
    if function is None:
        hint = did_you_mean(name, [*functions, "eval", "g"])
        raise ExpressionError(f"unknown function {name[:60]!r}{hint}")
    fewest, most = function.arity
    if not fewest <= len(arguments) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ExpressionError(f"{name}() takes {wanted} arguments, not {len(arguments)}")
    last = arguments[-1] if arguments else None
    if function.prepare is not None and isinstance(last, Const) and isinstance(last.value, str):
        function.prepare(last.value)
