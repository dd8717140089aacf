"""The ledger's chain: whatever is done to its rows afterwards is found."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.ledger import Entry, Event, Head, LedgerRow, Report, Verifier, chain

KEY = Ed25519PrivateKey.generate()
Rows = list[LedgerRow]


def entry(number: int = 0) -> Entry:
    """An intent like any other."""
    return Entry(
        Event.INTENDED, "x509", f"spiffe://mesh.example/w{number}", f"{number:032x}", 9, "a" * 64,
        "spiffe://mesh.example/agent", ("unix:uid:1",), "",
    )  # fmt: skip


def written(*sizes: int) -> Rows:
    """A ledger of writes of these sizes."""
    rows: Rows = []
    for size in sizes:
        head = Head(rows[-1].number, rows[-1].hash) if rows else Head()
        rows += chain(head, [entry(len(rows) + index) for index in range(size)], 5, KEY)
    return rows


def read(rows: Sequence[LedgerRow], known: Sequence[Head] = ()) -> Report:
    """Verify a ledger."""
    verifier = Verifier([KEY.public_key()], known)
    verifier.take(rows)
    return verifier.report()


def test_a_ledger_that_nobody_touched_holds() -> None:
    """However it was written, in one group or in many."""
    for sizes in ((), (1,), (5,), (1, 1, 1), (3, 1, 2)):
        rows = written(*sizes)
        report = read(rows)
        assert not report.fault
        assert report.head.number == len(rows)


def changed(rows: Rows, index: int, **changes: object) -> Rows:
    """Change a row's content and leave its hash."""
    row = rows[index]
    return [
        *rows[:index], replace(row, entry=replace(row.entry, **changes)), *rows[index + 1 :],
    ]  # type: ignore[arg-type] # fmt: skip


def rewritten(rows: Rows) -> Rows:
    """Change the second row and make every hash after it anew, without the key."""
    head = Head(rows[0].number, rows[0].hash)
    entries = [replace(rows[1].entry, spiffe_id="spiffe://mesh.example/evil")]
    entries += [row.entry for row in rows[2:]]
    forged = chain(head, entries, 5, Ed25519PrivateKey.generate())
    return [rows[0], *forged]


