"""The ledger of everything issued: rows that hang together by their hashes.

Each row's hash covers the row before, so nothing in the midst can be changed, taken out, put in or
moved without every later hash being another. Who can write to the database could make all of those
anew; so the last row of each write is signed by a key that the database doesn't hold in the clear,
and one good signature at the end vouches for every row before it.

What no chain can show by itself is a tail cut off where a write ended: what is left is a ledger
that was complete once. That takes knowledge from elsewhere: `Head`s, which control keeps on its own
disk and an operator may keep anywhere.
"""

import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "FIRST_HASH",
    "Entry",
    "Event",
    "Head",
    "IssuanceLog",
    "Issued",
    "LedgerRow",
    "Report",
    "Verifier",
    "chain",
    "is_next",
    "sign_head",
]

FIRST_HASH = bytes(32)
"""What stands for the hash before the first row."""

_ROW_TAG = b"meshwarden ledger row 1\0"
_HEAD_TAG = b"meshwarden ledger head 1\0"
_encode = msgspec.json.Encoder().encode


class Event(enum.StrEnum):
    """What a row tells."""

    INTENDED = "intended"  # Is about to be signed; written and on disk before it is.
    ISSUED = "issued"  # Rows `first` to `last` were signed, found good and handed out.
    WITHHELD = "withheld"  # Those were not: signing failed, or the result was not as ordered.
    REFUSED = "refused"  # Somebody asked for what he doesn't get; `detail` says why.


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to be put on the ledger.

    Attributes:
        event: What it tells.
        kind: "x509" or "jwt"; "" where it is about other rows.
        spiffe_id: For whom.
        serial: In hex, 32 characters; of a token its "jti".
        not_after_ns: Until when, nanoseconds since the epoch.
        authority_id: Whose key signs.
        requester: The authenticated caller.
        selectors: What the caller was known by, or the workload.
        detail: One line more.
        first: The first row that an outcome is of; 0 for other events.
        last: The last one.
    """

    event: Event
    kind: str = ""
    spiffe_id: str = ""
    serial: str = ""
    not_after_ns: int = 0
    authority_id: str = ""
    requester: str = ""
    selectors: tuple[str, ...] = ()
    detail: str = ""
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row as it stands.

    Attributes:
        number: From 1, without gaps.
        time_ns: When it was written, nanoseconds since the epoch.
        entry: What it tells.
        hash: SHA-256 over the hash before and all of the above.
        signature: Of the head that this row was when it was written; b"" within a write.
    """

    number: int
    time_ns: int
    entry: Entry
    hash: bytes
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger ended at some time; number 0 is before the first row."""

    number: int = 0
    hash: bytes = FIRST_HASH


@dataclass(frozen=True, slots=True)
class Issued:
    """What became of one intent.

    Attributes:
        row: The intent.
        outcome: INTENDED where no outcome is known: control may have died in between, so that
            this may have been signed and handed out. REFUSED for what never was an intent.
    """

    row: LedgerRow
    outcome: Event


def row_hash(before: bytes, number: int, time_ns: int, entry: Entry) -> bytes:
    """Give the hash of a row."""
    body = _encode(
        (
            number,
            time_ns,
            entry.event,
            entry.kind,
            entry.spiffe_id,
            entry.serial,
            entry.not_after_ns,
            entry.authority_id,
            entry.requester,
            entry.selectors,
            entry.detail,
            entry.first,
            entry.last,
        )
    )
    return hashlib.sha256(_ROW_TAG + before + body).digest()


def chain(
    head: Head, entries: Sequence[Entry], time_ns: int, key: Ed25519PrivateKey
) -> list[LedgerRow]:
    """Make the rows that follow a head; the last one is signed.

    Args:
        head: Where the ledger ends.
        entries: At least one.
        time_ns: Now, nanoseconds since the epoch.
        key: What signs heads.
    """
    rows, before = [], head.hash
    for number, entry in enumerate(entries, head.number + 1):
        before = row_hash(before, number, time_ns, entry)
        rows.append(LedgerRow(number, time_ns, entry, before))
    last = rows[-1]
    signature = sign_head(Head(last.number, last.hash), key)
    rows[-1] = LedgerRow(last.number, time_ns, last.entry, last.hash, signature)
    return rows


def is_next(head: Head, row: LedgerRow) -> bool:
    """Whether a row was put right behind a head, and behind nothing else of its number."""
    return row.number == head.number + 1 and row.hash == row_hash(
        head.hash, row.number, row.time_ns, row.entry
    )


def sign_head(head: Head, key: Ed25519PrivateKey) -> bytes:
    """Vouch for every row up to a head."""
    return key.sign(_signed(head))


def _signed(head: Head) -> bytes:
    return _HEAD_TAG + head.number.to_bytes(8) + head.hash


@dataclass(frozen=True, slots=True)
class Report:
    """What a reading of the whole ledger found.

    Attributes:
        head: Where it ends.
        fault: What is wrong, and at which row; "" for nothing.
    """

    head: Head
    fault: str = ""


class Verifier:
    """Reads a ledger from its first row on and stops at the first fault."""

    def __init__(self, keys: Sequence[Ed25519PublicKey], known: Iterable[Head] = ()) -> None:
        """Begin.

        Args:
            keys: Those that may have signed heads.
            known: Heads that the ledger had once, from elsewhere than its database.
        """
        self._keys = keys
        # Of one number there may be two: then somebody wrote a part of the ledger anew.
        self._known: dict[int, set[bytes]] = {}
        for each in known:
            if each.number:
                self._known.setdefault(each.number, set()).add(each.hash)
        self._head = Head()
        self._time_ns = 0
        self._signature = b""
        self._fault = ""

    def take(self, rows: Iterable[LedgerRow]) -> bool:
        """Read on; give whether reading on is of use."""
        for row in rows:
            if not self._fault:
                self._take(row)
        return not self._fault

    def _take(self, row: LedgerRow) -> None:
        due = self._head.number + 1
        if row.number != due:
            self._fault = f"row {due} is missing: row {row.number} follows row {due - 1}"
        elif row.hash != row_hash(self._head.hash, row.number, row.time_ns, row.entry):
            self._fault = f"row {row.number} is not what was written, or a row before it is not"
        elif self._known.get(row.number, {row.hash}) != {row.hash}:
            self._fault = (
                f"the ledger up to row {row.number} is not the one that was there before: "
                "it was written anew"
            )
        else:
            self._head = Head(row.number, row.hash)
            self._signature = row.signature

    def report(self) -> Report:
        """Conclude, once every row was taken."""
        newest = max(self._known, default=0)
        if self._fault:
            pass
        elif newest > self._head.number:
            self._fault = (
                f"the ledger ends at row {self._head.number}, and row {newest} was there before: "
                "its end was cut off"
            )
        elif self._head.number and not any(map(self._is_signed_by, self._keys)):
            self._fault = (
                f"row {self._head.number} is the last, and no write ended there: rows behind it "
                "were cut off, or somebody else than control wrote it"
            )
        return Report(self._head, self._fault)

    def _is_signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(self._signature, _signed(self._head))
        except InvalidSignature:
            return False
        return True


class IssuanceLog(Protocol):
    """Keeps the ledger.

    An implementation promises: rows are only ever added, and its database refuses anything else;
    what `append` has returned from is on disk; writers in several processes make one chain, since
    each reads the head under the lock that it writes under; every call ends within a bound.
    """

    async def append(
        self, entries: Sequence[Entry], time_ns: int, key: Ed25519PrivateKey
    ) -> Sequence[LedgerRow]:
        """Put entries behind the head, all or none; give their rows.

        Raises:
            IdentityStoreError: Nothing was written, or it can't be known; don't sign.
            UnwritableError: Nothing was written: one of them can't be.
        """
        ...

    async def head(self) -> Head:
        """Give where the ledger ends.

        Raises:
            IdentityStoreError: It can't be read.
        """
        ...

    async def read(self, after: int, limit: int) -> Sequence[LedgerRow]:
        """Read rows in their order.

        Raises:
            DamagedError: A row holds what was never written.
            IdentityStoreError: They can't be read.
        """
        ...

    async def find(
        self, spiffe_id: str, serial: str, limit: int, *, refused: bool = False
    ) -> Sequence[Issued]:
        """List what was intended, or what was refused, newest first; "" is any.

        Raises:
            DamagedError: A row holds what was never written.
            IdentityStoreError: It can't be read.
        """
        ...
