"""Functions of the operator's own for matchers and conditions, from installed modules only.

A policy folder or bundle can name a function but never bring one: code comes in by installing it,
and is switched on in the config file. A module lists what it offers in `MESHWARDEN_FUNCTIONS`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meshwarden.errors import FunctionModuleError

__all__ = ["LIST", "load_functions"]

LIST = "MESHWARDEN_FUNCTIONS"
"""The attribute that a module must have: a mapping of names in matchers to functions."""


def load_functions(modules: Sequence[str]) -> Mapping[str, Callable[..., Any]]:
    """Import modules and collect what they offer.

    Raises:
        FunctionModuleError: A module is not installed, fails, lists nothing callable, or offers a
            name that another one has.
    """
    functions: dict[str, Callable[..., Any]] = {}
    for name in modules:
        try:
            offered = getattr(importlib.import_module(name), LIST)
        except Exception as error:
            raise FunctionModuleError(f"engine.functions: {name}: {error}") from error
        if not isinstance(offered, Mapping):
            raise FunctionModuleError(f"engine.functions: {name}.{LIST} is no mapping")
        for function_name, function in offered.items():
            if not callable(function):
                raise FunctionModuleError(
                    f"engine.functions: {name}.{LIST}[{function_name!r}] can't be called"
                )
            if function_name in functions:
                raise FunctionModuleError(
                    f"engine.functions: {function_name!r} is offered by two modules"
                )
            functions[function_name] = function
    return functions
