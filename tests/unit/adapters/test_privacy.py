"""Who may read a file with a secret: by its mode, and by its access control list."""

import os
import struct
from pathlib import Path

import pytest

from adapters.files.privacy import is_private

NOBODY = 0xFFFF_FFFF
OWNER, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
STRANGER = os.geteuid() + 4711


def secret(folder: Path, mode: int, *entries: tuple[int, int, int]) -> Path:
    """A file of a mode, or of an access control list."""
    file = folder / "secret"
    file.write_text("secret")
    file.chmod(mode)
    if entries:
        listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
        try:
            os.setxattr(file, "system.posix_acl_access", listed)
        except OSError as error:
            pytest.skip(f"no access control lists here: {error.strerror}")
    return file


@pytest.mark.parametrize(
    ("mode", "private"),
    [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o620, False), (0o601, False)],
)
def test_without_a_list_the_mode_says_it(mode: int, private: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """By path and by descriptor."""
    file = secret(tmp_path, mode)
    assert is_private(file) is private
    with file.open("rb") as opened:
        assert is_private(opened.fileno()) is private


@pytest.mark.parametrize(
    ("user", "of_group", "group", "mask", "other", "private"),
    [
        # As systemd gives a credential to a service with a user of its own.
        ((os.geteuid(), 4), 0, 0, 4, 0, True),
        ((0, 4), 0, 0, 4, 0, True),
        ((STRANGER, 4), 0, 0, 4, 0, False),
        ((STRANGER, 4), 0, 0, 0, 0, True),
        ((STRANGER, 0), 4, 0, 4, 0, False),
        ((STRANGER, 0), 0, 4, 4, 0, False),
        ((STRANGER, 0), 4, 4, 2, 0, True),
        ((os.geteuid(), 4), 0, 0, 4, 4, False),
    ],
)
def test_a_list_says_it_where_there_is_one(  # noqa: PLR0913, PLR0917 - the kinds of entries
    user: tuple[int, int],
    of_group: int,
    group: int,
    mask: int,
    other: int,
    private: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """Who is named, and what the mask leaves of it; the mode shows the mask for the group."""
    who, allowed = user
    file = secret(
        tmp_path,
        0o400,
        (OWNER, 4, NOBODY),
        (USER, allowed, who),
        (GROUP_OBJ, of_group, NOBODY),
        (GROUP, group, STRANGER),
        (MASK, mask, NOBODY),
        (OTHER, other, NOBODY),
    )
    assert file.stat().st_mode & 0o077 == mask << 3 | other
    assert is_private(file) is private


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """Not taken for private."""
    with pytest.raises(FileNotFoundError):
        is_private(tmp_path / "none")
