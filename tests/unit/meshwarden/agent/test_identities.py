"""What workloads get, and when: on a clock of the test's own."""

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca.entries import WorkloadEntry
from ca.keys import KeyType, PublicKey, generate
from ca.selectors import Selector
from meshwarden.agent.identities import Identities
from meshwarden.agent.renewer import Order, Refused, Renewer, Signed
from meshwarden.agent.svids import WorkloadSvids
from tests.fakes.signer import FakeSigner

SECOND = 1_000_000_000
UID = Selector("unix", "uid:7")
APP = frozenset({UID, Selector("unix", "gid:7")})
WEB = WorkloadEntry("web", "spiffe://td.example/web", (UID,), version=1)
API = WorkloadEntry("api", "spiffe://td.example/api", (UID,), hint="api", version=1)
TEMPLATE = WorkloadEntry(
    "pods", "spiffe://td.example/ns/{{k8s.ns}}", (Selector("k8s", "sa:web"),), version=1
)


class World:
    """An agent's insides, with a server that is at hand.

    Attributes:
        now_ns: The time.
        behind_ns: By how much the server's clock is late.
        signer: The server.
        identities: What is tested.
    """

    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND
        self.behind_ns = 0
        self.signer = FakeSigner(lambda: self.now_ns - self.behind_ns)
        self.identities = Identities(lambda: self.now_ns, random.Random(1).random)
        self._renewer = Renewer(self.identities, self.signer, lambda: self.now_ns)

    def know(self, *entries: WorkloadEntry) -> None:
        """Be told entries and bundle by the server."""
        self.identities.set_entries(entries)
        self.identities.set_bundles((self.signer.bundle(),))

    async def sign(self) -> None:
        """Have everything signed that is due."""
        while due := self.identities.due(100):
            await self._renewer._have_signed(due)

    @contextlib.asynccontextmanager
    async def follow(
        self, selectors: frozenset[Selector] = APP
    ) -> AsyncIterator[Callable[[], Awaitable[WorkloadSvids | None]]]:
        """Subscribe; give a function for the next view, None where there is none now."""
        async with contextlib.aclosing(self.identities.subscribe(selectors)) as views:
            waiting: asyncio.Future[WorkloadSvids] | None = None

            async def following() -> WorkloadSvids | None:
                nonlocal waiting
                waiting = waiting or asyncio.ensure_future(anext(views))
                for _ in range(3):
                    await asyncio.sleep(0)
                if not waiting.done():
                    return None
                view, waiting = waiting.result(), None
                return view

            try:
                yield following
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)


def ids(view: WorkloadSvids | None) -> list[str]:
    """Give the SPIFFE IDs of a view that is there."""
    assert view is not None
    return [svid.spiffe_id for svid in view.svids]


def run(test: Callable[[World], Awaitable[None]]) -> None:
    """Run a test in a world of its own."""

    async def in_loop() -> None:
        await test(World())

    asyncio.run(in_loop())


def test_a_workload_waits_until_its_identities_are_whole() -> None:
    """The default identity must be the same for all who come first."""

    async def story(world: World) -> None:
        async with world.follow() as following:
            assert await following() is None
            world.know(WEB, API)
            assert await following() is None
            await world.sign()
            view = await following()
            assert ids(view) == ["spiffe://td.example/api", "spiffe://td.example/web"]
            assert await following() is None

    run(story)


def test_nobody_is_told_why() -> None:
    """What was found and what was nearest; and gets an identity as soon as an entry gives it."""

    async def story(world: World) -> None:
        world.know(replace(WEB, selectors=(UID, Selector("unix", "path:/bin/web"))))
        async with world.follow() as following:
            view = await following()
            assert ids(view) == []
            assert view is not None
            assert "unix:uid:7" in view.why
            assert "unix:path:/bin/web" in view.why
            world.know(WEB)
            await world.sign()
            assert ids(await following()) == ["spiffe://td.example/web"]

    run(story)


