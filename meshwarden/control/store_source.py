"""Policy from the revision store, as a source like any other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from typing_extensions import override

from authz.policy.mesh import empty_policy
from authz.policy.rules import PolicyText
from authz.policy_source import PolicySource
from authz.revisions import RevisionStore, StoreUnavailableError

__all__ = ["STREAM", "StoreSource"]

STREAM = "policy"
"""The sequence of revisions that decides requests."""

_LOG = logging.getLogger(__name__)
_READ_TIMEOUT_S = 30.0


class StoreSource(PolicySource):
    """Gives the newest revision; before the first, a policy without rules, which denies all.

    Args:
        store: Where revisions are.
        loop: The loop that the store lives on.
        bound: Request fields that the settings bind: an empty policy has to fit them too.
    """

    def __init__(
        self, store: RevisionStore, loop: asyncio.AbstractEventLoop, bound: Collection[str] = ()
    ) -> None:
        self._store = store
        self._bound = bound
        self._loop = loop
        self._state = ""
        self._revision = 0
        self._where = "the store, which holds no revision yet"

    @property
    @override
    def where(self) -> str:
        return self._where

    @property
    @override
    def revision(self) -> int:
        return self._revision

    @property
    @override
    def loaded_state(self) -> str:
        return f"{self._revision}"

    @override
    def state(self) -> str:
        return self._state

    @override
    def load(self) -> PolicyText:
        # Sources are loaded in a thread; the store lives on the loop.
        reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        try:
            return reading.result(_READ_TIMEOUT_S)
        except TimeoutError as error:
            reading.cancel()
            raise StoreUnavailableError("the store did not answer in time") from error

    async def follow(self, noticed: Callable[[], Awaitable[object]]) -> None:
        """Notice new revisions, whoever makes them, for ever.

        Args:
            noticed: Called at once when there is one: a revision is whole from the beginning, there
                is nothing to wait for as there is in a folder.
        """
        async for _ in self._store.changes():
            try:
                head = await self._store.head(STREAM)
            except StoreUnavailableError as error:
                _LOG.debug("no look into the store: %s", error)
            else:
                before, self._state = self._state, f"{head.number}" if head else "0"
                if self._state != before:
                    await noticed()

    async def _read(self) -> PolicyText:
        head = await self._store.head(STREAM)
        if head is None:
            self._state, self._revision = "0", 0
            return empty_policy(self._bound)
        _, draft = await self._store.read(STREAM, head.number)
        self._state, self._revision = f"{head.number}", head.number
        self._where = f"revision {head.number} by {head.author}"
        return draft.text
