"""An authority that somebody else made and put into files: read, verified, read again on change.

The key stays in its file and in this process; the certificates go to the database, so that every
replica believes what any of them signs by.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.files.privacy import is_private
from ca.authority import Authority
from ca.errors import CertificateError, KeyNotOpenedError
from ca.intermediate import authorities_of_chain
from ca.keys import PrivateKey, key_id, weakness
from meshwarden.pem import certificates_of

__all__ = ["PluggedAuthority", "PluggedChain"]

_POLL_S = 1.0
_MAX_FILE_BYTES = 256 * 1024
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class PluggedChain:
    """What the files held at one time, verified.

    Attributes:
        authorities: The one that signs first, the root last.
        key: The private key of the first.
    """

    authorities: Sequence[Authority]
    key: PrivateKey = field(repr=False)


class PluggedAuthority:
    """The two files."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._loaded: _Stamp = ()

    def load(self, trust_domain: str, now_ns: int) -> PluggedChain:
        """Read and verify both.

        Raises:
            CertificateError: The chain could not sign for the trust domain now, or isn't the key's.
            KeyNotOpenedError: The key can't be read, or others can.
        """
        # Before they are read: what changes meanwhile is another change.
        self._loaded = self._stamp()
        data = _bytes_of(self._chain, "identity.ca_chain")
        try:
            chain = certificates_of(data)
            authorities = authorities_of_chain(trust_domain, chain, now_ns)
        except CertificateError as error:
            raise CertificateError(f"identity.ca_chain: {self._chain}: {error}") from error
        key = self._load_key()
        if key_id(key.public_key()) != authorities[0].authority_id:
            raise CertificateError(
                f"identity.ca_key: {self._key} is not the key of the first certificate in "
                f"{self._chain}"
            )
        return PluggedChain(authorities, key)

    async def changes(self) -> AsyncIterator[None]:
        """Yield whenever one of the files is another than was loaded, and both are at rest."""
        while True:
            await asyncio.sleep(_POLL_S)
            now = self._stamp()
            if now == self._loaded:
                continue
            # Two files are replaced one after the other: half of a new pair is no fault.
            await asyncio.sleep(_POLL_S)
            if self._stamp() == now:
                yield

    def _load_key(self) -> PrivateKey:
        data = _bytes_of(self._key, "identity.ca_key", is_secret=True)
        try:
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The library's words could quote what it read.
            raise KeyNotOpenedError(
                f"identity.ca_key: {self._key} is no unencrypted PEM key"
            ) from error
        if not isinstance(key, PrivateKey) or weakness(key.public_key()):
            raise KeyNotOpenedError(
                f"identity.ca_key: {self._key} is none of P-256, P-384, RSA of 2048 bits or more, "
                "and Ed25519"
            )
        return key

    def _stamp(self) -> _Stamp:
        stamps = []
        for file in (self._chain, self._key):
            try:
                status = file.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(stamps)


def _bytes_of(file: Path, setting: str, *, is_secret: bool = False) -> bytes:
    try:
        with file.open("rb") as source:
            if is_secret and not is_private(source.fileno()):
                raise KeyNotOpenedError(f"{setting}: {file} is open to others: 'chmod 600' it")
            data = source.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyNotOpenedError(f"{setting}: {file} can't be read: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise KeyNotOpenedError(f"{setting}: {file} has more than {_MAX_FILE_BYTES} bytes")
    return data
