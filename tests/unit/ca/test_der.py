"""DER after DER, and the text of a join token: accepted, or our error, and nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.der import InvalidDerError, split_der
from ca.join_token import InvalidTokenError, TokenText, authorities_sha256, parse_token


def value(length: int) -> bytes:
    """A SEQUENCE of so many bytes."""
    if length < 128:
        return bytes([0x30, length]) + b"x" * length
    size = length.to_bytes(3, "big")
    return bytes([0x30, 0x83]) + size + b"x" * length


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8))
def test_values_come_apart_where_they_were_put_together(lengths: list[int]) -> None:
    """Whatever their lengths."""
    parts = [*map(value, lengths)]
    assert split_der(b"".join(parts), 8) == parts


@given(st.binary(max_size=60))
def test_any_bytes_come_apart_whole_or_are_refused(data: bytes) -> None:
    """Nothing is lost on the way."""
    with contextlib.suppress(InvalidDerError):
        assert b"".join(split_der(data, 4)) == data


def test_more_values_than_asked_for_are_refused() -> None:
    """A chain has few."""
    with pytest.raises(InvalidDerError, match="more than 8"):
        split_der(value(5) * 9, 8)


def test_a_token_is_read_as_it_was_written() -> None:
    """With the authorities and without."""
    authorities = authorities_sha256([b"b", b"a"])
    assert authorities == authorities_sha256([b"a", b"b"])
    for token in (TokenText(b"s" * 32), TokenText(b"s" * 32, authorities)):
        assert parse_token(token.reveal()) == token
    assert "s" * 8 not in repr(TokenText(b"s" * 32))


@given(st.text(max_size=120) | st.text(max_size=60).map("mwj1.{}".format))
def test_any_text_is_a_token_or_is_told_why_not_without_being_repeated(text: str) -> None:
    """The message may go to a log."""
    told = ""
    try:
        assert len(parse_token(text).secret) == 32
    except InvalidTokenError as error:
        told = str(error)
    assert len(text) < 12 or text not in told
