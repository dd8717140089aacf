"""gRPC's frames, time-outs and statuses over an ASGI app."""

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwarden.front.grpc_http import (
    STATUS,
    FrameError,
    frame,
    message_of,
    send_error,
    send_message,
    timeout_ns,
)
from tests.fakes.asgi import Exchange

MAX = 1000


def code_of(body: bytes, encoding: bytes | None = None) -> str:
    """Read a body that must be refused; give the code."""
    with pytest.raises(FrameError) as caught:
        message_of(body, MAX, encoding)
    return caught.value.code


def compressed(message: bytes) -> bytes:
    """Frame a message with the flag of compression."""
    return b"\1" + len(message).to_bytes(4, "big") + message


@given(st.binary(max_size=300))
def test_a_framed_message_is_read_again(message: bytes) -> None:
    """Whatever it holds."""
    assert message_of(frame(message), MAX) == message
    assert message_of(compressed(gzip.compress(message)), MAX, b"gzip") == message


@given(st.binary(max_size=50), st.sampled_from([None, b"gzip", b"deflate", b""]))
def test_any_other_bytes_are_refused_by_our_own_error(body: bytes, encoding: bytes | None) -> None:
    """A message, or FrameError with a code that we answer; nothing else."""
    codes = ["OK"]
    try:
        message_of(body, MAX, encoding)
    except FrameError as error:
        codes.append(error.code)
    assert STATUS.keys() >= set(codes)


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0\0", b"\0\0\0\0\2x", b"\0\0\0\0\1xy", frame(b"a") * 2]
)
def test_a_unary_call_has_exactly_one_whole_frame(body: bytes) -> None:
    """Neither part of one nor two."""
    assert code_of(body) == "INVALID_ARGUMENT"


def test_what_inflates_past_the_bound_is_cut_off_there() -> None:
    """A kilobyte can hold a gigabyte of zeros."""
    bomb = gzip.compress(bytes(10_000_000))
    assert code_of(compressed(bomb), b"gzip") == "RESOURCE_EXHAUSTED"
    assert len(message_of(compressed(gzip.compress(bytes(MAX))), MAX, b"gzip")) == MAX
    assert code_of(compressed(gzip.compress(bytes(MAX + 1))), b"gzip") == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("encoding", [None, b"identity", b"deflate", b"snappy"])
def test_other_compression_is_said_to_be_unimplemented(encoding: bytes | None) -> None:
    """The client may then send it plain."""
    assert code_of(compressed(zlib.compress(b"a")), encoding) == "UNIMPLEMENTED"


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_gzip_stream_that_ends_early_is_refused(cut: int) -> None:
    """Half a message is no message."""
    assert code_of(compressed(gzip.compress(b"abc" * 50)[:-cut]), b"gzip") == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"3S", 3_000_000_000),
        (b"250m", 250_000_000),
        (b"4u", 4000),
        (b"99999999n", 99_999_999),
        (b"0n", 0),
        (b"100000000n", None),
        (b"-1S", None),
        (b"1.5S", None),
        (b"S", None),
        (b"", None),
        (b"1s", None),
        (b"1 S", None),
        ("\u0661S".encode(), None),  # a digit, but of another script
    ],
)
def test_a_timeout_is_digits_and_a_unit(header: bytes, expected: int | None) -> None:
    """Anything else is none, not an error: the caller's deadline is its own."""
    assert timeout_ns(header) == expected


def test_an_answer_is_a_message_and_a_status_of_zero() -> None:
    """The status in the trailers."""
    exchange = Exchange("/")
    asyncio.run(send_message(exchange.send, b"answer"))
    assert exchange.body == frame(b"answer")
    assert exchange.grpc_status == 0
    assert exchange.sent[-1]["type"] == "http.response.trailers"


def test_an_error_is_headers_alone_and_its_words_survive_them() -> None:
    """Percent-encoded where a header could not hold them."""
    exchange = Exchange("/")
    asyncio.run(send_error(exchange.send, "INTERNAL", "100% wrong:\nünïcode"))
    assert exchange.grpc_status == STATUS["INTERNAL"]
    assert exchange.body == b""
    assert exchange.headers[b"grpc-message"] == b"100%25 wrong:%0A%C3%BCn%C3%AFcode"
