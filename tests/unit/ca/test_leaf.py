"""A certificate's bytes as we read them, against the library's own reading."""

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.keys import KeyType, generate, public_der
from ca.leaf import InvalidLeafError, Leaf, key_identifier, read_leaf, read_names
from ca.profile import Validity
from ca.tbs import LeafFrame
from tests.unit.ca.makings import NOW, SECOND, WEB, certificate

YEAR = 366 * 86_400 * SECOND
ISSUER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Ämter & Söhne")])
KEY = ec.generate_private_key(ec.SECP256R1())
FRAME = LeafFrame(ISSUER, b"i" * 20, generate(KeyType.EC_P256))
NAMES = ("web.shop.example", "10.0.0.1", "2001:db8::1")
LEAF = FRAME.sign(KEY.public_key(), WEB, NAMES, Validity(NOW, NOW + 3600 * SECOND), 2**127 + 5)
WRITTEN = {value for _, value in read_leaf(LEAF).extensions.values()}


def agree(found: Leaf, der: bytes) -> None:
    """What we read is what the library reads, wherever it reads anything."""
    library = x509.load_der_x509_certificate(der)
    assert found.tbs == library.tbs_certificate_bytes
    assert found.serial == library.serial_number
    assert found.signature == library.signature
    assert found.begin_s == library.not_valid_before_utc.timestamp()
    assert found.end_s == library.not_valid_after_utc.timestamp()
    # A changed name, key or extension may be one that the library refuses to interpret: then it is
    # none that anything of ours is compared with either.
    with contextlib.suppress(ValueError, TypeError, x509.UnsupportedGeneralNameType):
        assert found.issuer == library.issuer.public_bytes()
        assert found.subject == library.subject.public_bytes()
    with contextlib.suppress(ValueError, TypeError, x509.UnsupportedGeneralNameType):
        there = [*library.extensions]
        assert [critical for critical, _ in found.extensions.values()] == [
            each.critical for each in there
        ]
        for (_, value), each in zip(found.extensions.values(), there, strict=True):
            # The library writes some anew in another way than they were: those that `ca.verify`
            # takes are written in one way only.
            assert value == each.value.public_bytes() or value not in WRITTEN


def compared(found: Leaf) -> object:
    """What `ca.verify` compares byte by byte."""
    return found.algorithm, found.issuer, found.subject, found.public_key, found.extensions


