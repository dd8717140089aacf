"""Private keys in this process alone: for trying things out, and for who wants no key on a disk.

A restart loses them: new authorities are made then, and what the old ones have signed is believed
until it ends.
"""

from dataclasses import dataclass

from typing_extensions import override

from adapters.spec import Adapter
from ca.errors import KeyNotOpenedError
from ca.keeper import KeyKeeper
from ca.keys import PrivateKey

__all__ = ["ADAPTER", "Config"]

_HANDLE = b"memory"


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the keeper: there are none."""


class MemoryKeeper(KeyKeeper):
    """A dict of keys."""

    def __init__(self, _config: Config) -> None:
        self._keys: dict[str, PrivateKey] = {}

    @override
    def put(self, key_id: str, key: PrivateKey) -> bytes:
        self._keys[key_id] = key
        return _HANDLE

    @override
    def get(self, key_id: str, handle: bytes) -> PrivateKey:
        if handle != _HANDLE or key_id not in self._keys:
            raise KeyNotOpenedError(
                f"identity.keeper is 'memory', and the key {key_id[:16]} in the database was never "
                "in this process's: take the keeper that has it. Nothing was made in its place"
            )
        return self._keys[key_id]

    @override
    def has_lost(self, key_id: str, handle: bytes) -> bool:
        return handle == _HANDLE and key_id not in self._keys


ADAPTER: Adapter[KeyKeeper, Config] = Adapter(config=Config, build=MemoryKeeper)
