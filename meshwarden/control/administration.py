"""What roles and tokens stand on, and the questions that several asks of it share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from authz.admin_policy import AdminPolicy, Question
from authz.errors import AuthzError
from authz.revisions import RevisionStore, StoreUnavailableError
from meshwarden.control.access_state import AccessState
from meshwarden.control.refusals import Refusals

__all__ = ["Administration", "NoStoreError", "fresh"]

_ME = "/meshwarden.v1.Access/Me"


class NoStoreError(AuthzError):
    """There is no store here in which roles and tokens could be; its owner can configure one."""

    code: ClassVar[str] = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class Administration:
    """What roles and tokens stand on.

    Attributes:
        store: Where the admin policy and tokens are.
        state: What is known of them here.
        refusals: Where a refused call or change goes.
    """

    store: RevisionStore
    state: AccessState
    refusals: Refusals

    @classmethod
    def on(cls, store: RevisionStore, now_ns: Callable[[], int]) -> Self:
        """Begin with a store of which nothing is known yet."""
        return cls(store, AccessState(store, now_ns), Refusals(store.record, now_ns))

    async def run(self) -> None:
        """Write down what calls leave behind, for ever."""
        await asyncio.gather(self.state.run(), self.refusals.run())

    async def flush(self) -> None:
        """Write down what is still to be written."""
        await self.state.write_uses()
        await self.refusals.flush()

    def roles_of(self, name: str, source: str, now_ns: int) -> tuple[str, ...]:
        """Which of the three roles somebody has now, least first."""
        return self.state.decide(Question(name, source, _ME, "viewer", now_ns)).roles

    async def has_admin(self, policy: AdminPolicy) -> bool:
        """Whether anybody could change a policy from elsewhere; aside, since each name is asked."""
        return bool(await asyncio.to_thread(policy.admins, self.state.live_names()))


async def fresh(here: Administration | None) -> Administration:
    """Give it as the store has it now.

    Raises:
        NoStoreError: There is none here.
        StoreUnavailableError: It can't be read.
    """
    if here is None:
        raise NoStoreError(
            "roles and tokens are kept in the store, which is not open here: it is with "
            "admin.remote = true or policy.source = 'store'"
        )
    await here.state.refresh(now=True)
    if here.state.fault:
        raise StoreUnavailableError(here.state.fault)
    return here
