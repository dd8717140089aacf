"""Tokens are ordered once, kept while they are fresh, and told when they can't be had."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ca.entries import WorkloadEntry
from ca.selectors import Selector
from meshwarden.agent import tokens as tokens_module
from meshwarden.agent.identities import Identities
from meshwarden.agent.renewer import LinkDownError, Refused
from meshwarden.agent.svids import Claim
from meshwarden.agent.tokens import SignedToken, Tokens
from tests.fakes.signer import FakeSigner

SECOND = 1_000_000_000
UID = Selector("unix", "uid:7")


class World:
    """Tokens on a clock of the test's own."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND
        self.signer = FakeSigner(lambda: self.now_ns, 300)
        self.identities = Identities(lambda: self.now_ns, lambda: 0.5)
        self.identities.set_entries([WorkloadEntry("web", "spiffe://td.example/web", (UID,))])
        self.identities.set_bundles((self.signer.bundle(),))
        self.tokens = Tokens(self.identities, self.signer, lambda: self.now_ns, lambda: 0.5)

    async def claim(self) -> Claim:
        """The one identity there is."""
        claims = await self.identities.claims(frozenset({UID}))
        assert isinstance(claims, tuple)
        return claims[0]

    async def get(self, *audiences: str) -> SignedToken | Refused:
        """Get a token."""
        return await self.tokens.token(await self.claim(), audiences, frozenset({UID}))


def run(test: Callable[[World], Awaitable[None]]) -> None:
    """Run a test in a world of its own."""

    async def in_loop() -> None:
        await test(World())

    asyncio.run(in_loop())


def test_a_token_is_the_same_until_the_middle_of_its_life() -> None:
    """And one for another audience is another one."""

    async def story(world: World) -> None:
        first = await world.get("a")
        world.now_ns += 149 * SECOND
        assert await world.get("a") is first
        await world.get("b")
        assert world.signer.tokens == 2
        world.now_ns += 2 * SECOND
        assert await world.get("a") is not first
        assert world.signer.tokens == 3

    run(story)


def test_many_at_once_are_one_order() -> None:
    """And one who gives up takes it from nobody."""

    async def story(world: World) -> None:
        asking = [asyncio.create_task(world.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        asking[0].cancel()
        given = await asyncio.gather(*asking, return_exceptions=True)
        assert len({id(each) for each in given[1:]}) == 1
        assert world.signer.tokens == 1

    run(story)


def test_in_an_outage_an_old_token_does_until_it_expires() -> None:
    """Then nothing does, and the fault is told."""

    async def story(world: World) -> None:
        first = await world.get("a")
        world.signer.is_down = True
        world.now_ns += 299 * SECOND
        assert await world.get("a") is first
        world.now_ns += 1 * SECOND
        with pytest.raises(LinkDownError):
            await world.get("a")

    run(story)


def test_a_refusal_is_told_and_not_kept() -> None:
    """The next call asks again."""

    async def story(world: World) -> None:
        world.signer.refusal = "no"
        assert await world.get("a") == Refused("no")
        world.signer.refusal = ""
        assert isinstance(await world.get("a"), SignedToken)

    run(story)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads choose audiences: those least recently asked for go."""
    monkeypatch.setattr(tokens_module, "_KEPT", 3)

    async def story(world: World) -> None:
        for audience in "abcd":
            await world.get(audience)
        assert len(world.tokens._kept) == 3
        await world.get("b")
        assert world.signer.tokens == 4
        await world.get("a")
        assert world.signer.tokens == 5

    run(story)