def test_a_renewal_reaches_those_who_follow_and_is_done_once() -> None:
    """Around half-life, with a new key; 500 followers are one renewal."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with contextlib.AsyncExitStack() as stack:
            following = [await stack.enter_async_context(world.follow()) for _ in range(500)]
            first = {await each() for each in following}
            assert len(first) == 1
            world.now_ns += 1000 * SECOND
            await world.sign()
            assert await following[0]() is None
            world.now_ns += 1400 * SECOND
            await world.sign()
            second = {await each() for each in following}
            assert len(second) == 1
        old, new = first.pop(), second.pop()
        assert old is not None
        assert new is not None
        assert old.svids[0].key != new.svids[0].key
        assert [len(batch) for batch in world.signer.batches] == [1, 1]

    run(story)


def test_an_outage_takes_nothing_until_the_end_of_life() -> None:
    """A newcomer gets what there is; after expiry nobody gets a certificate that has expired."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with world.follow() as following:
            assert ids(await following()) == ["spiffe://td.example/web"]
            world.signer.is_down = True
            for _ in range(36):
                world.now_ns += 99 * SECOND
                await world.sign()
            assert await following() is None
            async with world.follow() as late:
                assert ids(await late()) == ["spiffe://td.example/web"]
            world.now_ns += 60 * SECOND
            async with world.follow() as too_late:
                assert await too_late() is None
                await world.sign()
                assert await too_late() is None
                assert await following() is None
                # Back: at once, not after the longest pause.
                world.signer.is_down = False
                world.identities.retry_now()
                await world.sign()
                assert ids(await too_late()) == ["spiffe://td.example/web"]
            assert ids(await following()) == ["spiffe://td.example/web"]

    run(story)


def test_a_failed_renewal_is_tried_again_after_a_pause() -> None:
    """Not at once: a server in trouble gets no storm."""

    async def story(world: World) -> None:
        world.signer.is_down = True
        world.know(WEB)
        await world.sign()
        await world.sign()
        assert len(world.signer.batches) == 1
        assert "nobody answers" in next(iter(world.identities.refusals.values()))
        world.now_ns += 2 * SECOND
        await world.sign()
        assert len(world.signer.batches) == 2
        # Nor for whoever else comes, or whatever else changes.
        async with world.follow(APP | {Selector("unix", "x:1")}):
            world.know(replace(WEB, hint="x"))
            assert world.identities.due(10) == []
        world.signer.is_down = False
        world.now_ns += 60 * SECOND
        await world.sign()
        assert len(world.identities.svids) == 1
        assert not world.identities.refusals

    run(story)


def test_what_is_under_way_is_not_ordered_again() -> None:
    """Promise 16: whoever else comes for it meanwhile, and whatever else changes."""

    async def story(world: World) -> None:
        world.know(WEB)
        (ordered,) = world.identities.due(10)
        async with world.follow() as following, world.follow(APP | {Selector("unix", "x:1")}):
            world.know(WEB, API)
            assert [each.claim.entry_id for each in world.identities.due(10)] == ["api"]
            world.know(WEB)
            assert world.identities.due(10) == []
            await world._renewer._have_signed([ordered])
            assert ids(await following()) == ["spiffe://td.example/web"]
            assert world.identities.due(10) == []

    run(story)


def test_what_has_expired_when_it_comes_is_not_ordered_without_end() -> None:
    """By a clock that is hours ahead all are expired: the ledger must not have a row for each."""

    async def story(world: World) -> None:
        world.behind_ns = 2 * 3600 * SECOND
        world.now_ns += world.behind_ns
        world.know(WEB)
        async with world.follow() as following:
            async with asyncio.timeout(5):
                await world.sign()
            assert len(world.signer.batches) == 1
            assert await following() is None
            (why,) = world.identities.refusals.values()
            assert "one of the clocks is wrong" in why
            world.behind_ns = 0
            world.now_ns += SECOND
            await world.sign()
            assert ids(await following()) == ["spiffe://td.example/web"]

    run(story)


def test_an_entry_that_goes_takes_its_identity_along() -> None:
    """Those who follow see it at once; its key is forgotten."""

    async def story(world: World) -> None:
        world.know(WEB, API)
        await world.sign()
        async with world.follow() as following:
            assert len(ids(await following())) == 2
            world.know(WEB)
            assert ids(await following()) == ["spiffe://td.example/web"]
            world.know()
            view = await following()
            assert ids(view) == []
            assert view is not None
            assert "no entry at all" in view.why
        assert not world.identities.svids

    run(story)


