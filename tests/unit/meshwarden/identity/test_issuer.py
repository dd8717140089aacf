"""The order of an issue, and what is left of it when something goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typing_extensions import override

from adapters.keepers.memory import Config, MemoryKeeper
from ca.authority import Authorities, Authority, AuthorityStore, Plan
from ca.errors import (
    CsrError,
    IdentityError,
    IdentityStoreError,
    NoAuthorityError,
    OrderError,
    OverloadedError,
    UnwritableError,
)
from ca.issue import JwtOrder, X509Order, X509Svid
from ca.jwt_svid import CheckedJwt, JwtSigner, check_jwt
from ca.jwt_svid import sign as sign_jwt
from ca.keys import KeyType, generate
from ca.ledger import Entry, Event, Head, LedgerRow, Verifier, chain
from ca.registry import Audit
from ca.spiffe_id import parse
from meshwarden.control.identity import ledger_writer
from meshwarden.control.identity.current import CurrentAuthorities
from meshwarden.control.identity.issuer import Issuer, Limits
from meshwarden.control.identity.ledger_writer import LedgerWriter
from tests.fakes.ledger import FakeLedger
from tests.unit.ca.makings import DOMAIN, NOW, OTHER, SECOND, WEB, Randomness, names, request

OTHER_KEY = Ed25519PrivateKey.generate()
Result = TypeVar("Result")


class FakeStore(AuthorityStore):
    """Authorities in memory."""

    def __init__(self) -> None:
        self.there = Authorities(DOMAIN)
        self.changed = asyncio.Event()
        self.is_down = False
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    @override
    async def read(self, trust_domain: str) -> Authorities:
        if self.is_down:
            raise IdentityStoreError("the store: it is down")
        found = self.there
        self.reads += 1
        await self.gate.wait()
        return found

    @override
    async def change(
        self,
        trust_domain: str,
        plan: Callable[[Authorities], Sequence[Authority]],
        audit: Audit | None = None,
    ) -> Authorities:
        if self.is_down:
            raise IdentityStoreError("the store: it is down")
        changes = plan(self.there)
        if changes:
            after = self.there.after(changes)
            self.there = Authorities(DOMAIN, self.there.sequence + 1, after.all)
            self.changed.set()
        return self.there

    @override
    async def changes(self) -> AsyncIterator[None]:  # type: ignore[override] # a generator is one
        while True:
            yield
            await self.changed.wait()
            self.changed.clear()


class World:
    """An issuer and what it stands on.

    Attributes:
        now_ns: The time.
        heads: What the writer told of.
        gone: What it told was gone.
        tell: Whom it told.
    """

    def __init__(self, plan: Plan | None = None, limits: Limits | None = None) -> None:
        self.now_ns = NOW
        self.heads: list[Head] = []
        self.gone: list[Head] = []
        self.tell: Callable[[Head], None] = self.heads.append
        self.log, self.store = FakeLedger(), FakeStore()
        clock = lambda: self.now_ns  # noqa: E731 - the shortest clock
        self.current = CurrentAuthorities(
            plan or Plan(DOMAIN), self.store, MemoryKeeper(Config()), 300, now_ns=clock,
            randomness=Randomness(),
        )  # fmt: skip
        self.writer = LedgerWriter(self.log, lambda: self.current.signing.ledger_key, clock, self)
        self.issuer = Issuer(
            self.current, limits or Limits(), self.writer, now_ns=clock, randomness=Randomness()
        )

    @property
    def newest(self) -> Head:
        """The last head that the writer told of."""
        return self.heads[-1] if self.heads else Head()

    def wrote(self, head: Head) -> None:
        """Be told of a head."""
        self.tell(head)

    def lost(self, head: Head) -> None:
        """Be told of one that is gone."""
        self.gone.append(head)

    async def issue(self, *orders: X509Order) -> list[X509Svid | IdentityError]:
        """Issue, and have the ledger written to its end."""
        results = await self.issuer.issue_x509(orders)
        await self.writer.flush()
        return results


def run(story: Callable[[World], Awaitable[Result]], **parts: Any) -> Result:
    """Tell one story in a world of its own, started."""

    async def within_time() -> Result:
        async with asyncio.timeout(20):
            world = World(**parts)
            await world.issuer.start()
            return await story(world)

    return asyncio.run(within_time())


def order(**changes: Any) -> X509Order:
    """An order like any other."""
    return X509Order(
        **{
            "csr": request(),
            "spiffe_id": WEB,
            "requester": "agent",
            "selectors": ("a:b",),
            **changes,
        }
    )


def test_an_intent_is_on_the_ledger_before_anything_is_signed() -> None:
    """While the ledger waits nothing comes out, and nothing at all when it fails."""

    async def story(world: World) -> None:
        world.log.gate.clear()
        issuing = asyncio.ensure_future(world.issuer.issue_x509([order()]))
        await asyncio.sleep(0.05)
        assert not issuing.done()
        world.log.is_down = True
        world.log.gate.set()
        (result,) = await issuing
        assert isinstance(result, IdentityStoreError)
        assert not world.log.rows

    run(story)


def test_the_ledger_says_who_what_and_until_when() -> None:
    """Requester, selectors, ID, serial, end and authority; then that it was handed out."""

    async def story(world: World) -> None:
        (svid,) = await world.issue(order(dns_names=("web.example",)))
        assert isinstance(svid, X509Svid)
        assert world.log.events() == [Event.INTENDED, Event.ISSUED]
        intent, outcome = (row.entry for row in world.log.rows)
        assert (intent.requester, intent.selectors) == ("agent", ("a:b",))
        assert (intent.spiffe_id, intent.serial) == (str(WEB), svid.serial)
        assert intent.not_after_ns == svid.not_after_ns
        assert intent.authority_id == world.current.signing.x509_authority_id
        assert intent.detail == "web.example"
        assert (outcome.first, outcome.last) == (1, 1)
        found = x509.load_der_x509_certificate(svid.chain[0])
        assert f"{found.serial_number:032x}" == svid.serial
        assert world.heads[-1].number == 2

    run(story)


def test_each_of_a_batch_is_issued_or_refused_by_itself() -> None:
    """In the order of the orders; refusals are on the ledger too, and nothing is signed then."""

    async def story(world: World) -> None:
        bad = request(extensions=[(names(str(OTHER)), False)])
        results = await world.issue(
            order(), order(csr=bad), order(spiffe_id=OTHER), order(csr=b"x" * (1 << 20)),
            order(spiffe_id=parse("spiffe://elsewhere.example/x")),
            order(spiffe_id=parse("spiffe://mesh.example")), order(dns_names=("a b",)),
        )  # fmt: skip
        kinds = [type(each) for each in results]
        assert kinds == [
            X509Svid, CsrError, X509Svid, CsrError, OrderError, OrderError, OrderError,
        ]  # fmt: skip
        codes = [each.code for each in results if isinstance(each, IdentityError)]
        assert codes == ["PERMISSION_DENIED", *["INVALID_ARGUMENT"] * 4]
        refused = [row.entry for row in world.log.rows if row.entry.event is Event.REFUSED]
        assert len(refused) == 5
        assert refused[0].detail.startswith("PERMISSION_DENIED: ")
        assert refused[0].requester == "agent"
        assert not any(each.serial for each in refused)
        assert world.log.events().count(Event.INTENDED) == 2

    run(story)


def test_a_hundred_orders_are_one_write() -> None:
    """And a hundred callers at once are few: whoever comes meanwhile goes with the next."""

    async def story(world: World) -> None:
        await world.issue(*(order() for _ in range(100)))
        assert world.log.groups == [100, 1]
        world.log.groups.clear()
        csr = request()
        world.log.gate.clear()
        waiting = [
            asyncio.ensure_future(world.issuer.issue_x509([order(csr=csr)])) for _ in range(100)
        ]
        await asyncio.sleep(0.1)
        world.log.gate.set()
        results = await asyncio.gather(*waiting)
        assert all(isinstance(each, X509Svid) for (each,) in results)
        assert len(world.log.groups) <= 3
        serials = [row.entry.serial for row in world.log.rows if row.entry.serial]
        assert len(set(serials)) == 200

    run(story)


def test_outcomes_of_one_after_the_other_become_one_row() -> None:
    """The ledger doesn't double with them."""

    async def story(world: World) -> None:
        await world.issue(*(order() for _ in range(20)))
        last = world.log.rows[-1].entry
        assert (last.event, last.first, last.last) == (Event.ISSUED, 1, 20)

    run(story)


