"""Puts our enforcers where a program looks for pycasbin's.

    python -m authz.casbin.shim -- COMMAND...        any command, and every Python it starts
    python -m authz.casbin.shim -- -m pytest ...     this Python, with these options
    pytest -p authz.casbin.shim ...                  one run of pytest
    from authz.casbin import shim; shim.install()    this process

The first form puts a folder with a `sitecustomize` on PYTHONPATH; one that the environment has
already still runs. Where Meshwarden isn't installed for the Python that starts, nothing happens:
`casbin.Enforcer.__module__` says which class is in place.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["install", "main"]

# Where each name is looked up: in the package, in its own module, and in those that build on it.
_NAMES = {
    "Enforcer": ("casbin", "casbin.enforcer", "casbin.synced_enforcer"),
    "SyncedEnforcer": ("casbin", "casbin.synced_enforcer", "casbin.distributed_enforcer"),
    "DistributedEnforcer": ("casbin", "casbin.distributed_enforcer"),
    "FastEnforcer": ("casbin", "casbin.fast_enforcer"),
    "AsyncEnforcer": ("casbin", "casbin.async_enforcer"),
}
_SITE = """\
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

try:
    from authz.casbin import shim
except ImportError:
    pass
else:
    shim.install()
spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != {folder!r}])
if spec is not None and spec.loader is not None:
    spec.loader.exec_module(module_from_spec(spec))
"""
_COMMAND_NOT_FOUND = 127


def install() -> None:
    """Put our classes into casbin's modules; a second call changes nothing."""
    ours = importlib.import_module("authz.casbin")
    for name, modules in _NAMES.items():
        for module in modules:
            setattr(importlib.import_module(module), name, getattr(ours, name))


def pytest_load_initial_conftests() -> None:
    """Install before a conftest can import a class of pycasbin's."""
    install()


def pytest_configure() -> None:
    """Install for a run that loads the plugin from a conftest."""
    install()


def main(arguments: Sequence[str]) -> int:
    """Run a command with our classes in place; returns its exit code."""
    command = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not command or command[0] in {"-h", "--help"}:
        sys.stderr.write("usage: python -m authz.casbin.shim -- COMMAND...\n")
        return 2
    if command[0].startswith("-"):
        command.insert(0, sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_SITE.format(folder=folder), encoding="utf-8")
        paths = [folder, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        try:
            # The command is the caller's own.
            done = subprocess.run(command, check=False, env=environment)
        except OSError as error:
            sys.stderr.write(f"{command[0]}: {error.strerror}\n")
            return _COMMAND_NOT_FOUND
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
