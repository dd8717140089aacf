"""Taking a policy apart a little at a time.

A hundred thousand rules dropped at once held an event loop for 105 ms: Python frees what hangs
together in one go. Here the large tables are emptied by hand, a few hundred entries between two
breaths, so that nothing large hangs on anything when the last reference goes.
"""

from collections.abc import Iterator
from typing import Any

__all__ = ["emptied", "taken_apart"]

_SLICE = 300
_PLAIN_SLICE = 2000


def taken_apart(root: Any) -> Iterator[None]:
    """Empty every table that can be reached from an object of this package.

    Yields:
        Nothing, after every few hundred entries.
    """
    waiting: list[Any] = [root]
    seen = {id(root)}
    # What has been taken out is kept until the end: an id is only good while its object lives.
    done = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            while part:
                key, value = part.popitem()
                done += 1
                if done % _SLICE == 0:
                    yield
                _push(value, waiting, seen)
                del key, value
        elif isinstance(part, list):
            while part:
                done += 1
                if done % _SLICE == 0:
                    yield
                _push(part.pop(), waiting, seen)
        else:
            for value in _attributes(part):
                _push(value, waiting, seen)
        done += 1
        if done % _SLICE == 0:
            yield


def emptied(table: dict[Any, Any] | list[Any]) -> Iterator[None]:
    """Empty one table.

    Yields:
        Nothing, after every thousand entries.
    """
    pop = table.popitem if isinstance(table, dict) else table.pop
    while table:
        for _ in range(min(len(table), _PLAIN_SLICE)):
            pop()
        yield


def _push(value: Any, waiting: list[Any], seen: set[int]) -> None:
    """Queue what is a table, or one of our own objects that may hold some."""
    if isinstance(value, (dict, list)):
        waiting.append(value)
    elif type(value).__module__.startswith("authz.policy.") and id(value) not in seen:
        # Only what several places share must be looked at once: engines, programs, probes.
        if hasattr(value, "__dict__"):
            seen.add(id(value))
        waiting.append(value)
    elif isinstance(value, tuple) and value and not isinstance(value[0], str):
        for each in value:
            _push(each, waiting, seen)


def _attributes(part: Any) -> Iterator[Any]:
    for kind in type(part).__mro__:
        for name in getattr(kind, "__slots__", ()):
            value = getattr(part, name, None)
            if value is not None:
                yield value
    yield from vars(part).values() if hasattr(part, "__dict__") else ()
