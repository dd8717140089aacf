"""Tokens are ordered once, kept while they are fresh, and told when they can't be had."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ca.entries import WorkloadEntry
from ca.selectors import Selector
from ca.spiffe_id import parse
from meshwarden.agent import tokens as tokens_module
from meshwarden.agent.identities import Identities
from meshwarden.agent.renewer import LinkDownError, Refused
from meshwarden.agent.svids import Claim
from meshwarden.agent.tokens import SignedToken, Tokens, TooSoon
from tests.fakes.signer import FakeSigner

SECOND = 1_000_000_000
UID = Selector("unix", "uid:7")


class World:
    """Tokens on a clock of the test's own: one a second for an identity, ten at once."""

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND
        self.signer = FakeSigner(lambda: self.now_ns, 300)
        self.identities = Identities(lambda: self.now_ns, lambda: 0.5)
        self.identities.set_entries(
            [WorkloadEntry(name, f"spiffe://td.example/{name}", (UID,)) for name in ("web", "zoo")]
        )
        self.identities.set_bundles((self.signer.bundle(),))
        self.tokens = Tokens(self.identities, self.signer, lambda: self.now_ns, lambda: 0.5, 1)

    async def claim(self, name: str) -> Claim:
        """One of the two identities."""
        claims = await self.identities.claims(frozenset({UID}))
        assert isinstance(claims, tuple)
        return next(each for each in claims if each.entry_id == name)

    async def get(
        self, *audiences: str, name: str = "web", uid: int = 7
    ) -> SignedToken | Refused | TooSoon:
        """Get a token."""
        return await self.tokens.token(await self.claim(name), audiences, frozenset({UID}), uid)

    async def get_made_up(self, number: int, uid: int = 7) -> SignedToken | Refused | TooSoon:
        """Get one for an identity that a template has made of what the caller chose."""
        claim = Claim("web", parse(f"spiffe://td.example/u/{number}"))
        return await self.tokens.token(claim, ("a",), frozenset({UID}), uid)

    async def use_up(self) -> None:
        """Have as many signed as may come at once."""
        for number in range(10):
            assert isinstance(await self.get(f"used-{number}"), SignedToken)


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
        assert world.tokens.kept == 2
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
        assert world.tokens.kept == 1
        world.now_ns += 1 * SECOND
        assert world.tokens.kept == 0
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


def test_ever_other_audiences_are_signed_at_the_pace_of_the_setting() -> None:
    """After a burst, one a second; waiting exactly as told is enough, and not a moment less."""

    async def story(world: World) -> None:
        await world.use_up()
        told = await world.get("a")
        assert told == TooSoon(SECOND)
        assert world.signer.tokens == 10
        world.now_ns += told.wait_ns - 1
        assert await world.get("a") == TooSoon(1)
        world.now_ns += 1
        assert isinstance(await world.get("a"), SignedToken)
        assert await world.get("b") == TooSoon(SECOND)

    run(story)


def test_another_identity_has_its_own_pace() -> None:
    """On the same process, and by another entry."""

    async def story(world: World) -> None:
        await world.use_up()
        assert isinstance(await world.get("a"), TooSoon)
        assert isinstance(await world.get("a", name="zoo"), SignedToken)

    run(story)


def test_a_user_who_makes_up_identities_has_a_pace_for_all_of_them() -> None:
    """Ten times that of one; another user has his own, and what is kept is given on."""

    async def story(world: World) -> None:
        for number in range(100):
            assert isinstance(await world.get_made_up(number), SignedToken)
        told = await world.get_made_up(100)
        assert told == TooSoon(SECOND // 10, is_users=True)
        assert world.signer.tokens == 100
        assert isinstance(await world.get_made_up(7), SignedToken)
        assert isinstance(await world.get("a", uid=8), SignedToken)
        world.now_ns += told.wait_ns
        assert isinstance(await world.get_made_up(100), SignedToken)

    run(story)


def test_what_is_kept_does_not_count() -> None:
    """Nor what somebody else has ordered already; and it is given however many were refused."""

    async def story(world: World) -> None:
        for _ in range(100):
            await world.get("a")
        await asyncio.gather(*(world.get("b") for _ in range(100)))
        for number in range(8):
            assert isinstance(await world.get(str(number)), SignedToken)
        assert isinstance(await world.get("x"), TooSoon)
        assert isinstance(await world.get("a"), SignedToken)
        assert world.signer.tokens == 10

    run(story)


def test_an_old_token_does_where_a_new_one_is_too_soon() -> None:
    """Past the middle of its life it is as good as any, until it expires."""

    async def story(world: World) -> None:
        first = await world.get("a")
        world.now_ns += 299 * SECOND
        await world.use_up()
        assert await world.get("a") is first
        assert world.signer.tokens == 11
        world.now_ns += SECOND - 1
        assert await world.get("a") is first
        world.now_ns += 1
        assert await world.get("a") is not first

    run(story)


def test_orders_that_come_to_nothing_count() -> None:
    """Each costs the service as much: a row on its ledger."""

    async def story(world: World) -> None:
        world.signer.refusal = "no"
        for number in range(10):
            assert await world.get(str(number)) == Refused("no")
        assert isinstance(await world.get("a"), TooSoon)

    run(story)


def test_how_many_are_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template may give a node any number of identities."""
    monkeypatch.setattr(tokens_module, "_IDENTITIES", 3)

    async def story(world: World) -> None:
        for number in range(50):
            assert isinstance(await world.get_made_up(number), SignedToken)
        assert len(world.tokens._pace._full_ns) == 3

    run(story)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads choose audiences: those least recently asked for go."""
    monkeypatch.setattr(tokens_module, "_KEPT", 3)

    async def story(world: World) -> None:
        for audience in "abcd":
            await world.get(audience)
        assert world.tokens.kept == 3
        await world.get("b")
        assert world.signer.tokens == 4
        await world.get("a")
        assert world.signer.tokens == 5

    run(story)


def test_who_asks_for_ever_other_audiences_loses_his_own_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not those of others, however long ago they were asked for."""
    monkeypatch.setattr(tokens_module, "_KEPT", 5)

    async def story(world: World) -> None:
        mine = [await world.get(audience, name="zoo") for audience in "ab"]
        await world.use_up()
        assert world.tokens.kept == 5
        assert [await world.get(audience, name="zoo") for audience in "ab"] == mine
        assert world.signer.tokens == 12
        assert isinstance(await world.get("used-9"), SignedToken)

    run(story)


def test_what_has_expired_goes_before_what_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever it is of."""
    monkeypatch.setattr(tokens_module, "_KEPT", 4)

    async def story(world: World) -> None:
        await world.get_made_up(1)
        world.now_ns += 200 * SECOND
        mine = [await world.get(audience) for audience in "abc"]
        world.now_ns += 100 * SECOND
        await world.get("new", name="zoo")
        assert world.tokens.kept == 4
        assert sorted(map(len, world.tokens._kept.values())) == [1, 3], "what expired is there"
        assert [await world.get(audience) for audience in "abc"] == mine

    run(story)


def test_no_trace_is_left_of_who_lost_his_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template may give a node any number of identities."""
    monkeypatch.setattr(tokens_module, "_KEPT", 3)

    async def story(world: World) -> None:
        for number in range(50):
            await world.get_made_up(number)
            await world.get("mine", name="zoo")
        assert len(world.tokens._kept) == world.tokens.kept == 3
        assert world.signer.tokens == 51, "who asks all the time lost his only one"

    run(story)
