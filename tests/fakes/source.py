"""A policy source in memory."""

import time
from collections.abc import Callable

from typing_extensions import override

from authz.policy.rules import PolicyText
from authz.policy_source import PolicySource
from tests.fakes.policy import mesh_text

__all__ = ["FakeSource"]


class FakeSource(PolicySource):
    """Gives what it was set to, or raises it.

    Attributes:
        text: The policy, or what goes wrong in reading it.
        loads: How often it was read.
        on_load: Called in each load, before it ends.
        look_s: How long a look at the state waits for somebody else.
        pause_s: How long to wait after a load that failed.
        in_force: The policies that it was told are in force, in order.
    """

    def __init__(self, *lines: str) -> None:
        self.text: PolicyText | Exception = mesh_text(*lines)
        self.loads = 0
        self.on_load: Callable[[], object] = lambda: None
        self.look_s = 0.0
        self.pause_s = 5.0
        self.in_force: list[PolicyText | Exception] = []
        self._changes = 0

    @property
    @override
    def retry_s(self) -> float:
        return self.pause_s

    @property
    @override
    def where(self) -> str:
        return "memory"

    @override
    def state(self) -> str:
        time.sleep(self.look_s)
        return str(self._changes)

    def write(self, *lines: str) -> None:
        """Change the policy, as its author does."""
        self.text = mesh_text(*lines)
        self._changes += 1

    def touch(self) -> None:
        """Change without changing what is read."""
        self._changes += 1

    @override
    def load(self) -> PolicyText:
        self.loads += 1
        self.on_load()
        if isinstance(self.text, Exception):
            raise self.text
        return self.text

    @override
    def published(self) -> None:
        self.in_force.append(self.text)
