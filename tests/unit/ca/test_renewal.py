"""Renewals spread out, and each happens once."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.renewal import Renewals, renewal_ns, resumed_ns, retry_pause_s

SECOND = 1_000_000_000
LEAVES = 10_000
MOST_IN_A_SECOND = LEAVES * 2 // 100


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), life_s=st.sampled_from([300, 600, 3600, 86_400]))
def test_a_herd_is_spread_in_every_generation(seed: int, life_s: int) -> None:
    """Of 10,000 leaves of one second, no later second renews more than 2 %."""
    draws = random.Random(seed)
    issued = [int(draws.random() * SECOND) for _ in range(LEAVES)]
    for _ in range(3):
        issued = [renewal_ns(at, at + life_s * SECOND, draws.random()) for at in issued]
        assert max(Counter(at // SECOND for at in issued).values()) <= MOST_IN_A_SECOND


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), outage_s=st.integers(0, 1800))
def test_a_herd_that_waited_for_the_server_comes_back_spread(seed: int, outage_s: int) -> None:
    """After an outage, no second holds more than 2 % of the renewals either."""
    draws = random.Random(seed)
    back_ns = 2000 * SECOND + outage_s * SECOND
    done = []
    for _ in range(LEAVES):
        at, attempt = renewal_ns(0, 3600 * SECOND, draws.random()), 0
        while at < back_ns:
            at += int(retry_pause_s(attempt, 3600, draws.random()) * SECOND)
            attempt += 1
        done.append(at)
    assert max(Counter(at // SECOND for at in done).values()) <= MOST_IN_A_SECOND


@given(draw=st.floats(0, 1, exclude_max=True), life=st.integers(1, 10**18))
def test_a_renewal_comes_around_half_life(draw: float, life: int) -> None:
    """Never before three eighths of life, never after five."""
    at = renewal_ns(0, life, draw)
    assert life * 0.374 - 1 <= at <= life * 0.626 + 1


@given(
    planned=st.integers(0, 3600), now=st.integers(0, 3600), draw=st.floats(0, 1, exclude_max=True)
)
def test_a_plan_that_passed_unseen_is_made_anew_within_what_is_left(
    planned: int, now: int, draw: float
) -> None:
    """One that is still ahead is kept: who reconnects often must not draw until it comes early."""
    at = resumed_ns(planned * SECOND, 3600 * SECOND, now * SECOND, draw)
    left = (3600 - now) * SECOND
    if planned > now:
        assert at == planned * SECOND
    else:
        assert now * SECOND + left * 0.374 - 1 <= at <= now * SECOND + left * 0.626 + 1


def test_what_has_expired_already_is_renewed_at_once() -> None:
    """A life below zero is none."""
    assert renewal_ns(10 * SECOND, 3 * SECOND, 0.9) == 10 * SECOND


@pytest.mark.parametrize(("life_s", "longest_s"), [(3600, 120), (60, 2), (3, 0.25)])
def test_pauses_double_up_to_a_share_of_life(life_s: float, longest_s: float) -> None:
    """A short identity is tried again sooner; no number of failures stops the trying."""
    pauses = [retry_pause_s(attempt, life_s, 0.999) for attempt in (*range(12), 10_000)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(longest_s, rel=0.01)
    assert retry_pause_s(5, life_s, 0) == pytest.approx(retry_pause_s(5, life_s, 0.9999) / 2, 0.01)


def test_a_name_is_given_once_until_it_is_put_back() -> None:
    """Nobody else starts a renewal that is under way."""
    plan = Renewals[str]()
    plan.put("a", 5)
    assert plan.due(4, 10) == []
    assert plan.due(5, 10) == ["a"]
    assert plan.due(5, 10) == []
    plan.put("a", 9)
    assert plan.next_ns() == 9


def test_a_new_time_takes_the_place_of_the_old_one() -> None:
    """Planned twice is planned once."""
    plan = Renewals[str]()
    plan.put("a", 5)
    plan.put("a", 20)
    assert len(plan) == 1
    assert plan.due(10, 10) == []
    plan.put("a", 3)
    assert plan.due(10, 10) == ["a"]
    assert plan.next_ns() is None


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 50), st.booleans()), max_size=40)
)
def test_a_plan_holds_what_was_put_last(steps: list[tuple[str, int, bool]]) -> None:
    """Whatever came before, the last word on each name counts."""
    plan, expected = Renewals[str](), dict[str, int]()
    for name, at, kept in steps:
        if kept:
            plan.put(name, at)
            expected[name] = at
        else:
            plan.drop(name)
            expected.pop(name, None)
    assert len(plan) == len(expected)
    assert plan.next_ns() == min(expected.values(), default=None)
    in_time = sorted(at for at in expected.values() if at <= 25)
    assert [expected[name] for name in plan.due(25, 100)] == in_time
