"""The module path is the registry."""

import sys

import pytest

from meshwarden import plugins
from meshwarden.errors import UnknownAdapterError


def test_an_adapter_exists_by_its_file() -> None:
    """Nobody keeps a list."""
    assert "folder" in plugins.names("policies")


def test_an_unknown_name_is_refused_before_anything_is_imported() -> None:
    """A config file can't make the program import a module of its choice."""
    with pytest.raises(UnknownAdapterError, match=r"there are: .*folder"):
        plugins.load("policies", "..policies.folder")
    assert "adapters.policies...policies.folder" not in sys.modules
