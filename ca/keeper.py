"""The port that private keys are kept behind."""

from typing import Protocol

from ca.keys import PrivateKey

__all__ = ["KeyKeeper"]


class KeyKeeper(Protocol):
    """Keeps the private keys of authorities.

    The database keeps a handle beside each public part: enough for this keeper to find the key
    again, worthless to anybody else. An implementation promises: a key that `put` has taken is
    what `get` gives, after a restart too unless it says otherwise; a handle that doesn't open is
    an error, never another key; no message has a part of a key in it.
    """

    def put(self, key_id: str, key: PrivateKey) -> bytes:
        """Take a key; give its handle, never empty.

        Raises:
            KeyNotOpenedError: It can't be kept, as when what seals it can't be had.
        """
        ...

    def get(self, key_id: str, handle: bytes) -> PrivateKey:
        """Find a key again.

        Raises:
            KeyNotOpenedError: It can't be had; the message names the setting that is to blame.
        """
        ...

    def has_lost(self, key_id: str, handle: bytes) -> bool:
        """Whether the handle is this keeper's, and a restart has lost its key on purpose.

        A new authority is then made in its place; of a handle by another keeper it is never true.
        """
        ...
