"""Extensions as Envoy's configuration spells them."""

from collections.abc import Mapping
from typing import Any

__all__ = ["typed"]


def typed(name: str, kind: str, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give the extension `name`, configured by a message of the type `kind`."""
    return {
        "name": name,
        "typed_config": {"@type": f"type.googleapis.com/{kind}", **(value or {})},
    }
