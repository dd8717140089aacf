"""SPIFFE IDs: what is one, what is none, and what is read from it."""

import pytest

from ca.spiffe_id import InvalidSpiffeIdError, SpiffeId, parse

LONGEST_TRUST_DOMAIN = "t" * 255
LONGEST_ID = "spiffe://td/" + "p" * (2048 - len("spiffe://td/"))


def test_principal_is_istios_form_without_the_scheme() -> None:
    """Policies name callers as Istio's do."""
    parsed = parse("spiffe://mesh.example/ns/shop/sa/web")
    assert parsed == SpiffeId("mesh.example", "/ns/shop/sa/web")
    assert parsed.principal == "mesh.example/ns/shop/sa/web"
    assert (parsed.namespace, parsed.service_account) == ("shop", "web")


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://td",
        "spiffe://td/a",
        "spiffe://td_1.example-2/A.b_c-d/0",
        "spiffe://1.2.3.4/x",
        "spiffe://td/...",
        "spiffe://td/.hidden",
        f"spiffe://{LONGEST_TRUST_DOMAIN}",
        LONGEST_ID,
    ],
)
def test_a_valid_id_is_read_and_written_back_the_same(text: str) -> None:
    """One identity has one spelling."""
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begin with"),
        ("td/ns/shop/sa/web", "begin with"),
        ("https://td/a", "begin with"),
        ("SPIFFE://td/a", "begin with"),
        (" spiffe://td/a", "begin with"),
        ("spiffe:/td/a", "begin with"),
        ("spiffe://", "empty"),
        ("spiffe:///a", "empty"),
        ("spiffe://TD/a", "lower-case"),
        ("spiffe://td:443/a", "lower-case"),
        ("spiffe://user@td/a", "lower-case"),
        ("spiffe://t%64/a", "lower-case"),
        ("spiffe://tд/a", "lower-case"),
        ("spiffe://td?q", "lower-case"),
        ("spiffe://td#f", "lower-case"),
        ("spiffe://[::1]/a", "lower-case"),
        ("spiffe://td\n", "lower-case"),
        ("spiffe://td/", "slash at the end"),
        ("spiffe://td/a/", "slash at the end"),
        ("spiffe://td//a", "empty segment"),
        ("spiffe://td/a/./b", "'.' or '..'"),
        ("spiffe://td/a/..", "'.' or '..'"),
        ("spiffe://td/a%2Fb", "only letters"),
        ("spiffe://td/a b", "only letters"),
        ("spiffe://td/a?q=1", "only letters"),
        ("spiffe://td/a#f", "only letters"),
        ("spiffe://td/a\n", "only letters"),
        ("spiffe://td/a\x00", "only letters"),
        ("spiffe://td/é", "only letters"),
        (f"spiffe://{LONGEST_TRUST_DOMAIN}x/a", "255"),
        (LONGEST_ID + "p", "2048"),
    ],
)
def test_what_breaks_a_rule_of_the_standard_is_no_id(text: str, why: str) -> None:
    """Nothing is repaired, and the message says what is wrong."""
    with pytest.raises(InvalidSpiffeIdError, match=why):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://td",
        "spiffe://td/ns/shop",
        "spiffe://td/ns/shop/sa/web/more",
        "spiffe://td/sa/web/ns/shop",
        "spiffe://td/NS/shop/sa/web",
    ],
)
def test_namespace_and_service_account_come_from_istios_path_only(text: str) -> None:
    """No other path is read as if it had them."""
    assert (parse(text).namespace, parse(text).service_account) == ("", "")
