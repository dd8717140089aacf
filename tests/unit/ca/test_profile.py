"""Times and serials of certificates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.errors import NoAuthorityError, OrderError
from ca.profile import BACKDATE_S, Validity, check_names, serial_from, validity

SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
YEAR_S = 366 * 86_400


def test_a_certificate_begins_before_now() -> None:
    """A peer whose clock is a little behind takes it at once (promise 15)."""
    times = validity(NOW, 3600, ())
    assert times == Validity(NOW - BACKDATE_S * SECOND, NOW + 3600 * SECOND)


def test_a_certificate_never_outlives_its_issuer() -> None:
    """Of several, the first to end counts."""
    issuers = [Validity(0, NOW + 100 * SECOND), Validity(0, NOW + 50 * SECOND)]
    assert validity(NOW, 3600, issuers).not_after_ns == NOW + 50 * SECOND


def test_a_certificate_does_not_begin_before_its_issuer() -> None:
    """Not by back-dating either."""
    issuers = [Validity(NOW - 5 * SECOND, NOW + 9999 * SECOND)]
    assert validity(NOW, 60, issuers).not_before_ns == NOW - 5 * SECOND


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        (Validity(0, NOW), "expired"),
        (Validity(0, NOW - SECOND), "expired"),
        (Validity(NOW + SECOND, NOW + 9 * SECOND), "not valid yet"),
    ],
)
def test_an_issuer_that_does_not_hold_signs_nothing(issuer: Validity, words: str) -> None:
    """The message says which way it is wrong."""
    with pytest.raises(NoAuthorityError, match=words):
        validity(NOW, 3600, [issuer])


@given(
    now_ns=st.integers(NOW, NOW + 1000 * SECOND),
    ttl_s=st.integers(1, YEAR_S),
    issuers=st.lists(
        st.tuples(st.integers(NOW - YEAR_S * SECOND, NOW), st.integers(NOW, NOW * 2)), max_size=3
    ),
)
def test_whatever_the_issuers_the_times_lie_within_theirs(
    now_ns: int, ttl_s: int, issuers: list[tuple[int, int]]
) -> None:
    """Whole seconds, now included, or no certificate at all."""
    try:
        times = validity(now_ns, ttl_s, [Validity(*each) for each in issuers])
    except NoAuthorityError:
        assert any(end // SECOND <= now_ns // SECOND for _, end in issuers) or any(
            begin > now_ns // SECOND * SECOND for begin, _ in issuers
        )
        return
    assert times.not_before_ns % SECOND == times.not_after_ns % SECOND == 0
    assert times.not_before_ns <= now_ns < times.not_after_ns
    assert times.not_after_ns <= now_ns + ttl_s * SECOND
    for begin, end in issuers:
        assert begin <= times.not_before_ns
        assert times.not_after_ns <= end


def test_a_serial_is_the_randomness_and_nothing_else() -> None:
    """128 bits; the standard's 20 bytes are more than enough."""
    assert serial_from(b"\xff" * 16) == (1 << 128) - 1
    assert serial_from(bytes(15) + b"\x01") == 1
    for wrong in (b"\x01" * 15, b"\x01" * 17, bytes(16)):
        with pytest.raises(ValueError, match="random"):
            serial_from(wrong)


def test_names_are_given_in_one_spelling_and_once() -> None:
    """An address in its shortest form."""
    names = ("web.shop.example", "*.shop.example", "2001:DB8:0::1", "2001:db8::1", "10.0.0.1")
    assert check_names(names) == ("web.shop.example", "*.shop.example", "2001:db8::1", "10.0.0.1")


@pytest.mark.parametrize(
    "name",
    [
        "fe80::1%eth0",  # A zone means something on one machine only, and has no place in DER.
        "010.0.0.1", "256.1.1.1", "1.2.3", "1", "*.10.0.0.1",  # Read as an address by many.
        "Web.example", "web.example.", "web..example", "web.example\n", "-web", "",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_is_signed(name: str) -> None:
    """Else each certificate with it would be withheld, or mean something else elsewhere."""
    with pytest.raises(OrderError, match="no DNS name"):
        check_names([name])
