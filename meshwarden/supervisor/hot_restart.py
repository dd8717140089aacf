"""By what an Envoy and its heirs find each other: base ids, and what they leave on this machine.

Source: Envoy's documentation, "Hot restart", and the names that Envoy was seen to use.
"""

import secrets
from pathlib import Path

from meshwarden.files import RuntimeDir

__all__ = ["new_base_id", "remove_leftovers", "remove_sockets", "shared_memory"]

_BASE_IDS = 200_000_000  # Times ten, it still fits a signed 32-bit integer.
_EPOCHS_IN_STEM = 10
_EPOCH_NAMES = 3  # Envoy names its sockets by base id and epoch modulo this.


def _stem(base_id: int) -> int:
    """What Envoy makes of a base id in names: ten epochs have room beside each other."""
    return base_id * _EPOCHS_IN_STEM


def shared_memory(base_id: int) -> Path:
    """Where an Envoy and its heirs meet."""
    return Path("/dev/shm") / f"envoy_shared_memory_{_stem(base_id)}"  # noqa: S108 - Envoy's place


def new_base_id() -> int:
    """Pick an id that no other Envoy of this machine has.

    Envoy's own --use-dynamic-base-id picks ids that overflow when it multiplies them by ten.
    """
    while shared_memory(base_id := secrets.randbelow(_BASE_IDS)).exists():
        pass
    return base_id


def remove_sockets(runtime: RuntimeDir, base_id: int, epoch: int) -> None:
    """Remove the sockets of one dead Envoy."""
    number = _stem(base_id) + epoch % _EPOCH_NAMES
    for path in runtime.path.glob(f"{runtime.hot_restart_socket().name}_*"):
        if path.name.endswith(f"_{number}"):
            path.unlink(missing_ok=True)


def remove_leftovers(runtime: RuntimeDir) -> None:
    """Remove what the Envoys of a run that was killed have left, here and in shared memory."""
    for path in runtime.path.glob(f"{runtime.hot_restart_socket().name}_*"):
        number = path.name.rpartition("_")[2]
        if number.isdigit():
            shared_memory(int(number) // _EPOCHS_IN_STEM).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
