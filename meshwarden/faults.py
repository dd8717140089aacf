"""A fault of ours, told apart from a refusal: logged whole here, shown outside as an id only."""

import logging

import uuid_utils

__all__ = ["fault_id"]

_LOG = logging.getLogger(__name__)


def fault_id(error: BaseException) -> str:
    """Log a fault with a new id and give the sentence that a caller may see."""
    name = str(uuid_utils.uuid7())
    _LOG.error("fault %s", name, exc_info=error)
    return f"internal fault {name}"