def test_an_entry_that_changes_is_signed_anew_and_the_old_serves_meanwhile() -> None:
    """A change of what the certificate says, while the server is away, takes nothing."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with world.follow() as following:
            await following()
            world.signer.is_down = True
            world.know(replace(WEB, dns_names=("web.example",), version=2))
            await world.sign()
            assert await following() is None
            async with world.follow() as late:
                assert ids(await late()) == ["spiffe://td.example/web"]
            world.signer.is_down = False
            world.identities.retry_now()
            world.now_ns += 2 * SECOND
            await world.sign()
            view = await following()
            assert view is not None
            assert view.svids[0].version == 2

    run(story)


def test_an_entry_that_gets_another_id_takes_the_old_one_away() -> None:
    """Nobody keeps an identity that no entry gives."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with world.follow() as following:
            await following()
            world.signer.is_down = True
            world.know(replace(WEB, spiffe_id="spiffe://td.example/other", version=2))
            await world.sign()
            async with world.follow() as late:
                assert await late() is None
            assert not world.identities.svids  # Its key is gone as well.

    run(story)


def test_an_entry_that_changes_under_way_is_signed_once_more() -> None:
    """What was ordered is served meanwhile."""

    async def story(world: World) -> None:
        world.know(WEB)
        (ordered,) = world.identities.due(10)
        world.know(replace(WEB, dns_names=("web.example",), version=2))
        await world._renewer._have_signed([ordered])
        assert [each.version for each in world.identities.due(10)] == [2]
        async with world.follow() as following:
            assert ids(await following()) == [WEB.spiffe_id]

    run(story)


def test_an_entry_more_takes_nothing_from_anybody() -> None:
    """Newcomers get what there is, while another identity of theirs can't be signed."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with world.follow() as following:
            assert ids(await following()) == [WEB.spiffe_id]
            world.know(WEB, API)
            async with world.follow() as late:
                assert ids(await late()) == [WEB.spiffe_id]
            await world.sign()
            assert ids(await following()) == [API.spiffe_id, WEB.spiffe_id]

    run(story)


def test_a_refusal_is_awaited_no_longer_than_until_it_comes() -> None:
    """Then the identities that there are already are shown."""

    async def story(world: World) -> None:
        world.know(WEB, API)
        first, second = world.identities.due(10)
        async with world.follow() as following:
            await world._renewer._have_signed([first])
            assert await following() is None
            world.identities.fail(second.claim, "the server refused: no")
            assert ids(await following()) == [str(first.claim.spiffe_id)]

    run(story)


def test_a_refusal_of_one_keeps_no_other_away() -> None:
    """What the server signs is served, what it doesn't is tried again."""

    async def story(world: World) -> None:
        world.know(WEB, API)
        first, second = world.identities.due(10)
        world.identities.fail(second.claim, "the server refused: no")
        answers = await world.signer.sign([])
        assert answers == []
        async with world.follow() as following:
            assert await following() is None
            world.identities.fail(first.claim, "the server refused: no")
            assert await following() is None
            world.now_ns += 3 * SECOND
            (one, *_) = world.identities.due(1)
            await world._renewer._have_signed([one])
            assert len(ids(await following())) == 1

    run(story)


def test_a_hint_is_given_once() -> None:
    """Workload API section 5.2.1: unique in a response; the first keeps it."""

    async def story(world: World) -> None:
        world.know(API, replace(WEB, hint="api"))
        await world.sign()
        async with world.follow() as following:
            view = await following()
            assert view is not None
            assert [svid.hint for svid in view.svids] == ["api", ""]

    run(story)


def test_a_hint_is_not_anothers_because_its_own_identity_has_expired() -> None:
    """In an outage, say: whoever goes by a hint must not become somebody else."""

    async def story(world: World) -> None:
        world.signer.ttl_s = 100
        world.know(API)
        await world.sign()
        world.signer.ttl_s = 3600
        world.know(API, replace(WEB, hint="api"))
        await world.sign()
        async with world.follow() as following:
            assert ids(await following()) == [API.spiffe_id, WEB.spiffe_id]
            world.signer.is_down = True
            world.now_ns += 110 * SECOND
            await world.sign()
            view = await following()
            assert ids(view) == [WEB.spiffe_id]
            assert view is not None
            assert view.svids[0].hint == ""

    run(story)


def test_a_template_is_written_out_by_what_is_found() -> None:
    """And signed when a workload asks, not ahead: nobody knows for whom."""

    async def story(world: World) -> None:
        world.know(TEMPLATE)
        await world.sign()
        assert world.signer.batches == []
        pod = frozenset({Selector("k8s", "sa:web"), Selector("k8s", "ns:shop")})
        async with world.follow(pod) as following:
            assert await following() is None
            await world.sign()
            assert ids(await following()) == ["spiffe://td.example/ns/shop"]
        (batch,) = world.signer.batches
        assert batch[0].selectors == tuple(sorted(pod))

    run(story)


