"""Durations, as people write them."""

import pytest
import typer

from meshwarden.cli.durations import duration_s, lifetime_s, ttl_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_a_number_and_its_unit(text: str, seconds: int) -> None:
    """All who take a duration take the same."""
    assert duration_s(text) == lifetime_s(text) == ttl_s(text) == seconds


def test_where_files_have_seconds_a_command_takes_them_too() -> None:
    """An entry's time to live is 1800 in YAML; 0 is the default there."""
    assert ttl_s("1800") == ttl_s("30m")
    assert ttl_s("0") == 0


@pytest.mark.parametrize("text", ["", "30", "m", "1w", "1.5h", "-1m", "30 m", "1h30m"])
def test_what_is_none_is_refused(text: str) -> None:
    """With what to write."""
    with pytest.raises(typer.BadParameter, match="such as 30m"):
        duration_s(text)


@pytest.mark.parametrize("text", ["999999d", "24856d", "2147483648"])
def test_more_than_a_message_holds_is_refused_here(text: str) -> None:
    """It would fail in the middle of the call, with words of the library's."""
    with pytest.raises(typer.BadParameter, match="24855d is the most"):
        ttl_s(text)
    assert ttl_s("24855d")