def test_what_is_not_as_ordered_is_withheld_and_told_as_our_fault() -> None:
    """A signer that went wrong: nobody gets the certificate, and the ledger says so."""

    async def story(world: World) -> None:
        signing = world.current.signing
        chain = signing._certificates.verifier
        chain.trust_domain = "x"
        real = chain.check

        def strict(leaf: bytes, expected: Any, now_ns: int) -> None:
            real(leaf, expected, now_ns)
            raise ValueError("it looks odd")

        chain.check = strict  # type: ignore[method-assign] # the signer's own fault, played
        (result,) = await world.issue(order())
        assert isinstance(result, IdentityError)
        assert result.code == "INTERNAL"
        assert "odd" not in str(result)
        assert world.log.events() == [Event.INTENDED, Event.WITHHELD]
        assert world.log.rows[-1].entry.first == 1

    run(story)


@pytest.mark.parametrize("slip", ["subject", "audience", "end", "key"])
def test_a_token_that_is_not_as_ordered_is_withheld(
    slip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is verified as its audience would, before anybody has it."""
    other = JwtSigner(generate(KeyType.EC_P256))

    def slipping(
        signer: JwtSigner, checked: CheckedJwt, token_id: str, issued_ns: int, expires_ns: int
    ) -> str:
        subject = OTHER if slip == "subject" else checked.spiffe_id
        audiences = ("orders", "more") if slip == "audience" else checked.audiences
        if slip == "end":
            expires_ns += SECOND
        return sign_jwt(
            other if slip == "key" else signer, check_jwt(subject, audiences), token_id,
            issued_ns, expires_ns,
        )  # fmt: skip

    monkeypatch.setattr("meshwarden.control.identity.signing.sign_jwt", slipping)

    async def story(world: World) -> None:
        with pytest.raises(IdentityError) as told:
            await world.issuer.issue_jwt(JwtOrder(WEB, ("orders",), "agent"))
        assert told.value.code == "INTERNAL"
        await world.writer.flush()
        assert world.log.events() == [Event.INTENDED, Event.WITHHELD]

    run(story)


def test_times_are_within_the_settings_and_the_authority() -> None:
    """Default, maximum, and the end of what signs (promise 15)."""

    async def story(world: World) -> None:
        async def end_s(ttl_s: int) -> int:
            (svid,) = await world.issue(order(ttl_s=ttl_s))
            assert isinstance(svid, X509Svid)
            assert svid.not_before_ns < world.now_ns
            return (svid.not_after_ns - world.now_ns) // SECOND

        assert await end_s(0) == 3600
        assert await end_s(60) == 60
        assert await end_s(10**9) == 86_400

        async def token_end_s(ttl_s: int) -> int:
            made = await world.issuer.issue_jwt(JwtOrder(WEB, ("x",), "agent", (), ttl_s))
            return (made.expires_ns - world.now_ns) // SECOND

        assert [await token_end_s(ttl_s) for ttl_s in (0, 60, 10**9)] == [300, 60, 3600]
        world.now_ns += 2 * 86_400 * SECOND - 100 * SECOND
        assert await end_s(3600) == 100
        assert await token_end_s(3600) == 100
        world.now_ns += 100 * SECOND
        (result,) = await world.issue(order())
        assert isinstance(result, NoAuthorityError)
        assert "expired" in str(result)
        with pytest.raises(NoAuthorityError, match="expired"):
            await world.issuer.issue_jwt(JwtOrder(WEB, ("x",), "agent"))

    run(story, plan=Plan(DOMAIN, signer_days=2))


def test_tokens_are_on_the_ledger_and_never_shown() -> None:
    """The jti is the serial; the token itself is nowhere but with its owner."""

    async def story(world: World) -> None:
        made = await world.issuer.issue_jwt(JwtOrder(WEB, ("orders",), "agent", ("a:b",), 60))
        await world.writer.flush()
        assert world.log.events() == [Event.INTENDED, Event.ISSUED]
        entry = world.log.rows[0].entry
        assert (entry.kind, entry.spiffe_id, entry.detail) == ("jwt", str(WEB), "orders")
        assert (entry.requester, entry.selectors) == ("agent", ("a:b",))
        assert entry.authority_id == world.current.signing.jwt_authority_id
        assert jwt.decode(made.token, options={"verify_signature": False})["jti"] == entry.serial
        assert made.expires_ns == NOW + 60 * SECOND
        assert made.token not in repr(made)
        assert made.token not in repr(world.log.rows)
        for wrong in (JwtOrder(WEB, (), "a"), JwtOrder(parse("spiffe://x/y"), ("o",), "a")):
            with pytest.raises(OrderError):
                await world.issuer.issue_jwt(wrong)
        await world.writer.flush()
        assert world.log.events()[2:] == [Event.REFUSED] * 2

    run(story)


def test_before_the_database_answers_nothing_is_issued() -> None:
    """And as soon as it does, without a restart."""

    async def story(world: World) -> None:
        world.store.is_down = True
        other = World()
        other.store.is_down = True
        (result,) = await other.issuer.issue_x509([order()])
        assert isinstance(result, IdentityStoreError)
        with pytest.raises(IdentityStoreError):
            other.issuer.bundle()
        with pytest.raises(IdentityStoreError):
            await other.issuer.start()
        running = asyncio.ensure_future(other.issuer.run())
        bundles = other.issuer.bundles()
        waiting = asyncio.ensure_future(anext(bundles))
        await asyncio.sleep(0.1)
        other.store.is_down = False
        assert (await waiting).trust_domain == DOMAIN
        running.cancel()
        await bundles.aclose()  # type: ignore[attr-defined] # it is a generator

    run(story)


def test_a_bundle_is_told_again_when_it_changes_and_only_then() -> None:
    """Whoever changed it."""

    async def story(world: World) -> None:
        running = asyncio.ensure_future(world.issuer.run())
        bundles = world.issuer.bundles()
        first = await anext(bundles)
        assert first == world.issuer.bundle()
        waiting = asyncio.ensure_future(anext(bundles))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        found = world.store.there
        world.store.there = Authorities(DOMAIN, found.sequence + 1, found.all)
        world.store.changed.set()
        assert (await waiting).sequence == first.sequence + 1
        running.cancel()
        await bundles.aclose()  # type: ignore[attr-defined] # it is a generator

    run(story)


def test_a_change_that_can_not_be_read_at_once_is_read_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The store tells of it once; as when the one connection that reads was dropped on the way."""

    async def story(world: World) -> None:
        running = asyncio.ensure_future(world.issuer.run())
        await asyncio.sleep(0)
        sequence = world.issuer.bundle().sequence
        found = world.store.there
        world.store.there = Authorities(DOMAIN, sequence + 1, found.all)
        world.store.is_down = True
        world.store.changed.set()
        while "was not taken" not in caplog.text:
            await asyncio.sleep(0.01)
        assert world.issuer.bundle().sequence == sequence
        world.store.is_down = False
        while world.issuer.bundle().sequence == sequence:
            await asyncio.sleep(0.01)
        assert caplog.text.count("was not taken") == 1
        running.cancel()

    run(story)


def test_what_was_read_before_a_change_is_not_taken_after_it() -> None:
    """It would sign by what was replaced, or by nothing, until the store tells again."""

    async def story(world: World) -> None:
        running = asyncio.ensure_future(world.issuer.run())
        while not world.store.reads:
            await asyncio.sleep(0)
        world.store.gate.clear()
        reads, old = world.store.reads, world.store.there
        world.store.there = Authorities(DOMAIN, old.sequence + 1, old.all)
        world.store.changed.set()
        while world.store.reads == reads:
            await asyncio.sleep(0)
        world.store.there = Authorities(DOMAIN, old.sequence + 2, old.all)
        starting = asyncio.ensure_future(world.issuer.start())
        await asyncio.sleep(0.01)
        world.store.gate.set()
        seen = []
        while not starting.done() or world.issuer.bundle().sequence != world.store.there.sequence:
            seen.append(world.issuer.bundle().sequence)
            await asyncio.sleep(0)
        for _ in range(9):
            seen.append(world.issuer.bundle().sequence)
            await asyncio.sleep(0)
        assert seen == sorted(seen)
        running.cancel()

    run(story)


def test_an_overload_is_told_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders are not queued without end while the ledger hangs."""
    monkeypatch.setattr(ledger_writer, "_MAX_WAITING_ROWS", 100)

    async def story(world: World) -> None:
        world.log.gate.clear()
        csr = request()
        batch = [order(csr=csr)] * 30
        waiting = [asyncio.ensure_future(world.issuer.issue_x509(batch)) for _ in range(4)]
        done: set[Any] = set()
        while not done:
            done, _ = await asyncio.wait(waiting, timeout=0.1, return_when="FIRST_COMPLETED")
        assert all(isinstance(each, OverloadedError) for each in done.pop().result())
        for each in waiting:
            each.cancel()
        world.log.gate.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(story)


def test_what_nobody_foresaw_reaches_who_waits() -> None:
    """As a fault of ours; the writer goes on with the next."""

    async def story(world: World) -> None:
        world.log.is_broken = True
        (result,) = await world.issuer.issue_x509([order()])
        assert isinstance(result, IdentityError)
        assert result.code == "INTERNAL"
        world.log.is_broken = False
        (result,) = await world.issue(order())
        assert isinstance(result, X509Svid)

    run(story)


def test_a_writer_that_breaks_itself_keeps_nobody_waiting() -> None:
    """Who is on the ledger goes on, who stands behind hears of the fault, the next are served."""

    async def story(world: World) -> None:
        def broken(head: Head) -> None:
            raise ZeroDivisionError(f"nobody foresaw this: {head}")

        world.tell = broken
        world.log.gate.clear()
        first = asyncio.create_task(world.issuer.issue_x509([order()]))
        await world.log.asked.wait()
        behind = [asyncio.create_task(world.issuer.issue_x509([order()])) for _ in range(3)]
        await asyncio.sleep(0)  # Each runs until it waits.
        world.log.gate.set()
        (issued,) = await first
        assert isinstance(issued, X509Svid)
        for (told,) in await asyncio.gather(*behind):
            assert isinstance(told, IdentityError)
            assert (told.code, "internal fault" in str(told)) == ("INTERNAL", True)
        world.tell = world.heads.append
        (issued,) = await world.issue(order())
        assert isinstance(issued, X509Svid)
        assert world.log.events() == [*[Event.INTENDED] * 2, *[Event.ISSUED] * 2]

    run(story)


def test_a_writer_that_is_ended_keeps_nobody_waiting() -> None:
    """Nor does what had to be noted get lost, should another one come."""

    async def story(world: World) -> None:
        world.log.gate.clear()
        before = asyncio.all_tasks()
        waiting = [asyncio.create_task(world.issuer.issue_x509([order()])) for _ in range(2)]
        await world.log.asked.wait()
        late = asyncio.create_task(world.issuer.issue_x509([order()]))
        await asyncio.sleep(0)  # It runs until it waits.
        (writer,) = asyncio.all_tasks() - before - {*waiting, late}
        writer.cancel()
        for (told,) in await asyncio.gather(*waiting, late):
            assert isinstance(told, IdentityStoreError)
        world.log.gate.set()
        (issued,) = await world.issue(order())
        assert isinstance(issued, X509Svid)

    run(story)


def test_outcomes_wait_for_an_outage_to_end() -> None:
    """Nobody waits for them, and none is lost by it."""

    async def story(world: World) -> None:
        results = await world.issuer.issue_x509([order(), order()])
        assert all(isinstance(each, X509Svid) for each in results)
        world.log.is_down = True
        await world.writer.flush()
        assert world.log.events() == [Event.INTENDED] * 2
        world.log.is_down = False
        await world.writer.close()
        assert world.log.events() == [*[Event.INTENDED] * 2, Event.ISSUED]

    run(story)


def cut_off(rows: list[LedgerRow]) -> None:
    """Take the last write away: what is left is a ledger that was complete once."""
    del rows[-1]


def change_the_end(rows: list[LedgerRow]) -> None:
    """Make the last row another one, with its hash."""
    before = Head(rows[-2].number, rows[-2].hash)
    rows[-1] = chain(before, [Entry(Event.REFUSED)], 5, Ed25519PrivateKey.generate())[0]


def change_behind_another_ones_rows(rows: list[LedgerRow]) -> None:
    """Another replica writes behind a row of ours that was changed."""
    change_the_end(rows)
    go_on_elsewhere(rows)


def go_on_elsewhere(rows: list[LedgerRow]) -> None:
    """Another replica writes; nothing is wrong with that."""
    rows += chain(Head(rows[-1].number, rows[-1].hash), [Entry(Event.REFUSED)] * 2, 6, OTHER_KEY)


@pytest.mark.parametrize("tamper", [cut_off, change_the_end, change_behind_another_ones_rows])
def test_what_was_done_to_the_ledgers_end_is_not_hidden_by_the_next_write(
    tamper: Callable[[list[LedgerRow]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It goes behind what is left, and its signature vouches for that: the head is kept, for good.

    Issuing goes on.
    """

    async def story(world: World) -> None:
        await world.issue(order())
        known = world.newest
        tamper(world.log.rows)
        (issued,) = await world.issue(order())
        assert isinstance(issued, X509Svid)
        await world.issue(order())
        assert world.gone == [known]
        assert caplog.text.count("rows were cut off or changed") == 1
        verifier = Verifier([world.current.signing.ledger_key.public_key()], world.gone)
        verifier.take(world.log.rows)
        assert "written anew" in verifier.report().fault

    run(story)


def test_what_another_replica_wrote_is_no_loss() -> None:
    """Ours is there still, before it."""

    async def story(world: World) -> None:
        await world.issue(order())
        go_on_elsewhere(world.log.rows)
        await world.issue(order())
        assert not world.gone
        assert world.newest.number == len(world.log.rows)

    run(story)


def test_a_look_back_that_fails_is_made_behind_the_next_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not known to be there still is not forgotten for what is newer."""

    async def story(world: World) -> None:
        await world.issue(order())
        known = world.newest

        async def fails(*_: object) -> Sequence[LedgerRow]:
            raise IdentityStoreError("the store: it is down")

        change_behind_another_ones_rows(world.log.rows)
        with monkeypatch.context() as patched:
            patched.setattr(world.log, "read", fails)
            await world.issue(order())
        assert (world.newest, world.gone) == (known, [])
        await world.issue(order())
        assert world.gone == [known]

    run(story)


def test_nobody_waits_for_a_look_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database may take long to read; what was written meanwhile is remembered behind it."""

    async def story(world: World) -> None:
        await world.issue(order())
        known, read, gate = world.newest, world.log.read, asyncio.Event()

        async def slow(after: int, limit: int) -> Sequence[LedgerRow]:
            await gate.wait()
            return await read(after, limit)

        monkeypatch.setattr(world.log, "read", slow)
        for _ in range(3):
            go_on_elsewhere(world.log.rows)
            (issued,) = await world.issuer.issue_x509([order()])
            assert isinstance(issued, X509Svid)
        assert world.newest == known
        gate.set()
        await world.writer.flush()
        assert not world.gone
        assert world.newest == await world.log.head()

    run(story)


def test_a_look_back_that_breaks_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, and made behind the next write."""

    async def story(world: World) -> None:
        await world.issue(order())
        known = world.newest

        async def breaks(*_: object) -> Sequence[LedgerRow]:
            raise ZeroDivisionError("nobody foresaw this")

        go_on_elsewhere(world.log.rows)
        with monkeypatch.context() as patched:
            patched.setattr(world.log, "read", breaks)
            (issued,) = await world.issue(order())
        assert isinstance(issued, X509Svid)
        assert (world.newest, world.gone) == (known, [])
        assert "its head is not remembered" in caplog.text
        await world.issue(order())
        assert (world.newest, world.gone) == (await world.log.head(), [])

    run(story)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_one_row_that_can_not_be_written_fails_nobody_else(count: int) -> None:
    """Its owner is told; all others of the group are on the ledger once, in their order."""

    async def story(world: World) -> None:
        world.log.poison = "poison.example"
        world.log.gate.clear()
        first = asyncio.create_task(world.issuer.issue_x509([order()]))
        await world.log.asked.wait()
        names = [f"n{each}.example" for each in range(count)]
        names.insert(count // 2, world.log.poison)
        crowd = [
            asyncio.create_task(world.issuer.issue_x509([order(dns_names=(each,))]))
            for each in names
        ]
        world.log.gate.set()
        await first
        results = [one for (one,) in await asyncio.gather(*crowd)]
        kinds = [type(each) for each in results]
        assert kinds == [
            X509Svid if each != world.log.poison else UnwritableError for each in names
        ]
        await world.writer.flush()
        told = [row.entry.detail for row in world.log.rows if row.entry.detail]
        assert told == [each for each in names if each != world.log.poison]
        issued = [row.entry for row in world.log.rows if row.entry.event is Event.ISSUED]
        numbers = [n for each in issued for n in range(each.first, each.last + 1)]
        intended = [row.number for row in world.log.rows if row.entry.event is Event.INTENDED]
        assert numbers == intended, "each outcome is of the row that it is for"

    run(story)


def test_a_note_that_can_not_be_written_is_dropped_and_stops_nothing() -> None:
    """Tried for ever, it would keep everybody from the ledger."""

    async def story(world: World) -> None:
        world.log.poison = "poison"
        world.writer.note(Entry(Event.REFUSED, detail="before"))
        world.writer.note(Entry(Event.REFUSED, detail="poison"))
        world.writer.note(Entry(Event.REFUSED, detail="after"))
        (issued,) = await world.issue(order())
        assert isinstance(issued, X509Svid)
        details = [row.entry.detail for row in world.log.rows]
        assert details == ["", "before", "after", ""]
        assert not world.writer._is_failing

    run(story)


def test_an_outage_while_a_group_is_written_in_parts_fails_what_is_left_at_once() -> None:
    """Not one part after the other, each after a time-out of its own."""

    async def story(world: World) -> None:
        world.log.poison = "poison.example"
        append, calls = world.log.append, 0

        async def once(*parts: Any) -> Any:
            nonlocal calls
            calls += 1
            world.log.is_down = calls > 2
            return await append(*parts)

        world.log.append = once  # type: ignore[method-assign] # an outage in the midst
        names = (*(f"n{each}.example" for each in range(8)), world.log.poison)
        crowd = [world.issuer.issue_x509([order(dns_names=(each,))]) for each in names]
        results = [one for (one,) in await asyncio.gather(*crowd)]
        assert sum(isinstance(each, IdentityStoreError) for each in results) >= 4
        assert not any(isinstance(each, UnwritableError) for each in results)
        assert calls == 3
        world.log.is_down = False

    run(story)


def test_a_writer_that_is_ended_between_two_parts_keeps_nobody_waiting() -> None:
    """Who is in a part that was not begun hears of it too."""

    async def story(world: World) -> None:
        world.log.poison = "poison.example"
        append = world.log.append
        stuck = asyncio.Event()

        async def hangs(entries: Any, *parts: Any) -> Any:
            if len(entries) < 3:
                stuck.set()
                await asyncio.Event().wait()
            return await append(entries, *parts)

        world.log.append = hangs  # type: ignore[method-assign] # it hangs in the midst
        before = asyncio.all_tasks()
        names = ("a.example", world.log.poison, "b.example", "c.example")
        crowd = [
            asyncio.create_task(world.issuer.issue_x509([order(dns_names=(each,))]))
            for each in names
        ]
        await stuck.wait()
        (writer,) = asyncio.all_tasks() - before - {*crowd}
        writer.cancel()
        for (told,) in await asyncio.gather(*crowd):
            assert isinstance(told, IdentityStoreError)

    run(story)


def test_a_refusal_that_quotes_a_stranger_is_kept_by_every_database() -> None:
    """PostgreSQL keeps no NUL, and nobody keeps half a surrogate pair."""

    async def story(world: World) -> None:
        def refuses(*_: Any, **__: Any) -> Any:
            raise OrderError("no: \x00 \ud800")

        world.current.signing.check_names = refuses  # type: ignore[method-assign] # a stranger
        (refused,) = await world.issue(order())
        assert isinstance(refused, OrderError)
        (row,) = world.log.rows
        assert row.entry.detail == "INVALID_ARGUMENT: no: \\x00 \\ud800"

    run(story)