TAMPERED: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "an ID": (lambda r: changed(r, 2, spiffe_id="spiffe://mesh.example/evil"), "row 3 is not"),
    "a serial": (lambda r: changed(r, 2, serial="f" * 32), "row 3 is not"),
    "an end": (lambda r: changed(r, 2, not_after_ns=10), "row 3 is not"),
    "who asked": (lambda r: changed(r, 2, requester="nobody"), "row 3 is not"),
    "selectors": (lambda r: changed(r, 2, selectors=()), "row 3 is not"),
    "an outcome": (lambda r: changed(r, 2, event=Event.WITHHELD), "row 3 is not"),
    "a time": (lambda r: [*r[:2], replace(r[2], time_ns=6), *r[3:]], "row 3 is not"),
    "the last row": (lambda r: changed(r, 5, spiffe_id="x"), "row 6 is not"),
    "a missing row": (lambda r: [*r[:2], *r[3:]], "row 3 is missing"),
    "a missing first row": (lambda r: r[1:], "row 1 is missing"),
    "two that changed places": (lambda r: [*r[:1], r[2], r[1], *r[3:]], "row 2 is missing"),
    "two that changed numbers too": (
        lambda r: [r[0], replace(r[2], number=2), replace(r[1], number=3), *r[3:]], "row 2 is not",
    ),
    "one row twice": (lambda r: [*r[:3], r[2], *r[3:]], "row 4 is missing"),
    "a row put in": (lambda r: [*r[:2], *chain(Head(2, r[1].hash), [entry(9)], 5, KEY), *r[2:]],
                     "row 4 is missing"),
    "a tail cut off within a write": (lambda r: r[:5], "no write ended there"),
    "all of it made anew": (rewritten, "somebody else than control"),
    "a signature moved": (
        lambda r: [*r[:5], replace(r[5], signature=r[2].signature)], "no write ended there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_done_to_a_row_is_found_at_that_row(case: str) -> None:
    """Changed, missing, moved, put in, cut off or all made anew."""
    tamper, words = TAMPERED[case]
    report = read(tamper(written(3, 3)))
    assert words in report.fault


OTHERWISE = {
    "event": Event.REFUSED, "kind": "jwt", "spiffe_id": "spiffe://mesh.example/evil",
    "serial": "f" * 32, "not_after_ns": 10, "authority_id": "b" * 64, "requester": "nobody",
    "selectors": ("unix:uid:2",), "detail": "x", "first": 1, "last": 1,
}  # fmt: skip


@pytest.mark.parametrize("field", [each.name for each in fields(Entry)])
def test_no_field_of_a_row_can_be_another(field: str) -> None:
    """One alone, in any row."""
    rows = written(1, 2, 1)
    for index in range(len(rows)):
        fault = read(changed(rows, index, **{field: OTHERWISE[field]})).fault
        assert f"row {index + 1} is not" in fault


def test_a_tail_cut_off_where_a_write_ended_shows_by_a_head_from_elsewhere() -> None:
    """By itself it looks like the ledger of an earlier time: that is what heads are kept for."""
    rows = written(3, 3)
    assert not read(rows[:3]).fault
    known = [Head(6, rows[5].hash)]
    assert "its end was cut off" in read(rows[:3], known).fault
    assert "its end was cut off" in read([], known).fault
    assert not read(rows, known).fault


def test_another_ledger_of_the_same_length_shows_by_a_head_from_elsewhere() -> None:
    """Even one that the right key has signed, such as a restored backup that went on."""
    rows, known = written(3, 3), [Head(6, b"x" * 32)]
    assert "written anew" in read(rows, known).fault


def test_nothing_follows_a_fault() -> None:
    """A reader needs no more rows then, and the first fault is the one that is told."""
    rows = written(9)
    verifier = Verifier([KEY.public_key()])
    assert verifier.take(rows[:2])
    assert not verifier.take(rows[3:])
    assert not verifier.take(rows[2:])
    assert "row 3 is missing" in verifier.report().fault


entries = st.builds(
    Entry,
    event=st.sampled_from(Event),
    kind=st.sampled_from(["x509", "jwt", ""]),
    spiffe_id=st.text(max_size=20),
    serial=st.text("0123456789abcdef", max_size=32),
    not_after_ns=st.integers(0, 2**62),
    authority_id=st.text(max_size=5),
    requester=st.text(max_size=20),
    selectors=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    detail=st.text(max_size=20),
    first=st.integers(0, 2**40),
    last=st.integers(0, 2**40),
)


@settings(deadline=None)
@given(groups=st.lists(st.lists(entries, min_size=1, max_size=4), min_size=1, max_size=4),
       pick=st.integers(0, 99), other=entries)  # fmt: skip
def test_any_ledger_holds_and_any_other_row_in_it_is_found(
    groups: list[list[Entry]], pick: int, other: Entry
) -> None:
    """Whatever the text in it: no two contents share a hash by the way they are written down."""
    rows: Rows = []
    for group in groups:
        rows += chain(Head(rows[-1].number, rows[-1].hash) if rows else Head(), group, 7, KEY)
    assert not read(rows).fault
    index = pick % len(rows)
    if rows[index].entry != other:
        assert read([*rows[:index], replace(rows[index], entry=other), *rows[index + 1 :]]).fault


@settings(deadline=None)
@given(cut=st.integers(0, 11), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_row_taken_out_anywhere_is_found(cut: int, sizes: list[int]) -> None:
    """But for the last write as a whole, which a head from elsewhere shows."""
    rows = written(*sizes)
    index = cut % len(rows)
    known = [Head(len(rows), rows[-1].hash)]
    assert read([*rows[:index], *rows[index + 1 :]], known).fault