def test_those_who_come_in_crowds_keep_no_renewal_back() -> None:
    """Their orders may be more than the server takes of this node; renewals go by themselves."""

    async def story(world: World) -> None:
        world.know(WEB, TEMPLATE)
        await world.sign()
        (renewed,) = world.identities.svids
        before = world.identities.svids[renewed]
        world.signer.most = 3
        world.now_ns += 2400 * SECOND
        async with contextlib.AsyncExitStack() as crowd:
            for number in range(10):
                names = {Selector("k8s", "sa:web"), Selector("k8s", f"ns:made-up-{number}")}
                following = await crowd.enter_async_context(world.follow(frozenset(names)))
                assert await following() is None
            await world.sign()
        assert world.identities.svids[renewed] is not before
        assert [len(batch) for batch in world.signer.batches] == [1, 1, 10]

    run(story)


def test_what_a_caller_would_be_the_first_to_have_signed_is_known() -> None:
    """Only what a template makes of what is found on him: other entries are as many as they are."""

    async def story(world: World) -> None:
        names = {Selector("k8s", "sa:web"), Selector("k8s", "ns:shop"), UID}
        pod = frozenset(names)
        assert world.identities.newcomers(pod) == 0
        world.identities._ahead = 0
        world.know(WEB, TEMPLATE)
        assert world.identities.newcomers(APP) == 0
        assert world.identities.newcomers(pod) == 1
        async with world.follow(pod) as following:
            assert await following() is None
            others = frozenset(names | {Selector("unix", "gid:8")})
            assert world.identities.newcomers(pod) == world.identities.newcomers(others) == 0
            await world.sign()
        assert world.identities.newcomers(pod) == 0

    run(story)


def test_identities_are_signed_ahead_in_batches_up_to_a_bound() -> None:
    """A workload that starts need not wait; a node with very many entries doesn't fill up."""

    async def story(world: World) -> None:
        entries = [
            replace(WEB, id=f"{number:05}", selectors=(Selector("unix", f"uid:{number}"),))
            for number in range(1200)
        ]
        world.know(*entries)
        await world.sign()
        assert [len(batch) for batch in world.signer.batches] == [100] * 10
        async with world.follow(frozenset({Selector("unix", "uid:1199")})) as following:
            assert await following() is None
            await world.sign()
            assert ids(await following()) == ["spiffe://td.example/web"]

    run(story)


def test_an_identity_that_nobody_wants_any_more_is_not_renewed() -> None:
    """It stays until its renewal would be due, for those who come back."""

    async def story(world: World) -> None:
        world.identities._ahead = 0
        world.know(WEB)
        async with world.follow() as following:
            assert await following() is None
            await world.sign()
            assert ids(await following()) == ["spiffe://td.example/web"]
        async with world.follow() as again:
            assert ids(await again()) == ["spiffe://td.example/web"]
        world.now_ns += 2400 * SECOND
        await world.sign()
        assert not world.identities.svids
        assert len(world.signer.batches) == 1

    run(story)


def test_what_an_earlier_run_had_is_served_again() -> None:
    """A restart keeps what is valid, and asks for nothing before it is due."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        heir = Identities(lambda: world.now_ns, random.Random(2).random)
        heir.restore(world.identities.svids.values())
        heir.set_entries([WEB])
        heir.set_bundles(world.identities.bundles)
        assert heir.due(10) == []
        async with contextlib.aclosing(heir.subscribe(APP)) as views:
            assert (await anext(views)).svids[0].key == next(
                iter(world.identities.svids.values())
            ).key
        world.now_ns += 7200 * SECOND
        late = Identities(lambda: world.now_ns, random.Random(2).random)
        late.restore(world.identities.svids.values())
        assert not late.svids

    run(story)


def test_a_view_is_new_only_when_something_changed() -> None:
    """The same bundles and entries again push nothing."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        async with world.follow() as following:
            await following()
            world.know(WEB)
            assert await following() is None
            world.identities.set_bundles((world.signer.bundle(sequence=2),))
            view = await following()
            assert view is not None
            assert view.bundles[0].sequence == 2

    run(story)


