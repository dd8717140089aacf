"""Templates: what goes into an identity, and what never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.entries import Match, Miss, WorkloadEntry, match
from ca.selectors import Selector, parse_selector
from ca.templates import as_label, as_segment, fill, grammar_fault

ISTIO = "spiffe://mesh.example/ns/{{k8s.ns}}/sa/{{k8s.sa}}"


def entry(spiffe_id: str = ISTIO, dns_names: tuple[str, ...] = ()) -> WorkloadEntry:
    """An entry for every workload."""
    return WorkloadEntry("e1", spiffe_id, (), dns_names=dns_names)


def found(*texts: str) -> frozenset[Selector]:
    """What an attestor found."""
    return frozenset(map(parse_selector, texts))


def test_a_template_takes_the_values_of_the_workloads_selectors() -> None:
    """Also in DNS names."""
    made = match(
        entry(dns_names=("{{k8s.sa}}.{{k8s.ns}}.svc",)), found("k8s:ns:shop", "k8s:sa:web")
    )
    assert isinstance(made, Match)
    assert str(made.spiffe_id) == "spiffe://mesh.example/ns/shop/sa/web"
    assert made.dns_names == ("web.shop.svc",)


def test_a_deeper_key_is_written_with_dots() -> None:
    """The selector k8s:pod-label:app:web has a value for k8s.pod-label.app."""
    made = match(entry("spiffe://td/{{k8s.pod-label.app}}"), found("k8s:pod-label:app:web"))
    assert isinstance(made, Match)
    assert made.spiffe_id.path == "/web"


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (("k8s:ns:shop",), "{{k8s.sa}} has no value"),
        (("k8s:ns:shop", "k8s:sa:a", "k8s:sa:b"), "2 values: a, b"),
        (("k8s:ns:shop", "k8s:sa:a/b"), "can't take the value 'a/b'"),
        (("k8s:ns:..", "k8s:sa:a"), "can't take the value '..'"),
        (("k8s:ns:{{k8s.sa}}", "k8s:sa:a"), "can't take the value"),
        (("k8s:ns:a%2Fb", "k8s:sa:a"), "can't take the value"),
        (("k8s:ns:sh op", "k8s:sa:a"), "can't take the value"),
        (("k8s:ns:é", "k8s:sa:a"), "can't take the value"),
        (("k8s:ns:a:b", "k8s:sa:a"), "can't take the value 'a:b'"),
    ],
)
def test_a_value_that_is_no_single_segment_refuses(texts: tuple[str, ...], why: str) -> None:
    """It can't add a segment, leave one, or be filled again itself."""
    missed = match(entry(), found(*texts))
    assert isinstance(missed, Miss)
    assert why in missed.reason


def test_a_value_never_makes_one_of_the_services_own_ids() -> None:
    """A namespace may be called meshwarden; an agent it is not."""
    missed = match(
        entry("spiffe://td/{{k8s.ns}}/agent/{{k8s.sa}}"), found("k8s:ns:meshwarden", "k8s:sa:a")
    )
    assert isinstance(missed, Miss)
    assert "the service's own" in missed.reason


@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_was_found_two_that_differ_never_share_an_identity(ns: str, sa: str) -> None:
    """Filled or refused: an identity tells back the values it was made of."""
    made = match(entry(), frozenset({Selector("k8s", f"ns:{ns}"), Selector("k8s", f"sa:{sa}")}))
    if isinstance(made, Match):
        assert made.spiffe_id.path == f"/ns/{ns}/sa/{sa}"
        assert made.spiffe_id.path.count("/") == 4


@given(st.text(max_size=40))
def test_no_template_breaks_the_parser(text: str) -> None:
    """It is refused with words, or can be filled."""
    if not grammar_fault(text, "/"):
        fill(text, {}, as_segment)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("spiffe://td/{{k8s.ns}", "brace"),
        ("spiffe://td/{k8s.ns}", "brace"),
        ("spiffe://td/{{{k8s.ns}}}", "brace"),
        ("spiffe://td/{{}}", "no placeholder"),
        ("spiffe://td/{{k8s}}", "no placeholder"),
        ("spiffe://td/{{.k8s.ns}}", "no placeholder"),
        ("spiffe://td/{{k8s.ns|upper}}", "no placeholder"),
        ("spiffe://td/{{node.k8s}}", "names no selector"),
        ("spiffe://td/{{k8s.ns}}-{{k8s.sa}}", "side by side"),
    ],
)
def test_a_bad_template_is_told_what_is_bad(template: str, why: str) -> None:
    """Two placeholders in one segment would make a-b + c and a + b-c the same."""
    assert why in grammar_fault(template, "/")


def test_a_placeholder_may_have_a_fixed_beginning_and_end_beside_it() -> None:
    """Which value it had still shows."""
    template = "spiffe://td/ns-{{ k8s.ns }}.prod"
    assert not grammar_fault(template, "/")
    assert fill(template, {"k8s.ns": frozenset({"a"})}, as_segment) == "spiffe://td/ns-a.prod"


@pytest.mark.parametrize("value", ["", "A", "a_b", "-a", "a-", "a.b", "a" * 64, "a\n"])
def test_what_is_no_label_never_gets_into_a_dns_name(value: str) -> None:
    """A value with a dot would be another host."""
    assert not as_label(value)


@pytest.mark.parametrize(
    ("template", "value"),
    [("10.0.0.{{k8s.sa}}", "5"), ("a.{{k8s.sa}}", "1"), ("b." * 125 + "{{k8s.sa}}", "a" * 10)],
)
def test_what_fits_as_a_label_makes_no_address_and_no_endless_name(
    template: str, value: str
) -> None:
    """A certificate for an address is somebody else's, whose machine has it."""
    missed = match(entry("spiffe://td/x", (template,)), found(f"k8s:sa:{value}"))
    assert isinstance(missed, Miss)
    assert "no DNS name" in missed.reason
    made = match(entry("spiffe://td/x", (template,)), found("k8s:sa:web"))
    assert isinstance(made, Match)
