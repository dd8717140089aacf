"""The last good policy on local disk: control writes it, every process decides by it.

One file, replaced by one rename, so that a reader sees the old policy or the new one and never a
part of either. It is also what a restart serves when the policy's source is gone.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import msgspec

from authz.policy.rules import PolicyText, Row
from meshwarden.files import replace_file

__all__ = ["BrokenPublicationError", "Publication", "load", "publish", "stamp", "withdraw"]

_FILE = "policy.json"
_RUN = 500  # Rows that are decoded in one go.
_FORMAT = 1  # A reader refuses a newer one instead of guessing.


class BrokenPublicationError(Exception):
    """The published policy can't be read; the last Snapshot in memory stays in force."""


class Publication(msgspec.Struct, frozen=True):
    """A validated policy on its way to the processes that decide by it.

    Attributes:
        text: The policy, as it was validated.
        bind: Request field of a custom model to attribute.
        digest: Digest of the Snapshot that `text` builds.
        published_ns: When it was written, nanoseconds since the epoch.
        source: Where it came from, for people.
        rule_count: Rules of that Snapshot.
        revision: Its number in the store; 0 where it isn't from there.
        format: Version of this file's layout.
    """

    text: PolicyText
    bind: dict[str, str]
    digest: str
    published_ns: int
    source: str
    rule_count: int = 0
    revision: int = 0
    format: int = _FORMAT


_decode_rows = msgspec.json.Decoder(tuple[Row, ...]).decode


class _Format(msgspec.Struct):
    format: int


def publish(state_dir: Path, publication: Publication) -> None:
    """Replace the published policy, durably: after this returns, a power cut keeps it.

    Raises:
        OSError: The disk is full or read-only; what was published before is untouched.
    """
    body = _encoded(publication)
    # The checksum comes first, so that a torn file is known from its own content.
    replace_file(state_dir / _FILE, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    # With the folder on disk too, the new name is what a power cut leaves.
    folder = os.open(state_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def withdraw(state_dir: Path) -> None:
    """Take back what was published; those who may be without a policy drop it.

    Raises:
        OSError: The disk is read-only.
    """
    (state_dir / _FILE).unlink(missing_ok=True)


def load(state_dir: Path) -> Publication:
    """Read what was published last.

    Raises:
        FileNotFoundError: Nothing has been published here yet.
        BrokenPublicationError: The file is damaged or of a newer version of the program.
    """
    checksum, _, body = (state_dir / _FILE).read_bytes().partition(b"\n")
    head, *runs = body.split(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise BrokenPublicationError(f"{state_dir / _FILE}: the checksum does not match")
    try:
        # First the format alone: what else a newer one holds is not known here.
        found = msgspec.json.decode(head, type=_Format).format
        if found > _FORMAT:
            raise BrokenPublicationError(
                f"{state_dir / _FILE} is of format {found}, written by a newer version; "
                f"this one reads up to {_FORMAT}"
            )
        publication = msgspec.json.decode(head, type=Publication)
        rows = [row for run in runs for row in _decode_rows(run)]
    except msgspec.MsgspecError as error:
        raise BrokenPublicationError(f"{state_dir / _FILE}: {error}") from error
    text = replace(publication.text, rows=tuple(rows))
    return msgspec.structs.replace(publication, text=text)


def _encoded(publication: Publication) -> bytes:
    """All but the rows, then the rows in runs, one a line.

    Decoding holds the interpreter's lock from its beginning to its end: 100,000 rows in one piece
    would stop a front for a tenth of a second.
    """
    rows = publication.text.rows
    head = msgspec.structs.replace(publication, text=replace(publication.text, rows=()))
    runs = [rows[start : start + _RUN] for start in range(0, len(rows), _RUN)]
    return b"\n".join(map(msgspec.json.encode, (head, *runs)))


def stamp(state_dir: Path) -> tuple[int, int, int] | None:
    """Tell one publication from the next without reading it: one stat; None when there is none."""
    try:
        status = (state_dir / _FILE).stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
