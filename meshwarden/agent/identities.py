"""The identities of one node: what workloads are due, what has been signed, who waits for it.

This is the seam between the server's side (`link.py` feeds entries and bundles, `renewer.py` has
certificates signed) and the workloads' edges (`workload_api.py`, SDS), which only call `subscribe`.

A workload is the set of selectors found on it. All who have the same set share one view, and all
whose entries are the same share one certificate and key. A view is replaced whole: a key is never
seen with another's certificate. A subscriber gets the newest view when it comes to ask; nothing
queues up for one that doesn't.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

from ca.bundle import Bundle
from ca.entries import Match, WorkloadEntry, match, shortened, why_none
from ca.renewal import Renewals, renewal_ns, resumed_ns, retry_pause_s
from ca.selectors import Selector
from meshwarden.agent.svids import Claim, Due, Svid, WorkloadSvids

__all__ = ["Identities"]

_SECOND_NS = 1_000_000_000
# Until an identity's own life is known, failures are paced by this one.
_USUAL_LIFE_S = 3600.0
_REMEMBERED = 1024
"""Sets of selectors of which is remembered what entries give: processes ask again and again."""


class _Group:
    """Those workloads on which the same was found."""

    def __init__(self, selectors: frozenset[Selector]) -> None:
        self.selectors = selectors
        self.members = 0
        self.claims: tuple[Claim, ...] = ()
        self.why = ""
        self.view: WorkloadSvids | None = None
        self.changed = asyncio.Event()

    def show(self, view: WorkloadSvids | None) -> None:
        """Replace the view, and wake those who wait."""
        self.view = view
        self.changed.set()
        self.changed = asyncio.Event()


class Identities:
    """What this node's workloads are due, and have."""

    def __init__(
        self, now_ns: Callable[[], int], draw: Callable[[], float], ahead: int = 1000
    ) -> None:
        """Know nothing yet.

        Args:
            now_ns: The time.
            draw: A random number from 0 to below 1, anew at each call.
            ahead: Identities that are signed before any workload asks, at most.
        """
        self._now_ns = now_ns
        self._draw = draw
        self._ahead = ahead
        self._entries: dict[str, WorkloadEntry] | None = None
        self._templates: tuple[WorkloadEntry, ...] = ()
        self._index = _Index(())
        self._given: OrderedDict[frozenset[Selector], tuple[tuple[Claim, ...], str]] = OrderedDict()
        self._bundles: tuple[Bundle, ...] = ()
        self._svids: dict[Claim, Svid] = {}
        self._refusals: dict[Claim, str] = {}
        self._failures: Counter[Claim] = Counter()
        self._under_way: dict[Claim, int] = {}
        self._groups: dict[frozenset[Selector], _Group] = {}
        self._wanted: dict[Claim, tuple[Selector, ...]] = {}
        self._made_ahead: dict[Claim, tuple[Selector, ...]] = {}
        self._changed = asyncio.Event()
        self._plan = Renewals[Claim]()
        self.work = asyncio.Event()
        """Set when something came due before the time that `next_ns` told."""
        self.altered = asyncio.Event()
        """Set when entries or certificates changed, for who keeps them on disk."""

    # What workloads' edges call.

    async def subscribe(
        self, selectors: frozenset[Selector]
    ) -> AsyncGenerator[WorkloadSvids, None]:
        """Follow what a workload gets: as soon as it is whole, and again whole on each change.

        It never ends by itself. Without an entry it yields a view with no svids and the reason;
        while entries, bundles or the first certificates are awaited, or all have expired, it
        yields nothing: an outage takes from nobody what he has. Wrap it in `contextlib.aclosing`.

        Args:
            selectors: What was found on the workload.
        """
        group = self._groups.get(selectors)
        if group is None:
            group = self._groups[selectors] = _Group(selectors)
            group.members += 1
            self._match(group)
            if group.claims:  # Who is due nothing changes nothing, and may come without end.
                self._replan()
            self._refresh(group)
        else:
            group.members += 1
        shown: WorkloadSvids | None = None
        try:
            while True:
                view, changed = group.view, group.changed
                if view is None or view is shown or self._has_expired(view):
                    await changed.wait()
                else:
                    shown = view
                    yield view
        finally:
            group.members -= 1
            # Its certificates stay until their renewal would be due: workloads come back.
            if not group.members and self._groups.get(selectors) is group:
                del self._groups[selectors]
                if group.claims:
                    self._replan()

    async def claims(self, selectors: frozenset[Selector]) -> tuple[Claim, ...] | str:
        """Give what a workload is due once entries are known; or why nothing, in words."""
        while self._entries is None or not self._bundles:
            await self._changed.wait()
        claims, why = self._give(selectors)
        return claims or why

    def newcomers(self, selectors: frozenset[Selector]) -> int:
        """Tell how many identities would have to be ordered that templates make of this alone.

        Cost: O(entries with templates); 0 before entries are known.
        """
        if selectors in self._groups:
            return 0
        claims = self._claims(self._templates, selectors)
        return sum(claim not in self._svids and claim not in self._wanted for claim in claims)

    def entry(self, claim: Claim) -> WorkloadEntry | None:
        """Give the entry of a claim; None where it is gone."""
        return (self._entries or {}).get(claim.entry_id)

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles known, the own trust domain's first; empty before the first came."""
        return self._bundles

    # What the server's side calls.

    @property
    def entries(self) -> Mapping[str, WorkloadEntry] | None:
        """The entries known, by id; None before the first came."""
        return self._entries

    @property
    def svids(self) -> Mapping[Claim, Svid]:
        """The certificates there are."""
        return self._svids

    @property
    def refusals(self) -> Mapping[Claim, str]:
        """Why the newest order of an identity failed, of those whose did."""
        return self._refusals

    @property
    def streams(self) -> int:
        """How many follow."""
        return sum(group.members for group in self._groups.values())

    def set_entries(self, entries: Iterable[WorkloadEntry]) -> None:
        """Replace the entries. What no entry gives any more is forgotten at once, key and all."""
        self._entries = {entry.id: entry for entry in sorted(entries, key=lambda each: each.id)}
        self._templates = tuple(filter(_is_template, self._entries.values()))
        self._index = _Index(self._entries.values())
        self._given.clear()
        self._make_ahead()
        for group in self._groups.values():
            self._match(group)
        self._replan()
        for group in self._groups.values():
            self._refresh(group)
        self._tick()

    def set_bundles(self, bundles: tuple[Bundle, ...]) -> None:
        """Replace the bundles; nothing happens where they are the same."""
        if bundles != self._bundles:
            self._bundles = bundles
            for group in self._groups.values():
                self._refresh(group)
            self._tick()

    def restore(self, svids: Iterable[Svid]) -> None:
        """Take back certificates of an earlier run; those that have expired are left out."""
        now_ns = self._now_ns()
        for svid in svids:
            if svid.not_after_ns > now_ns and svid.claim not in self._svids:
                self._svids[svid.claim] = svid
                planned_ns = renewal_ns(svid.arrived_ns, svid.not_after_ns, self._draw())
                at_ns = resumed_ns(planned_ns, svid.not_after_ns, now_ns, self._draw())
                self._plan.put(svid.claim, at_ns)

    def due(self, limit: int) -> list[Due]:
        """Take up to `limit` identities to be signed now.

        Each must be given to `accept` or `fail` then; until that it is not due again. Renewals go
        by themselves: a server refuses an order whole that is more than it has room for, and those
        who come in crowds must not take that from those who have been there.
        """
        if self._entries is None:
            return []
        self._forget_expired()
        now_ns, found = self._now_ns(), []
        due = self._plan.due(now_ns, limit)
        renewals = [claim for claim in due if claim in self._svids]
        if renewals:
            for claim in due:
                if claim not in self._svids:
                    self._plan.put(claim, now_ns)
        for claim in renewals or due:
            entry = self.entry(claim)
            if entry is None or claim not in self._wanted:
                self._svids.pop(claim, None)  # Nobody has asked for it since its last renewal.
            else:
                self._under_way[claim] = entry.version
                selectors = shortened(entry, frozenset(self._wanted[claim]))
                found.append(Due(claim, entry.version, tuple(sorted(selectors))))
        return found

    def next_ns(self) -> int | None:
        """Give the time at which something may be due, or expire; None for never."""
        ends = [svid.not_after_ns for svid in self._svids.values()]
        starts = [at for at in (self._plan.next_ns(),) if at is not None]
        return min(ends + starts, default=None)

    def accept(self, svid: Svid) -> None:
        """Take a certificate that was signed; the claim's workloads see it at once."""
        claim = svid.claim
        self._under_way.pop(claim, None)
        self._failures.pop(claim, None)
        self._refusals.pop(claim, None)
        entry = self.entry(claim)
        if entry is None or claim not in self._wanted:
            return  # The entry went away meanwhile.
        self._svids[claim] = svid
        self.altered.set()
        self._plan_renewal(svid)
        if entry.version != svid.version:
            self._plan.put(claim, self._now_ns())
        self._refresh_those_with(claim)

    def fail(self, claim: Claim, reason: str) -> None:
        """Note that an order came to nothing; it is tried again after a pause that grows."""
        self._under_way.pop(claim, None)
        if claim not in self._wanted:
            return
        attempt = self._failures[claim]
        self._failures[claim] += 1
        self._refusals[claim] = reason
        svid = self._svids.get(claim)
        life_s = (svid.not_after_ns - svid.arrived_ns) / _SECOND_NS if svid else _USUAL_LIFE_S
        pause_s = retry_pause_s(attempt, life_s, self._draw())
        self._plan.put(claim, self._now_ns() + int(pause_s * _SECOND_NS))
        self._refresh_those_with(claim)

    def retry_now(self) -> None:
        """Forget all pauses: the server is back."""
        now_ns = self._now_ns()
        for claim in tuple(self._failures):
            if claim not in self._svids and claim not in self._under_way:
                self._plan.put(claim, now_ns)
        self._failures.clear()
        self.work.set()

    # How it is done.

    def _claims(
        self, entries: Iterable[WorkloadEntry], found: frozenset[Selector]
    ) -> tuple[Claim, ...]:
        claims = []
        for entry in entries:
            given = match(entry, found)
            if isinstance(given, Match):
                # Names that are no templates are the service's to add, and may change.
                names = given.dns_names if _has_template(entry.dns_names) else ()
                claims.append(Claim(entry.id, given.spiffe_id, names))
        return tuple(claims)

    def _match(self, group: _Group) -> None:
        if self._entries is not None:
            group.claims, group.why = self._give(group.selectors)

    def _give(self, found: frozenset[Selector]) -> tuple[tuple[Claim, ...], str]:
        """Give what entries give a workload, in their order; or why nothing."""
        given = self._given.get(found)
        if given is None:
            claims = self._claims(self._index.candidates(found), found)
            why = "" if claims else why_none((self._entries or {}).values(), found)
            given = self._given[found] = claims, why
            if len(self._given) > _REMEMBERED:
                self._given.popitem(last=False)
        self._given.move_to_end(found)
        return given

    def _make_ahead(self) -> None:
        """Choose what is signed before anybody asks: what needs no workload to be written out."""
        self._made_ahead = {}
        for entry in (self._entries or {}).values():
            if len(self._made_ahead) >= self._ahead:
                break
            if not _is_template(entry):
                claims = self._claims((entry,), frozenset(entry.selectors))
                self._made_ahead.update((claim, entry.selectors) for claim in claims)

    def _replan(self) -> None:
        """Decide anew what is wanted; plan what is missing, drop what no entry gives."""
        if self._entries is None:
            return
        wanted = dict(self._made_ahead)
        for group in self._groups.values():
            selectors = tuple(sorted(group.selectors))
            for claim in group.claims:
                wanted[claim] = selectors
        self._wanted = wanted
        for claim in tuple(self._svids):
            entry = self.entry(claim)
            if entry is None or not _gives(entry, claim):
                del self._svids[claim]
                self._plan.drop(claim)
        for claim in wanted:
            svid = self._svids.get(claim)
            is_current = svid is not None and svid.version == self._entries[claim.entry_id].version
            if not (is_current or claim in self._under_way or self._failures[claim]):
                self._plan.put(claim, self._now_ns())
                self.work.set()
        for noted in (self._refusals, self._failures):
            for claim in noted.keys() - wanted.keys():
                del noted[claim]

    def _plan_renewal(self, svid: Svid) -> None:
        at_ns = renewal_ns(svid.arrived_ns, svid.not_after_ns, self._draw())
        self._plan.put(svid.claim, at_ns)

    def _forget_expired(self) -> None:
        now_ns = self._now_ns()
        for claim, svid in tuple(self._svids.items()):
            if svid.not_after_ns <= now_ns:
                del self._svids[claim]
                self._refresh_those_with(claim)

    def _has_expired(self, view: WorkloadSvids) -> bool:
        now_ns = self._now_ns()
        return any(svid.not_after_ns <= now_ns for svid in view.svids)

    def _refresh_those_with(self, claim: Claim) -> None:
        for group in self._groups.values():
            if claim in group.claims:
                self._refresh(group)

    def _refresh(self, group: _Group) -> None:
        """Make a group's view of what there is now; leave it where nothing changed."""
        view, old = self._view(group), group.view
        if view is not None and old is not None:
            same = view.bundles is old.bundles and view.why == old.why
            if same and tuple(map(_essence, view.svids)) == tuple(map(_essence, old.svids)):
                return
        if view is not None or old is not None:
            group.show(view)

    def _view(self, group: _Group) -> WorkloadSvids | None:
        """Build a view; None where it isn't whole yet."""
        if self._entries is None or not self._bundles:
            return None
        if not group.claims:
            return WorkloadSvids((), self._bundles, group.why)
        svids, hints = [], {""}
        for claim in group.claims:
            hint = self._entries[claim.entry_id].hint
            # A hint stays with its first entry, though that may have no certificate now.
            own_hint = "" if hint in hints else hint
            hints.add(hint)
            svid = self._svids.get(claim)
            if svid is None:
                # The first view is awaited until it is whole, so that the default identity is the
                # same for all; one that can't be had must not keep the others away.
                if group.view is None and claim not in self._refusals:
                    return None
                continue
            svids.append(
                Svid(
                    claim, svid.chain, svid.key, svid.arrived_ns, svid.not_after_ns, svid.version,
                    own_hint,
                )
            )  # fmt: skip
        return WorkloadSvids(tuple(svids), self._bundles) if svids else None

    def _tick(self) -> None:
        self.altered.set()
        self._changed.set()
        self._changed = asyncio.Event()
        self.work.set()


