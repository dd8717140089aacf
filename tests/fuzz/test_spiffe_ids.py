"""SPIFFE IDs of any text: one grammar, one spelling, and never anything but our own error.

The grammar is written down here a second time, letter by letter and without a regular expression,
so that a slip in one of the two shows.
"""

import string
from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from ca.entries import is_reserved
from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse

_DOMAIN = set(string.ascii_lowercase + string.digits + ".-_")
_PATH = set(string.ascii_letters + string.digits + ".-_")

_PIECES = st.one_of(
    st.sampled_from(
        [
            "spiffe://", "spiffe:/", "SPIFFE://", "Spiffe://", "http://", "//", "/", ".", "..",
            "td.example", "TD.example", "td.example:443", "user@td", "[::1]", "%2e", "%2F", "%00",
            "?a=b", "#f", ";x", "\\", "\n", "\r", "\t", "\0", " ", "\u2024", "\uff0e", "\u0430",
            "\u202e", "\ud800", "\U0001f600", "meshwarden", "agent", "ns", "sa", "~", "*", "{{x}}",
            "...", "+", "ß", "a" * 255, "a" * 256, "a" * 2040,
        ]
    ),
    st.text(max_size=8),
)  # fmt: skip
_TEXTS = st.one_of(
    st.lists(_PIECES, max_size=8).map("".join),
    st.lists(_PIECES, max_size=6).map(lambda parts: "spiffe://td.example/" + "".join(parts)),
    st.lists(_PIECES, max_size=6).map(lambda parts: "spiffe://" + "".join(parts)),
    st.text(max_size=60),
)


def is_valid(text: str) -> bool:
    """Judge a text by the SPIFFE-ID standard, sections 2.1 to 2.4; the scheme in lower case."""
    scheme = "spiffe://"
    if len(text.encode("utf-8", "surrogatepass")) > 2048 or text[: len(scheme)] != scheme:
        return False
    domain, *segments = text[len(scheme) :].split("/")
    if not 1 <= len(domain) <= 255 or not all(letter in _DOMAIN for letter in domain):
        return False
    return all(
        segment not in {"", ".", ".."} and all(letter in _PATH for letter in segment)
        for segment in segments
    )


def outcome(text: str) -> SpiffeId | None:
    """Parse; None for our own error, which is one short line."""
    try:
        return parse(text)
    except InvalidSpiffeIdError as error:
        told = str(error)
    assert told.isprintable()
    assert len(told) < 200
    return None


@given(_TEXTS)
@example("spiffe://td.example")
@example("spiffe://td.example/")
@example("spiffe://td.example//a")
@example("spiffe://td.example/a/./b")
@example("spiffe://td.example/a/../b")
@example("spiffe://td.example/a\n")
@example("spiffe://td.example/%61")
@example("spiffe://td.example:80/a")
@example("spiffe://td.example/" + "a" * (2048 - 20))
@example("spiffe://td.example/" + "a" * (2049 - 20))
@example("spiffe://" + "a" * 255 + "/x")
@example("spiffe://" + "a" * 256 + "/x")
def test_any_text_is_an_id_by_the_standard_or_refused(text: str) -> None:
    """What is taken is written back as it came: no second spelling of anything exists."""
    found = outcome(text)
    assert (found is not None) == is_valid(text)
    if found is not None:
        assert str(found) == text
        assert parse(str(found)) == found
        assert "spiffe://" + found.principal == text


_CHANGES: tuple[Callable[[str], str], ...] = (
    str.upper,
    str.swapcase,
    lambda text: text + "/",
    lambda text: text + "\n",
    lambda text: text + "\0",
    lambda text: " " + text,
    lambda text: text.replace("/a", "//a", 1),
    lambda text: text.replace("/a", "/./a", 1),
    lambda text: text.replace("/a", "/x/../a", 1),
    lambda text: text.replace("a", "%61", 1),
    lambda text: text.replace("a", "\u0430", 1),
    lambda text: text.replace("td.example", "td.example.", 1),
    lambda text: text.replace("td.example", "td.example:443", 1),
    lambda text: text.replace("td.example", "u@td.example", 1),
)


@given(
    st.lists(st.text(sorted(_PATH), min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from(_CHANGES),
)
def test_no_other_spelling_is_the_same_id(
    segments: list[str], change: Callable[[str], str]
) -> None:
    """Whoever writes it otherwise is refused, or somebody else: a deny rule by name holds."""
    text = "/".join(["spiffe://td.example/a", *segments])
    found, other = outcome(text), outcome(change(text))
    if found is not None and change(text) != text:
        assert other != found


@given(_TEXTS)
def test_only_what_stands_below_meshwarden_is_reserved(text: str) -> None:
    """By whole segments: a workload's name may begin alike."""
    found = outcome(text)
    if found is not None:
        assert is_reserved(found) == (found.path.split("/")[1:2] == ["meshwarden"])
