"""Finds an adapter by the name the config file uses.

The module path is the registry: `policy.source = "folder"` is adapters/policies/folder.py. There
is no list to edit, nothing is imported until it is asked for, and a name that is not a file in
that folder is refused before anything is imported.
"""

import importlib
import pkgutil

from adapters.spec import AnyAdapter
from meshwarden.errors import UnknownAdapterError

__all__ = ["load", "names"]


def names(kind: str) -> list[str]:
    """List the adapters of one kind, such as "policies", in alphabetical order."""
    package = importlib.import_module(f"adapters.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(kind: str, name: str) -> AnyAdapter:
    """Import one adapter.

    Raises:
        UnknownAdapterError: No such file; the message lists the names there are.
    """
    known = names(kind)
    if name not in known:
        raise UnknownAdapterError(f"no {kind} adapter {name!r}; there are: {', '.join(known)}")
    adapter: AnyAdapter = importlib.import_module(f"adapters.{kind}.{name}").ADAPTER
    return adapter
