"""A tar.gz in memory: written the same for the same files, and read without trust.

Nothing is ever extracted: a name is a word here and leads nowhere. It is refused all the same where
it would lead somewhere, since whoever wrote it meant no policy.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping

from authz.errors import BundleError

__all__ = ["pack", "unpack"]

_MEMBERS = 10_000
_NAME_CHARACTERS = 255
_CHUNK_BYTES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for "a gzip member, its checksum included"
_MAGIC = b"\x1f\x8b"
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def pack(files: Mapping[str, bytes]) -> bytes:
    """Write files as a tar.gz: the same bytes for the same files, whoever packs them and when.

    Args:
        files: Name to content, in the order in which they are to stand.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            # A fresh TarInfo knows no time and no owner.
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)


def unpack(archive: bytes, max_bytes: int) -> dict[str, bytes]:
    """Read the files of a tar.gz.

    Args:
        archive: The bytes, whoever sent them.
        max_bytes: Most that they may unpack to; nothing beyond it is ever held.

    Returns:
        Name to content, in the order of the archive.

    Raises:
        BundleError: It is none, is cut short, is too large, or holds what is no plain file.
    """
    plain = io.BytesIO(_inflated(archive, max_bytes))
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=plain, mode="r:") as opened:
            for count, member in enumerate(opened, 1):
                if count > _MEMBERS:
                    raise BundleError(f"holds more than {_MEMBERS} entries")
                _check(member, files)
                if not member.isdir():
                    files[member.name] = _content(opened, member)
    # Headers may be nested without end, or tell sizes that no number type holds.
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
        raise BundleError(f"is no tar archive inside its gzip: {error}") from error
    return files


def _inflated(archive: bytes, max_bytes: int) -> bytes:
    """Inflate, counting: a bomb is refused when it passes the limit, not when it has gone off."""
    if not archive.startswith(_MAGIC):
        begins = archive[:24].decode("ascii", "replace").strip()
        raise BundleError(f"is no gzip: it begins with {begins!r}")
    inflater = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    left = max_bytes
    waiting = archive
    try:
        while not inflater.eof and waiting:
            part = inflater.decompress(waiting, min(_CHUNK_BYTES, left + 1))
            waiting = inflater.unconsumed_tail
            left -= len(part)
            if left < 0:
                raise BundleError(f"unpacks to more than {max_bytes} bytes")
            parts.append(part)
    except zlib.error as error:
        raise BundleError(f"is damaged: {error}") from error
    if not inflater.eof:
        raise BundleError("is cut short: its gzip has no end")
    if inflater.unused_data:
        raise BundleError("has something after its end")
    return b"".join(parts)


def _check(member: tarfile.TarInfo, before: Mapping[str, bytes]) -> None:
    """Refuse what is no plain file or folder, and names that lead anywhere.

    Raises:
        BundleError: It is such.
    """
    name = member.name
    shown = repr(name[:_NAME_CHARACTERS])
    if member.type not in _REGULAR and not member.isdir():
        kind = _KINDS.get(member.type, "no plain file")
        raise BundleError(f"{shown} is {kind}; a bundle holds plain files only")
    # A sparse file's zeros stand nowhere in the archive, so counting would miss them.
    if member.issparse():
        raise BundleError(f"{shown} is a sparse file; a bundle holds plain files only")
    parts = name.split("/")
    if name.startswith("/"):
        raise BundleError(f"{shown} is an absolute name")
    if ".." in parts:
        raise BundleError(f"{shown} leads out of the bundle")
    if "" in parts or "." in parts or "\\" in name or not name.isprintable():
        raise BundleError(f"{shown} is no plain name, such as team/policy.csv")
    if len(name) > _NAME_CHARACTERS:
        raise BundleError(f"{shown}... is longer than {_NAME_CHARACTERS} characters")
    if name in before:
        raise BundleError(f"{shown} stands twice")


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = opened.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise BundleError(f"{member.name!r} is cut short")
    return content
