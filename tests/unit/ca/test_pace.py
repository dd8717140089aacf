"""How fast callers may ask, by the numbers alone."""

from ca.pace import Pace

SECOND = 1_000_000_000
NOW = 50 * SECOND


def test_a_burst_is_there_at_once_and_then_one_at_its_time() -> None:
    """Waiting exactly as told is enough, and less is not."""
    pace = Pace(2.0, burst=10)
    assert pace.take("a", 10, NOW) == 0
    wait_ns = pace.take("a", 1, NOW)
    assert wait_ns == SECOND // 2
    assert pace.take("a", 1, NOW + wait_ns - 1) == 1
    assert pace.take("a", 1, NOW + wait_ns) == 0


def test_each_caller_has_a_bucket_of_his_own() -> None:
    """Whoever is busy slows down nobody else."""
    pace = Pace(1.0, burst=1)
    assert pace.take("a", 1, NOW) == 0
    assert pace.take("a", 1, NOW) > 0
    assert pace.take("b", 1, NOW) == 0


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    """At most an empty bucket is left to wait for."""
    pace = Pace(1.0, burst=5)
    pace.take("a", 5, NOW + 3600 * SECOND)
    assert pace.take("a", 1, NOW) == SECOND
    assert pace.take("a", 1, NOW + SECOND) == 0


def test_many_callers_take_a_bounded_room() -> None:
    """The one unused longest is forgotten."""
    pace = Pace(1.0, burst=1, max_callers=10)
    for number in range(1000):
        pace.take(str(number), 1, NOW)
    assert len(pace._full_ns) == 10
    assert pace.take("999", 1, NOW) > 0
