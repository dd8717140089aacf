"""A tar.gz from anybody: plain files come out, or our error, and nothing else."""

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import BundleError
from authz.policy_bundle.archive import pack, unpack

LIMIT = 1024 * 1024
FILES = {"policy.csv": b"p, a\n", "team/more.yaml": b"", "tests/cases.yaml": b"cases: []\n"}


def tar_gz(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Make an archive of members as somebody else would."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for each in members:
            member, content = each if isinstance(each, tuple) else (each, b"")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """Make a member."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def refusal(archive: bytes) -> str:
    """Give the words of a refusal."""
    with pytest.raises(BundleError) as caught:
        unpack(archive, LIMIT)
    return str(caught.value)


def test_what_was_packed_comes_out_again_in_its_order() -> None:
    """Names, contents and order."""
    assert list(unpack(pack(FILES), LIMIT).items()) == list(FILES.items())


def test_the_same_files_are_the_same_bytes() -> None:
    """No time, no owner, no name of a machine."""
    assert pack(FILES) == pack(dict(FILES))
    assert pack(FILES) != pack({**FILES, "policy.csv": b"p, b\n"})


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (member("../policy.csv"), "'../policy.csv' leads out of the bundle"),
        (member("a/../../policy.csv"), "leads out of the bundle"),
        (member("/etc/policy.csv"), "is an absolute name"),
        (member("a//b.csv"), "is no plain name"),
        (member("./b.csv"), "is no plain name"),
        (member("a\\b.csv"), "is no plain name"),
        (member("a\nb.csv"), "is no plain name"),
        (member("n" * 256), "is longer than 255 characters"),
        (member("a.csv", tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
        (member("a.csv", tarfile.LNKTYPE, "b.csv"), "is a hard link"),
        (member("a.csv", tarfile.CHRTYPE), "is a device"),
        (member("a.csv", tarfile.BLKTYPE), "is a device"),
        (member("a.csv", tarfile.FIFOTYPE), "is a pipe"),
        (member("a.csv", tarfile.CONTTYPE), "is no plain file"),
        (member("../up", tarfile.DIRTYPE), "leads out of the bundle"),
    ],
)
def test_names_that_lead_anywhere_and_what_is_no_file_are_refused(
    made: tarfile.TarInfo, said: str
) -> None:
    """Whatever else is in the archive."""
    assert said in refusal(tar_gz((member("policy.csv"), b"p, a\n"), made))


def test_a_name_that_stands_twice_is_refused() -> None:
    """Two readers could take different ones."""
    first, second = (member("a.csv"), b"1"), (member("a.csv"), b"2")
    assert refusal(tar_gz(first, second)) == "'a.csv' stands twice"


def test_folders_may_stand_there_and_count_for_nothing() -> None:
    """An archive that was made by tar has them."""
    folder = member("team", tarfile.DIRTYPE)
    assert unpack(tar_gz(folder, (member("team/a.csv"), b"x")), LIMIT) == {"team/a.csv": b"x"}


def test_a_sparse_file_is_refused_before_its_zeros_are_made() -> None:
    """A terabyte of them takes no byte in the archive."""
    made = member("a.csv")
    made.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "a.csv",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": f"0,0,{1 << 40},0",
    }
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(made)
    assert "sparse" in refusal(gzip.compress(plain.getvalue()))


def test_a_bomb_is_refused_when_it_passes_the_limit() -> None:
    """A gigabyte of zeros from a megabyte: a few megabytes of memory at most."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as out:
        for _ in range(1024):
            out.write(bytes(LIMIT))
    bomb = stream.getvalue()
    tracemalloc.start()
    try:
        assert refusal(bomb) == f"unpacks to more than {LIMIT} bytes"
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


def test_a_bomb_of_entries_is_refused() -> None:
    """A million empty files are small as well."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for number in range(10_001):
            archive.addfile(member(f"{number}"))
    with pytest.raises(BundleError, match="more than 10000 entries"):
        unpack(gzip.compress(plain.getvalue()), 64 * LIMIT)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda archive: archive[:-9], "is cut short"),
        (lambda archive: archive[:40], "is cut short"),
        (lambda _: b"", "is no gzip"),
        (lambda archive: archive + b"more", "has something after its end"),
        (lambda archive: archive[:-6] + b"xxxxxx", "is damaged"),
        (lambda _: b"<!DOCTYPE html><html>502</html>", "is no gzip: it begins with '<!DOCTYPE htm"),
        (lambda _: gzip.compress(b"no tar"), "is no tar archive"),
        (lambda _: gzip.compress(b""), "is no tar archive"),
    ],
)
def test_what_is_no_whole_archive_is_refused(spoil: Callable[[bytes], bytes], said: str) -> None:
    """Every cut and every page in its place has a name."""
    assert refusal(spoil(pack(FILES))).startswith(said)


@given(st.binary(max_size=600))
def test_any_bytes_are_unpacked_or_refused(content: bytes) -> None:
    """As an archive, and inside a gzip."""
    for archive in (content, gzip.compress(content)):
        with suppress(BundleError):
            unpack(archive, LIMIT)


PLAIN = gzip.decompress(pack(FILES))


@given(
    st.lists(
        st.tuples(st.integers(0, 2047), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4
    )
)
def test_any_damage_of_a_tar_is_read_or_refused(damage: list[tuple[int, bytes]]) -> None:
    """Sizes, kinds, checksums: with a checksum made right again, the rest counts."""
    spoilt = bytearray(PLAIN)
    for at, new in damage:
        spoilt[at : at + len(new)] = new
    header = spoilt[:512]
    header[148:156] = b" " * 8
    spoilt[148:156] = b"%06o\0 " % sum(header)
    with suppress(BundleError):
        unpack(gzip.compress(bytes(spoilt)), LIMIT)


def test_headers_nested_without_end_are_refused() -> None:
    """The tar reader calls itself for each."""
    block = tarfile.TarInfo("x")
    block.type, block.size = tarfile.XHDTYPE, 0
    plain = block.tobuf(tarfile.USTAR_FORMAT) * 2000
    assert refusal(gzip.compress(plain)).startswith(("is no tar archive", "unpacks"))
