"""Certificate signing requests of any bytes: for the right key, or refused with our error."""

from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from ca.csr import CheckedCsr, check_csr
from ca.errors import CsrError
from ca.spiffe_id import InvalidSpiffeIdError, parse
from tests.unit.ca.makings import WEB, names, request

GOOD = request(extensions=[(names(str(WEB), "web.example"), False)])
KEY = x509.load_der_x509_csr(GOOD).public_key()
CODES = {"INVALID_ARGUMENT", "PERMISSION_DENIED"}


def refusal(der: bytes, names_allowed: tuple[str, ...] = ()) -> tuple[CsrError | None, object]:
    """Check a request; give why it is refused, or what came of it."""
    try:
        return None, check_csr(der, allowed_id=WEB, dns_names=names_allowed)
    except CsrError as error:
        return error, None


def judged(der: bytes) -> None:
    """Check a request: what passes is for the key of the good one, and says the entry's ID."""
    error, checked = refusal(der, ("web.example",))
    if error is not None:
        assert error.code in CODES
        assert len(str(error)) < 400
        return
    assert isinstance(checked, CheckedCsr)
    assert checked.public_key == KEY
    assert checked.spiffe_id == WEB
    assert checked.names == ("web.example",)


@given(st.binary(max_size=600))
@example(b"")
@example(b"\x30\x82\xff\xff")
def test_any_bytes_are_refused_by_our_error_alone(der: bytes) -> None:
    """Nothing of the library's gets out."""
    judged(der)


@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(1, 255))
def test_a_request_with_any_byte_changed_is_refused_or_the_same(place: int, value: int) -> None:
    """Its signature covers all of it."""
    der = bytearray(GOOD)
    der[place] ^= value
    judged(bytes(der))


@given(start=st.integers(0, len(GOOD)), length=st.integers(0, 40), put=st.binary(max_size=40))
def test_a_request_with_a_piece_replaced_is_refused_or_the_same(
    start: int, length: int, put: bytes
) -> None:
    """Cut off, grown, or torn."""
    judged(GOOD[:start] + put + GOOD[start + length :])


@given(
    uri=st.one_of(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
        st.builds(
            "spiffe://{}{}".format,
            st.sampled_from(["mesh.example", "MESH.example", "mesh.example:80", "", "a@b"]),
            st.text("/.%aA0-_~?#", max_size=20),
        ),
    )
)
@example(str(WEB))
def test_no_uri_but_the_allowed_one_passes(uri: str) -> None:
    """Not another spelling either; what is no SPIFFE ID is told apart from somebody else's."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    error, _ = refusal(request(extensions=[(san, False)]))
    try:
        parse(uri)
        code = "PERMISSION_DENIED"
    except InvalidSpiffeIdError:
        code = "INVALID_ARGUMENT"
    assert (error is None) is (uri == str(WEB))
    assert error is None or error.code == code