@settings(max_examples=100)
@given(
    begin_ns=st.integers(0, 200 * YEAR // SECOND).map(lambda each: each * SECOND),
    length_ns=st.integers(1, 10_000_000).map(lambda each: each * SECOND),
    serial=st.integers(1, 2**159 - 1),
)
def test_what_we_write_is_read_as_the_library_reads_it(
    begin_ns: int, length_ns: int, serial: int
) -> None:
    """Times on both sides of 2050, and serials of any length."""
    times = Validity(begin_ns, begin_ns + length_ns)
    leaf = FRAME.sign(KEY.public_key(), WEB, NAMES, times, serial)
    found = read_leaf(leaf)
    agree(found, leaf)
    assert (found.serial, found.begin_s) == (serial, begin_ns // SECOND)
    assert found.public_key == KEY.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    (value,) = (value for _, value in found.extensions.values() if b"spiffe" in value)
    assert read_names(value).uris == [str(WEB)]
    assert read_names(value).others == [*NAMES]


@settings(max_examples=1000)
@given(
    at=st.integers(0, len(LEAF) - 1),
    removed=st.integers(0, 3),
    put=st.binary(max_size=3),
)
def test_changed_bytes_are_refused_or_read_as_the_library_does(
    at: int, removed: int, put: bytes
) -> None:
    """Nothing that we take is read in another way elsewhere; and nothing of us ends in a fault."""
    changed = LEAF[:at] + put + LEAF[at + removed :]
    try:
        found = read_leaf(changed)
    except InvalidLeafError:
        return
    try:
        x509.load_der_x509_certificate(changed)
    except ValueError:
        # What stands in a name, a key or an extension is not read, but compared with what it has
        # to be; so it may be odd, and differs then.
        assert compared(found) != compared(read_leaf(LEAF))
    else:
        agree(found, changed)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """By our own error."""
    for read in (read_leaf, read_names, key_identifier):
        with contextlib.suppress(InvalidLeafError):
            read(data)


def test_a_whole_certificate_cut_off_anywhere_is_none() -> None:
    """Or with a byte behind it."""
    for end in range(len(LEAF)):
        with pytest.raises(InvalidLeafError):
            read_leaf(LEAF[:end])
    with pytest.raises(InvalidLeafError, match="follows"):
        read_leaf(LEAF + b"\x00")


def _wrapped(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


UTC_TIME, OTHER_TIME = b"\x17\x0d270115080000Z", b"\x17\x0d270115090000Z"
WRONG = {
    "an indefinite length": (b"\x30\x82", b"\x30\x80"),
    "a length of more bytes than it takes": (b"\x30\x82", b"\x30\x83\x00"),
    "version 1": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00"),
    "a negative serial": (b"\x02\x11\x00\x80", b"\x02\x11\xff\x80"),
    "a serial with a byte too many": (b"\x02\x11\x00\x80", b"\x02\x11\x00\x00"),
    "a time without seconds": (UTC_TIME, b"\x17\x0d2701150800Z\x00\x00"),
    "a time elsewhere": (UTC_TIME, b"\x17\x0d270115080000+"),
    "a month that is none": (UTC_TIME, b"\x17\x0d271315080000Z"),
    "a time that is text": (UTC_TIME, b"\x0c" + UTC_TIME[1:]),
    "digits that are no ASCII": (UTC_TIME, b"\x17\x0d27011508000\xb2Z"),
    "criticality in another form": (b"\x01\x01\xff", b"\x01\x01\x01"),
    "a false that says so": (b"\x01\x01\xff", b"\x01\x01\x00"),
    "one extension twice": (b"\x55\x1d\x0f", b"\x55\x1d\x13"),
    "a signature with bits left over": (b"\x03\x48\x00", b"\x03\x48\x01"),
}


@pytest.mark.parametrize("case", WRONG)
def test_whatever_der_has_another_way_to_write_is_refused(case: str) -> None:
    """What can be written in two ways could be understood in two ways."""
    old, new = WRONG[case]
    leaf = next(
        each
        for each in (
            FRAME.sign(KEY.public_key(), WEB, (), Validity(NOW, NOW + 3600 * SECOND), 2**127 + 5)
            for _ in range(200)  # Signatures have 70 to 72 bytes.
        )
        if old in each
    )
    with pytest.raises(InvalidLeafError):
        read_leaf(leaf.replace(old, new, 1))


def test_a_year_before_2050_is_written_in_one_form() -> None:
    """RFC 5280 section 4.1.2.5: some refuse the other, and some read it."""
    leaf = FRAME.sign(KEY.public_key(), WEB, (), Validity(NOW, NOW + 3600 * SECOND), 5)
    short = _wrapped(0x30, UTC_TIME + OTHER_TIME)
    long = _wrapped(0x30, b"".join(b"\x18\x0f20" + each[2:] for each in (UTC_TIME, OTHER_TIME)))
    found = read_leaf(leaf)
    signed = found.tbs[4:].replace(short, long)
    assert long in signed
    rest = found.algorithm + _wrapped(3, b"\x00" + found.signature)
    content = b"\x30\x82" + len(signed).to_bytes(2) + signed + rest
    with pytest.raises(InvalidLeafError, match="no time of a certificate"):
        read_leaf(b"\x30\x82" + len(content).to_bytes(2) + content)


@pytest.mark.parametrize("kind", KeyType)
def test_a_key_is_named_as_the_library_names_it(kind: KeyType) -> None:
    """Whatever kind of key it is."""
    key = generate(kind).public_key()
    name = x509.SubjectKeyIdentifier.from_public_key(key)
    assert key_identifier(public_der(key)) == name.public_bytes()


def test_a_leaf_of_the_librarys_own_is_read_too() -> None:
    """With whatever extensions."""
    extensions = [
        (x509.OCSPNoCheck(), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
    ]
    made = certificate(generate(KeyType.EC_P256), ISSUER, KEY, extensions)
    agree(read_leaf(made), made)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (_wrapped(0x81, b"ann@mesh.example"), "kind that no SVID has"),
        (_wrapped(0x87, b"123"), "can't be read"),
        (_wrapped(0x82, b"\xff.example"), "can't be read"),
        (_wrapped(0x86, b"spiffe://x")[:-1], "beyond"),
        (_wrapped(0x82, b"10.0.0.1"), "reads as an address"),
        (_wrapped(0x82, b"2001:db8::1"), "reads as an address"),
    ],
)
def test_names_that_no_svid_has_are_refused(name: bytes, words: str) -> None:
    """Mail addresses, addresses of three bytes or in words, text that is none, what is cut off."""
    with pytest.raises(InvalidLeafError, match=words):
        read_names(_wrapped(0x30, name))