class _Index:
    """Finds the few entries that may match among many, each by the rarest of its selectors."""

    def __init__(self, entries: Iterable[WorkloadEntry]) -> None:
        listed = tuple(entries)
        counts = Counter(each for entry in listed for each in entry.selectors)
        self._by: dict[Selector | None, list[WorkloadEntry]] = {}
        for entry in listed:
            rarest = min(entry.selectors, key=counts.__getitem__, default=None)
            self._by.setdefault(rarest, []).append(entry)

    def candidates(self, found: Iterable[Selector]) -> list[WorkloadEntry]:
        """Give every entry that matches, and some that don't, by id."""
        some = [entry for each in (None, *found) for entry in self._by.get(each, ())]
        return sorted(some, key=lambda entry: entry.id)


def _has_template(texts: Iterable[str]) -> bool:
    return any("{{" in text for text in texts)


def _is_template(entry: WorkloadEntry) -> bool:
    return _has_template((entry.spiffe_id, *entry.dns_names))


def _gives(entry: WorkloadEntry, claim: Claim) -> bool:
    """Whether an entry could give an identity: a template may, others only what they say."""
    return _has_template((entry.spiffe_id,)) or entry.spiffe_id == str(claim.spiffe_id)


def _essence(svid: Svid) -> tuple[object, ...]:
    return svid.claim, svid.chain, svid.hint
