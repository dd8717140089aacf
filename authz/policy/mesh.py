"""The built-in model."""

from functools import cache
from importlib.resources import files

__all__ = ["MESH", "mesh_model"]

MESH = "mesh"
"""The name of the built-in model, in config files and messages."""


@cache
def mesh_model() -> str:
    """The text of the built-in model, which comes with this package."""
    return files(__package__).joinpath("mesh.conf").read_text(encoding="utf-8")
