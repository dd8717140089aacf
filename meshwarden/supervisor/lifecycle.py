"""What an operating system must be asked for around the start and the end of a process.

One instance an address, no child without its parent, folders that only the owner reads, a clean
environment: each is a promise of its own, kept here and nowhere else.
"""

import ctypes
import importlib
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = [
    "AddressInUseError",
    "ForeignPackageError",
    "RuntimeDirError",
    "check_own_packages",
    "child_environment",
    "die_with_parent",
    "lock_address",
    "make_private_dir",
    "raise_file_limit",
]

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PACKAGES = ("adapters", "authz", "ca", "protos", "telemetry")
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "NO_COLOR", "SSL_CERT_FILE")
# sun_path holds 108 bytes; the longest name we put into a runtime directory needs this many.
_LONGEST_SOCKET_NAME = 40
_SUN_PATH_BYTES = 107


class AddressInUseError(Exception):
    """Another process serves this address; stop it or choose another `listen.address`."""


class RuntimeDirError(Exception):
    """A directory for state or sockets can't be used; the message says why and which setting."""


class ForeignPackageError(Exception):
    """A package of one of our names is somebody else's; run in an environment of our own."""


def check_own_packages() -> None:
    """Refuse to run on a package of one of our names that isn't ours.

    Raises:
        ForeignPackageError: `authz` or another was imported from elsewhere than `meshwarden`.
    """
    home = Path(importlib.import_module("meshwarden").__path__[0]).resolve().parent
    for name in _PACKAGES:
        found = Path(importlib.import_module(name).__path__[0]).resolve()
        if found.parent != home:
            raise ForeignPackageError(
                f"package {name!r} comes from {found}, not from Meshwarden in {home}: "
                "install Meshwarden into an environment of its own"
            )


def make_private_dir(path: Path, setting: str, *, holds_sockets: bool = False) -> None:
    """Make a directory that only its owner can enter, or check that it is one.

    Args:
        path: An absolute path; missing parents are made too.
        setting: The full key to name in an error.
        holds_sockets: Whether Unix sockets will be bound in it, which limits its length.

    Raises:
        RuntimeDirError: It can't be made, belongs to another user, is open to others and can't
            be closed, or is too long for a socket's name.
    """
    if holds_sockets and len(os.fsencode(path)) + 1 + _LONGEST_SOCKET_NAME > _SUN_PATH_BYTES:
        raise RuntimeDirError(
            f"{setting}: {path} is too long to hold sockets "
            f"(at most {_SUN_PATH_BYTES - 1 - _LONGEST_SOCKET_NAME} bytes)"
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise RuntimeDirError(f"{setting}: {path} is not a directory")
        if status.st_uid != os.geteuid():
            raise RuntimeDirError(f"{setting}: {path} belongs to uid {status.st_uid}")
        if status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise RuntimeDirError(f"{setting}: {path}: {error.strerror}") from error


def lock_address(host: str, port: int) -> socket.socket:
    """Take the address for this instance alone; held as long as the returned socket lives.

    SO_REUSEPORT, which our own fronts need, would let a second instance bind unseen and answer
    part of the calls. So the port is tried without it, and an abstract Unix socket, which lives
    in the same network namespace as the port and dies with its process, is the lock.

    Raises:
        AddressInUseError: Somebody listens there, or another instance is starting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressInUseError(
                f"listen.address: {host}:{port} can't be bound: {error.strerror}; "
                "another instance or program may be serving it"
            ) from error
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0meshwarden:{host}:{port}")
        except OSError as error:
            lock.close()
            raise AddressInUseError(
                f"listen.address: another Meshwarden instance holds {host}:{port}"
            ) from error
        return lock


def die_with_parent() -> Callable[[], None]:
    """Give a function for a child to run before exec, so that it dies when its parent does.

    The library is looked up here, before the fork: between fork and exec nothing may be loaded.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # It died between the fork and the line above.
            os._exit(1)

    return in_child


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Build a child's environment of a short list: a front runs policy code, no secret goes in."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1", **additions}


def raise_file_limit(wanted: int = 65_536) -> int:
    """Raise the soft limit of open files as far as allowed, at most to `wanted`; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return soft
