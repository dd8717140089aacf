"""Private keys sealed with AES-256-GCM, so that the database can hold them.

What seals them, the key-encryption key, comes from a file that is made at the first need, or from a
passphrase. It is never in the database, or a copy of the database would be a copy of the authority.

A handle is: version, kind of sealing, salt (for a passphrase), nonce, then the sealed PKCS#8. The
key's id is authenticated with it, so that no handle opens under another key's name.

Source: NIST SP 800-38D for GCM; RFC 7914 for scrypt.
"""

import base64
import contextlib
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from typing_extensions import override

from adapters.files.privacy import is_private
from adapters.spec import Adapter
from ca.errors import KeyNotOpenedError
from ca.keeper import KeyKeeper
from ca.keys import PrivateKey, private_der, private_from_der

__all__ = ["ADAPTER", "Config"]

_LOG = logging.getLogger(__name__)
_VERSION = 1
_BY_FILE, _BY_PASSPHRASE = 0, 1
_KEY_BYTES, _NONCE_BYTES, _SALT_BYTES = 32, 12, 16
_HEAD_BYTES = 2
# A guess costs 128 MiB and some tenths of a second: what is recommended for what is worth guessing.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
_MIN_PASSPHRASE_CHARACTERS = 12
_TAG = b"meshwarden sealed key 1\0"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the keeper.

    Attributes:
        key_file: Holds the key-encryption key; made at the first need, with mode 0600.
        passphrase_file: Holds a passphrase that takes its place; None for none.
    """

    key_file: Path = Path("sealing.key")
    passphrase_file: Path | None = None


class SealedKeeper(KeyKeeper):
    """Seals what it is given and opens what it has sealed."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._file_key = b""
        self._by_salt: dict[bytes, bytes] = {}

    @override
    def __repr__(self) -> str:
        """Show nothing of a key."""
        return "SealedKeeper()"

    @override
    def put(self, key_id: str, key: PrivateKey) -> bytes:
        if self._config.passphrase_file is None:
            head, sealing_key = bytes((_VERSION, _BY_FILE)), self._key_of_file(may_make=True)
        else:
            # One salt for all that this process seals: each would cost another derivation.
            salt = next(iter(self._by_salt), None) or secrets.token_bytes(_SALT_BYTES)
            head = bytes((_VERSION, _BY_PASSPHRASE)) + salt
            sealing_key = self._key_of_passphrase(salt)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(sealing_key).encrypt(nonce, private_der(key), _bound_to(key_id, head))
        return head + nonce + sealed

    @override
    def get(self, key_id: str, handle: bytes) -> PrivateKey:
        is_passphrase = handle[:_HEAD_BYTES] == bytes((_VERSION, _BY_PASSPHRASE))
        if not is_passphrase and handle[:_HEAD_BYTES] != bytes((_VERSION, _BY_FILE)):
            raise KeyNotOpenedError(
                f"the key {key_id[:16]} was not sealed by this version: identity.keeper says how "
                "keys are kept"
            )
        if is_passphrase != (self._config.passphrase_file is not None):
            right = "identity.passphrase_file" if is_passphrase else "identity.key_file"
            raise KeyNotOpenedError(
                f"the key {key_id[:16]} is sealed by {right}: set that, and not the other"
            )
        end = _HEAD_BYTES + (_SALT_BYTES if is_passphrase else 0)
        head, nonce = handle[:end], handle[end : end + _NONCE_BYTES]
        sealing_key = (
            self._key_of_passphrase(head[_HEAD_BYTES:])
            if is_passphrase
            else self._key_of_file(may_make=False)
        )
        try:
            opened = AESGCM(sealing_key).decrypt(
                nonce, handle[end + _NONCE_BYTES :], _bound_to(key_id, head)
            )
            return private_from_der(opened)
        except (InvalidTag, ValueError) as error:
            which = "passphrase_file" if is_passphrase else "key_file"
            file = self._config.passphrase_file if is_passphrase else self._config.key_file
            raise KeyNotOpenedError(
                f"identity.{which}: {file} does not open the key {key_id[:16]} in the database: "
                "it is not what sealed it, or the row was changed. Nothing was made in its place"
            ) from error

    @override
    def has_lost(self, key_id: str, handle: bytes) -> bool:
        return False

    def _key_of_file(self, *, may_make: bool) -> bytes:
        if not self._file_key:
            file = self._config.key_file
            if may_make and not file.exists():
                _make(file)
                _LOG.info(
                    "identity.key_file: %s was made; keep a copy elsewhere, without it the "
                    "authority in the database is lost",
                    file,
                )
            try:
                _check_private(file, "identity.key_file")
                self._file_key = base64.b64decode(file.read_text().strip(), validate=True)
            except (OSError, ValueError) as error:
                told = error.strerror if isinstance(error, OSError) else "it is not base64"
                raise KeyNotOpenedError(
                    f"identity.key_file: {file} can't be read: {told}. It opens the keys in the "
                    "database; bring it back, nothing was made in its place"
                ) from error
            if len(self._file_key) != _KEY_BYTES:
                self._file_key = b""
                raise KeyNotOpenedError(f"identity.key_file: {file} holds no key of 256 bits")
        return self._file_key

    def _key_of_passphrase(self, salt: bytes) -> bytes:
        if salt not in self._by_salt:
            file = self._config.passphrase_file
            assert file is not None  # noqa: S101 - who calls has looked
            try:
                _check_private(file, "identity.passphrase_file")
                passphrase = file.read_bytes().strip(b"\r\n")
            except OSError as error:
                raise KeyNotOpenedError(
                    f"identity.passphrase_file: {file} can't be read: {error.strerror}"
                ) from error
            if len(passphrase) < _MIN_PASSPHRASE_CHARACTERS:
                raise KeyNotOpenedError(
                    f"identity.passphrase_file: {file} holds fewer than "
                    f"{_MIN_PASSPHRASE_CHARACTERS} characters"
                )
            derive = Scrypt(salt=salt, length=_KEY_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
            self._by_salt[salt] = derive.derive(passphrase)
        return self._by_salt[salt]


def _bound_to(key_id: str, head: bytes) -> bytes:
    return _TAG + head + key_id.encode()


def _check_private(file: Path, setting: str) -> None:
    """Refuse a secret that others can read.

    Raises:
        KeyNotOpenedError: They can.
        OSError: The file isn't there.
    """
    if not is_private(file):
        mode = stat.S_IMODE(file.stat().st_mode)
        raise KeyNotOpenedError(
            f"{setting}: {file} has mode {mode:04o}, which is open to others: 'chmod 600' it"
        )


def _make(file: Path) -> None:
    """Make the file whole or not at all; of two that try at once, one makes it.

    Raises:
        KeyNotOpenedError: It can't be written.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
                out.flush()
                # Without it what it sealed is lost: on disk before anything is sealed.
                os.fsync(out.fileno())
            _link(fresh, file)
        finally:
            fresh.unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyNotOpenedError(
            f"identity.key_file: {file} can't be made: {error.strerror}"
        ) from error


def _link(fresh: Path, file: Path) -> None:
    # Where somebody was faster, his is the one.
    with contextlib.suppress(FileExistsError):
        os.link(fresh, file)


ADAPTER: Adapter[KeyKeeper, Config] = Adapter(config=Config, build=SealedKeeper)
