"""Runs every benchmark: `python -m benchmarks [--quick] [--json] [--only NAME]`."""

import importlib
import pkgutil
import sys
from collections.abc import Iterator

import benchmarks
from benchmarks.harness import Options, Result, run


def measure(options: Options) -> Iterator[Result]:
    """Measure with each module of this package that measures."""
    for name in sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__)):
        if name == "__main__":
            continue
        module = importlib.import_module(f"benchmarks.{name}")
        if hasattr(module, "measure"):
            yield from module.measure(options)


if __name__ == "__main__":
    sys.exit(run("Every benchmark there is.", measure))
