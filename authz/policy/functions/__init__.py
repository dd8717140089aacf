"""The functions a matcher may call, one file a family; a new file in this folder is a new family.

Each module offers `functions(tools)`, which makes its functions from what the builder allows: the
regular-expression engine and the clock.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache

from authz.policy.functions.spec import Function, Tools

__all__ = ["Function", "Tools", "built_in"]


def built_in(tools: Tools) -> dict[str, Function]:
    """Every built-in function by its name in the language."""
    return {function.name: function for family in _families() for function in family(tools)}


@cache
def _families() -> tuple[Callable[[Tools], Iterable[Function]], ...]:
    """Each module's functions(); looking through the folder costs more than all the rest."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "spec"]
    return tuple([importlib.import_module(f"{__name__}.{name}").functions for name in names])
