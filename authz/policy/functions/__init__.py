"""The functions a matcher may call, one file a family; a new file in this folder is a new family.

Each module offers `functions(tools)`, which makes its functions from what the builder allows: the
regular-expression engine and the clock.
"""

import importlib
import pkgutil

from authz.policy.functions.spec import Function, Tools

__all__ = ["Function", "Tools", "built_in"]


def built_in(tools: Tools) -> dict[str, Function]:
    """Every built-in function by its name in the language."""
    found: dict[str, Function] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name == "spec":
            continue
        family = importlib.import_module(f"{__name__}.{module.name}")
        for function in family.functions(tools):
            found[function.name] = function
    return found
