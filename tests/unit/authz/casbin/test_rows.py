"""Promises of the policy list that finds by hash and tells what changed."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.casbin.rows import Rows

_ROW = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2)
_STEP = st.one_of(
    st.tuples(st.just("append"), _ROW),
    st.tuples(st.just("remove"), _ROW),
    st.tuples(st.just("insert"), st.integers(-6, 6), _ROW),
    st.tuples(st.just("delete"), st.integers(0, 5)),
    st.tuples(st.just("replace"), st.integers(0, 5), _ROW),
    st.tuples(st.sampled_from(["sort", "clear", "reverse", "follow", "look"])),
)


def _do(rows: list[Any], step: tuple[Any, ...]) -> None:  # noqa: C901 - one case a call
    match step:
        case ("append", row):
            rows.append(row)
        case ("remove", row):
            if row in rows:
                rows.remove(row)
        case ("insert", at, row):
            rows.insert(at, row)
        case ("delete", at):
            if at < len(rows):
                del rows[at]
        case ("replace", at, row):
            if at < len(rows):
                rows[at] = row
        case ("sort",):
            rows.sort()
        case ("clear",):
            rows.clear()
        case ("reverse",):
            rows.reverse()
        case _:
            pass


@settings(deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_it_is_a_list_whatever_is_done_to_it(steps: list[tuple[Any, ...]]) -> None:
    """Every call does what it does on a list, and finds what a scan finds."""
    rows, plain = Rows(), list[Any]()
    for step in steps:
        if step == ("follow",):
            rows.follow()
        _do(rows, step)
        _do(plain, step)
        assert rows == plain
        for row in (["a"], ["b", "c"], *plain):
            assert (row in rows) == (row in plain)
            assert rows.count(row) == plain.count(row)
            if row in plain:
                assert rows.index(row) == plain.index(row)
    assert rows.places == sorted(set(rows.places))
    assert len(rows.places) == len(rows)


@settings(deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_the_log_leads_from_the_old_rows_to_the_new(steps: list[tuple[Any, ...]]) -> None:
    """Who applies the changes in order has the rows, in order of their places."""
    rows = Rows([["a"], ["b"]])
    version = rows.follow()
    copied = dict(zip(rows.places, rows, strict=True))
    for step in steps:
        _do(rows, step)
        changes = rows.since(version)
        if changes is None:
            copied = dict(zip(rows.places, rows, strict=True))
            version = rows.follow()
            continue
        version = rows.version
        for place, row in changes:
            if row is None:
                del copied[place]
            else:
                copied[place] = row
        assert [copied[place] for place in sorted(copied)] == rows


def test_a_list_is_not_found_by_a_tuple_of_the_same_words() -> None:
    """As in pycasbin, where the two are not equal."""
    rows = Rows([["a", "b"]])
    assert ("a", "b") not in rows
    assert ["a", "b"] in rows


def test_what_cannot_be_hashed_is_still_found() -> None:
    """By a scan, as in a list."""
    rows = Rows([[{"a": 1}], ["b"]])
    assert [{"a": 1}] in rows
    assert rows.index(["b"]) == 1
    rows.remove([{"a": 1}])
    assert rows == [["b"]]


def test_a_row_changed_in_place_is_found_by_its_new_words() -> None:
    """The index is made again once it is seen to be wrong."""
    rows = Rows([["a"], ["b"]])
    assert ["a"] in rows
    rows[0][0] = "c"
    rows.pop(0)
    assert ["c"] not in rows
    assert ["b"] in rows


def test_removing_what_is_not_there_is_an_error_as_in_a_list() -> None:
    """ValueError, naming the row."""
    with pytest.raises(ValueError, match="not in the policy"):
        Rows([["a"]]).remove(["b"])


def _pickled(rows: Rows) -> Any:
    return pickle.loads(pickle.dumps(rows))  # noqa: S301 - made here


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_is_a_watched_list_of_its_own(copied: Any) -> None:
    """Copies share nothing that one of them may change."""
    rows = Rows([["a"], ["b"]])
    other = copied(rows)
    other.append(["c"])
    assert (type(other), rows, other) == (Rows, [["a"], ["b"]], [["a"], ["b"], ["c"]])


def test_inserting_in_one_place_again_and_again_runs_out_of_no_places() -> None:
    """Places are given anew when there is no room between two."""
    rows = Rows([["a"], ["z"]])
    for number in range(100):
        rows.insert(1, [str(number)])
        assert rows.places == sorted(set(rows.places))


def test_a_list_without_some_rows_takes_the_old_ones_place() -> None:
    """What was followed goes on: only what is gone is told."""
    old = Rows([["a"], ["b"], ["c"], ["d"]])
    version = old.follow()
    places = dict(zip(["a", "b", "c", "d"], old.places, strict=True))
    old.append(["e"])
    lineage = old.lineage
    new = old.successor([old[0], old[2], old[3], old[4]])
    assert new.lineage is lineage
    assert old.lineage is not lineage
    assert new.since(version) == [(new.places[-1], ["e"]), (places["b"], None)]
    assert (["b"] in new, ["c"] in new, ["b"] in old) == (False, True, True)
    old.clear()
    assert ["c"] in new


@pytest.mark.parametrize("rows", [[], [["a"], ["b"], ["c"]], [["c"], ["b"], ["a"]]])
def test_another_list_is_a_new_beginning(rows: list[list[str]]) -> None:
    """Also if its rows have the same words."""
    old = Rows([["a"], ["b"], ["c"]])
    old.follow()
    new = old.successor(rows)
    assert new.lineage is not old.lineage
    assert new.since(0) is None
