"""Who calls, by the header that only a front writes."""

import pytest

from meshwarden.caller import Caller, caller_of
from meshwarden.front.bootstrap import SOURCE_HEADER, TLS_HEADER

XFCC = "x-forwarded-client-cert"
ID = "spiffe://mesh.example/ns/shop/sa/web"
NOBODY = Caller("", "", tls=False)


def test_a_call_of_a_front_names_the_caller() -> None:
    """Identity, address, whether it is TLS, and which certificate."""
    caller = caller_of(
        [(XFCC, f"Hash=ab;URI={ID}"), (SOURCE_HEADER, "10.0.0.1"), (TLS_HEADER, "TLSv1.3")]
    )
    assert caller == Caller(ID, "10.0.0.1", tls=True, certificate_sha256=b"\xab")
    assert caller.principal == "mesh.example/ns/shop/sa/web"


def test_a_call_without_the_headers_is_nobodys() -> None:
    """Not an error: it is not known who it is."""
    assert caller_of([]) == NOBODY
    assert caller_of([("user-agent", "x")]).principal == ""


@pytest.mark.parametrize("version", ["", "-"])
def test_plain_text_has_no_version_of_tls(version: str) -> None:
    """As Envoy writes it."""
    assert not caller_of([(TLS_HEADER, version)]).tls


@pytest.mark.parametrize(
    "header",
    [
        f"URI={ID},URI=spiffe://mesh.example/ns/shop/sa/admin",  # two elements
        f"URI={ID};URI=spiffe://mesh.example/ns/shop/sa/admin",  # two identities
        f'URI="{ID}"',
        f'Subject="CN=a;URI={ID}"',  # a URI inside of something quoted
        "Hash=ab",
        "URI=",
        "URI=https://mesh.example/ns/shop/sa/web",
        "URI=spiffe://Mesh.example/ns/shop/sa/web",
        "URI=spiffe://mesh.example/ns/../sa/web",
        "",
        ";",
    ],
)
def test_anything_but_one_element_with_one_identity_is_nobody(header: str) -> None:
    """A front of ours never sends it."""
    assert caller_of([(XFCC, header)]) == NOBODY


def test_the_header_twice_is_nobody() -> None:
    """Whichever comes first."""
    assert caller_of([(XFCC, f"URI={ID}"), (XFCC, f"URI={ID}")]) == NOBODY


def test_the_header_in_bytes_is_nobody() -> None:
    """Only names that end in -bin are bytes, and this one doesn't."""
    assert caller_of([(XFCC, f"URI={ID}".encode())]) == NOBODY