def test_who_is_due_nothing_costs_little_however_often_he_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any user may ask without end, and what he lacks is looked for among all entries."""
    looked = []

    def counted(entries: object, found: frozenset[Selector]) -> str:
        looked.append(found)
        return f"none of {len(list(entries))}"  # type: ignore[call-overload]

    monkeypatch.setattr("meshwarden.agent.identities.why_none", counted)
    eve = frozenset({Selector("unix", "uid:13")})

    async def story(world: World) -> None:
        world.know(WEB, API)
        for _ in range(3):
            assert await world.identities.claims(eve) == "none of 2"
            async with world.follow(eve) as following:
                view = await following()
                assert view is not None
                assert view.why == "none of 2"
        assert looked == [eve]
        world.know(WEB)
        assert await world.identities.claims(eve) == "none of 1"
        assert looked == [eve, eve]

    run(story)


_SOME = st.sampled_from([Selector("unix", f"uid:{number}") for number in range(5)])


@given(st.lists(st.frozensets(_SOME, max_size=3), max_size=12), st.frozensets(_SOME))
def test_no_entry_is_missed_for_being_one_of_many(
    wanted: list[frozenset[Selector]], found: frozenset[Selector]
) -> None:
    """Only those that may match are looked at; all that do are found, in the order of their ids."""
    entries = [
        WorkloadEntry(f"e{number:02}", f"spiffe://td.example/{number}", tuple(sorted(selectors)))
        for number, selectors in enumerate(wanted)
    ]
    identities = Identities(lambda: 0, lambda: 0.5)
    identities.set_entries(entries)
    identities.set_bundles((FakeSigner(lambda: 1_000 * SECOND).bundle(),))
    claims = asyncio.run(identities.claims(found))
    expected = [each.id for each in entries if found.issuperset(each.selectors)]
    assert ([] if isinstance(claims, str) else [each.entry_id for each in claims]) == expected


def test_a_key_is_never_shown() -> None:
    """Nor a token: what prints or logs a value of ours tells no secret."""

    async def story(world: World) -> None:
        world.know(WEB)
        await world.sign()
        (svid,) = world.identities.svids.values()
        assert svid.key.hex() not in repr(svid)
        assert repr(svid.key) not in repr(svid)
        token = await world.signer.sign_token("web", ["a"], ())
        assert "eyJ" not in repr(token)

    run(story)


def certified(key: PublicKey, spiffe_id: str) -> bytes:
    """Make a certificate of a key and an ID, whoever signs it."""
    nobody = x509.Name([])
    until = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateBuilder(nobody, nobody, key, 1, until - dt.timedelta(1), until)
    builder = builder.add_extension(names, critical=True)
    signed = builder.sign(generate(KeyType.EC_P256), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "fault", ["another key", "another id", "both", "rubbish", "rubbish above", "nothing"]
)
def test_a_certificate_that_was_not_ordered_is_not_served(fault: str) -> None:
    """A key never goes with another's certificate, whatever the server mixed up."""

    async def story(world: World) -> None:
        world.know(WEB, API)
        due = world.identities.due(10)
        sign = world.signer.sign

        async def mixed_up(orders: Sequence[Order]) -> list[Signed | Refused]:
            first, second = await sign(orders)
            assert isinstance(first, Signed)
            assert isinstance(second, Signed)
            ordered = x509.load_der_x509_csr(orders[1].csr).public_key()
            assert isinstance(ordered, PublicKey)
            match fault:
                case "another key":
                    wrong = certified(generate(KeyType.EC_P256).public_key(), WEB.spiffe_id)
                case "another id":
                    wrong = certified(ordered, API.spiffe_id)
                case "both":
                    wrong = first.chain[0]
                case "rubbish above":
                    return [first, replace(second, chain=(*second.chain, b"rubbish"))]
                case "nothing":
                    return [first, replace(second, chain=())]
                case _:
                    wrong = b"rubbish"
            return [first, replace(second, chain=(wrong,))]

        world.signer.sign = mixed_up  # type: ignore[method-assign]
        await world._renewer._have_signed(due)
        served = [svid.spiffe_id for svid in world.identities.svids.values()]
        assert served == [API.spiffe_id]
        outcomes = world._renewer.outcomes
        assert (outcomes["signed"], outcomes["unfit"]) == (1, 1)

    run(story)


@pytest.mark.parametrize(
    ("others", "named"), [(0, tuple(sorted(APP))), (3_000, (UID,))], ids=["few", "many"]
)
def test_an_order_for_one_in_thousands_of_groups_names_those_that_decide(
    others: int, named: tuple[Selector, ...]
) -> None:
    """A batch of such orders is no longer than any other; of a few selectors all are named."""

    async def story(world: World) -> None:
        world.know(WEB)
        groups = frozenset(Selector("unix", f"supplementary_gid:{n}") for n in range(others))
        async with world.follow(APP | groups) as following:
            await following()
            [due] = world.identities.due(100)
            assert due.selectors == named

    run(story)
