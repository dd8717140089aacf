"""How results are compared, shown and read."""

import json

import pytest

from benchmarks.harness import Options, Result, Scenario, interleaved, parse_bytes

RATE = Scenario("check/10", "checks/s", "higher", bar=3.5)
TIME = Scenario("check/cpu", "us", "lower")


def test_a_higher_rate_than_the_baseline_is_a_ratio_above_one() -> None:
    """Ten thousand against two thousand is five times better."""
    assert RATE.compare([10_000], [2_000]).ratio == 5


def test_a_shorter_time_than_the_baseline_is_a_ratio_above_one_too() -> None:
    """Whichever way the unit counts, above 1 is better."""
    assert TIME.compare([50], [250]).ratio == 5


def test_one_disturbed_round_changes_nothing() -> None:
    """Medians are compared, each side's own."""
    result = RATE.compare([10_000, 1, 10_000], [2_000, 2_000, 9_999_999])
    assert (result.value, result.baseline) == (10_000, 2_000)


def test_a_line_of_json_has_exactly_the_five_fields() -> None:
    """Other programs compare them over time."""
    assert json.loads(RATE.compare([10_000], [3_000]).as_json) == {
        "scenario": "check/10",
        "value": 10_000.0,
        "unit": "checks/s",
        "baseline": 3_000.0,
        "ratio": 3.333,
    }


@pytest.mark.parametrize(("ratio", "word"), [(4.0, "ok"), (3.99, "BELOW")])
def test_a_row_says_whether_the_bar_is_met(ratio: float, word: str) -> None:
    """A ratio that equals the bar meets it."""
    assert word in Result("check/constant", ratio, "checks/s", 1, ratio, bar=4).as_row


def test_a_row_without_a_bar_judges_nothing() -> None:
    """What is not promised is only printed."""
    row = Result("check/cpu", 50, "us", 250, 5).as_row
    assert "bar" not in row
    assert row.split() == ["check/cpu", "50", "us", "250", "5.00"]


def test_both_sides_are_measured_in_turns() -> None:
    """What slows the machine for a while slows both."""
    order: list[str] = []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    assert interleaved(2, lambda: turn("a"), lambda: turn("b")) == ([1, 3], [2, 4])
    assert order == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ((), True),
        (("check/10",), True),
        (("check/1",), False),
        (("check/",), True),
        (("memory/", "check/10"), True),
        (("memory/",), False),
    ],
)
def test_only_what_is_asked_for_is_run(only: tuple[str, ...], *, wanted: bool) -> None:
    """A name is a whole name, or with a final slash the beginning of many."""
    assert Options(only=only).wants("check/10") is wanted


def test_memory_is_read_from_the_sum_over_all_mappings() -> None:
    """Not from Pss_Dirty and its like, which stand below it."""
    rollup = (
        "55d0c8a00000-7ffd0b5fe000 ---p 00000000 00:00 0    [rollup]\n"
        "Rss:  130000 kB\nPss:   81920 kB\nPss_Dirty:   60000 kB\n"
    )
    assert parse_bytes(rollup, "Pss") == 80 * 1024 * 1024


def test_a_process_without_that_sum_is_an_error() -> None:
    """No figure is better than a wrong one."""
    with pytest.raises(ValueError, match="Pss"):
        parse_bytes("Rss: 1 kB\n", "Pss")
