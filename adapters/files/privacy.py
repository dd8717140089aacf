"""Whether a file with a secret is open to others, by its mode and its access control list.

systemd gives a service that has a user of its own its credentials by an access control list: the
mode then shows 0440, where the 4 in the middle is the mask of the list and lets nobody in.
"""

import errno
import os
import struct
from pathlib import Path

__all__ = ["is_private"]

_OTHERS = 0o077
# acl(5), and linux/posix_acl_xattr.h for its form: a version, then tag, permissions and id of each.
_ATTRIBUTE = "system.posix_acl_access"
_HEAD_BYTES = 4
_ENTRY = struct.Struct("<HHI")
_USER, _GROUPS, _MASK, _OTHER = 0x02, {0x04, 0x08}, 0x10, 0x20


def is_private(file: Path | int) -> bool:
    """Whether nobody but its owner, root and this process' user may do anything with a file.

    Args:
        file: Its path, or a descriptor of it.

    Raises:
        OSError: It isn't there, or can't be looked at.
    """
    if not os.stat(file).st_mode & _OTHERS:  # noqa: PTH116 - it may be a descriptor
        return True
    try:
        listed = os.getxattr(file, _ATTRIBUTE)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return False
        raise
    entries = [*_ENTRY.iter_unpack(listed[_HEAD_BYTES:])]
    mask = next((allowed for tag, allowed, _ in entries if tag == _MASK), 0o7)
    return not any(_lets_in(tag, allowed, who, mask) for tag, allowed, who in entries)


def _lets_in(tag: int, allowed: int, who: int, mask: int) -> bool:
    """Whether an entry of a list lets somebody else in."""
    if tag == _USER:
        return bool(allowed & mask) and who not in {0, os.geteuid()}
    if tag in _GROUPS:
        return bool(allowed & mask)
    return tag == _OTHER and bool(allowed)
