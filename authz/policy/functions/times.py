"""timeMatch: whether now lies between two local times; "_" leaves an end open.

Source: casbin.org/docs/rbac-with-conditions.
"""

from collections.abc import Iterable
from datetime import datetime

from authz.policy.functions.spec import Function, Tools

__all__ = ["functions"]

_FORMAT = "%Y-%m-%d %H:%M:%S"


def functions(tools: Tools) -> Iterable[Function]:
    """Make the family; without a clock it is empty, and a policy that asks for it is refused."""
    now = tools.now
    if now is None:
        return ()

    def call(start: str, end: str) -> bool:
        moment = now().replace(tzinfo=None)
        return (start == "_" or _time(start) < moment) and (end == "_" or moment < _time(end))

    return (Function("timeMatch", call),)


def _time(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT)  # noqa: DTZ007 - Casbin's times are local and bare
