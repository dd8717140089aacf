"""Refusals on the audit trail: a caller's first at once, the rest as numbers, never without end."""

import asyncio
from collections.abc import Awaitable

import pytest

from authz.audit import AuditEntry
from authz.revisions import StoreUnavailableError
from meshwarden.control.refusals import Refusals

HOUR_NS = 3_600_000_000_000


class Trail:
    """Keeps entries, or fails."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.is_down = False
        self.now_ns = 10 * HOUR_NS

    async def record(self, entry: AuditEntry) -> None:
        """Keep one."""
        if self.is_down:
            raise StoreUnavailableError("down")
        self.entries.append(entry)

    @property
    def told(self) -> list[tuple[str, str, str, str]]:
        """Who, from where, what and why."""
        return [(each.who, each.source, each.action, each.detail) for each in self.entries]


@pytest.fixture
def trail() -> Trail:
    """An empty one."""
    return Trail()


@pytest.fixture
def refusals(trail: Trail) -> Refusals:
    """Refusals that go onto the trail."""
    return Refusals(trail.record, lambda: trail.now_ns)


def run(*steps: Awaitable[None]) -> None:
    """Do one after the other."""

    async def story() -> None:
        for step in steps:
            await step

    asyncio.run(story())


def test_a_refusal_that_quotes_its_caller_is_kept_by_every_database(
    trail: Trail, refusals: Refusals
) -> None:
    """PostgreSQL takes no NUL, nobody half a surrogate pair: neither hides who was refused."""
    run(refusals.note("td/\0", "10.0.0.1", "agent.attest", "no \ud800\nno \0"))
    assert trail.told == [("td/\\x00", "10.0.0.1", "agent.attest", "no \\ud800\nno \\x00")]


def test_the_first_refusal_is_on_record_when_it_is_answered(
    trail: Trail, refusals: Refusals
) -> None:
    """With who, from where, what and why."""
    run(refusals.note("token:ci", "10.0.0.1", "policy.apply", "needs author"))
    assert trail.told == [("token:ci", "10.0.0.1", "policy.apply", "needs author")]
    assert trail.entries[0].outcome == "refused"
    assert trail.entries[0].time_ns == trail.now_ns


def test_those_like_it_are_one_number(trail: Trail, refusals: Refusals) -> None:
    """Whoever else is refused meanwhile has an entry of his own."""
    note = refusals.note
    run(
        *(note("a", "10.0.0.1", "policy.apply", "no") for _ in range(500)),
        note("a", "10.0.0.2", "policy.apply", "no"),
        note("a", "10.0.0.1", "policy.rollback", "no"),
        note("b", "10.0.0.1", "policy.apply", "no"),
    )
    assert len(trail.entries) == 4
    run(refusals.flush())
    assert trail.told[4:] == [("a", "10.0.0.1", "policy.apply", "499 more like the one before")]


def test_after_a_minute_it_begins_anew(trail: Trail, refusals: Refusals) -> None:
    """So that who is refused today is told today."""
    run(refusals.note("a", "x", "y", "no"), refusals.flush(), refusals.note("a", "x", "y", "no"))
    assert [each.detail for each in trail.entries] == ["no", "no"]


def test_many_callers_are_counted_together(trail: Trail, refusals: Refusals) -> None:
    """A thousand addresses make a hundred entries, and the number of the rest."""
    run(*(refusals.note("", f"10.0.{i}", "x", "no") for i in range(1000)), refusals.flush())
    assert len(trail.entries) == 101
    assert trail.told[-1] == ("", "several", "several", "900 more")


def test_an_hour_of_attacks_has_an_end(trail: Trail, refusals: Refusals) -> None:
    """New addresses every minute: some hundred entries, and one a minute; then a new hour."""

    async def story() -> None:
        for minute in range(59):
            for number in range(1000):
                await refusals.note("", f"{minute}.{number}", "x", "no")
            await refusals.flush()
            trail.now_ns += 60_000_000_000

    asyncio.run(story())
    assert 600 <= len(trail.entries) <= 660
    in_all = (
        len(trail.entries)
        - 59
        + sum(int(each.detail.split()[0]) for each in trail.entries if each.source == "several")
    )
    assert in_all in range(59_000, 59_060)
    before = len(trail.entries)
    trail.now_ns += HOUR_NS
    run(refusals.note("", "203.0.113.9", "x", "no"))
    assert len(trail.entries) == before + 1


def test_what_a_caller_chose_is_cut(trail: Trail, refusals: Refusals) -> None:
    """A name of a megabyte is no way to fill the trail either."""
    run(refusals.note("a" * 10**6, "x", "y" * 10**6, "z" * 10**6))
    assert sum(len(text) for text in trail.told[0]) <= 1600


def test_a_trail_that_is_down_refuses_nobody_less(
    trail: Trail, refusals: Refusals, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal stands; the log has it."""
    trail.is_down = True
    run(refusals.note("a", "10.0.0.1", "policy.apply", "no"), refusals.flush())
    assert "refused policy.apply to 'a' from 10.0.0.1" in caplog.text
