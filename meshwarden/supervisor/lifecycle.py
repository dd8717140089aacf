"""What an operating system must be asked for around the start and the end of a process.

One instance an address, no child without its parent, folders that only the owner reads, a clean
environment: each is a promise of its own, kept here and nowhere else.
"""

import contextlib
import ctypes
import errno
import fcntl
import importlib
import ipaddress
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from meshwarden.settings import Address

__all__ = [
    "AddressInUseError",
    "ForeignPackageError",
    "RuntimeDirError",
    "check_own_packages",
    "child_environment",
    "die_with_parent",
    "lock_address",
    "lock_dir",
    "make_private_dir",
    "raise_file_limit",
]

_LOCK = "meshwarden:"
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
        RuntimeDirError: It can't be made, belongs to another user, is open to others and not
            empty, or is too long for a socket's name.
    """
    if holds_sockets and len(os.fsencode(path)) + 1 + _LONGEST_SOCKET_NAME > _SUN_PATH_BYTES:
        raise RuntimeDirError(
            f"{setting}: {path} is too long to hold sockets "
            f"(at most {_SUN_PATH_BYTES - 1 - _LONGEST_SOCKET_NAME} bytes)"
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise RuntimeDirError(f"{setting}: {path} belongs to uid {status.st_uid}")
        if status.st_mode & 0o077:
            # Somebody who names /tmp or /var/lib by mistake must not lock everybody out of it.
            if any(path.iterdir()):
                raise RuntimeDirError(
                    f"{setting}: {path} is open to other users and holds something already; name "
                    f"a folder that is Meshwarden's alone, or 'chmod 700' this one if it is"
                )
            path.chmod(0o700)
    except FileExistsError as error:
        raise RuntimeDirError(f"{setting}: {path} is not a directory") from error
    except OSError as error:
        raise RuntimeDirError(f"{setting}: {path}: {error.strerror}") from error


@contextlib.contextmanager
def lock_address(address: Address, setting: str) -> Iterator[None]:
    """Hold the address for this instance alone.

    SO_REUSEPORT, which our own fronts need, would let a second instance bind unseen and answer
    part of the calls. So the port is tried without it. Between that and a front's own bind there
    is a gap, so the lock proper is an abstract Unix socket: it lives in the same network namespace
    as the port and dies with its process.

    Args:
        address: 0.0.0.0 and [::] overlap every other of the same port.
        setting: The full key to name in an error.

    Raises:
        AddressInUseError: Somebody listens there, another instance holds it or one that overlaps,
            or it is no address of this machine.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        held = f"{setting}: another Meshwarden instance holds"
        try:
            lock.bind(f"\0{_LOCK}{address}")
        except OSError as error:
            raise AddressInUseError(f"{held} {address}") from error
        # Two that start at once see each other here, and neither goes on: better than both.
        for other in _locked():
            if other.port == address.port and other != address and _any_is_wild(other, address):
                raise AddressInUseError(f"{held} {other}, which overlaps {address}")
        _probe(address, setting)
        yield


def _locked() -> Iterator[Address]:
    """Give the addresses that instances hold. Source: proc(5), /proc/net/unix."""
    prefix = f"@{_LOCK}"
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines():
        name = line.rpartition(" ")[2]
        if name.startswith(prefix):
            with contextlib.suppress(ValueError):  # Anybody may make a name like ours.
                yield Address.parse(name.removeprefix(prefix))


def _any_is_wild(*addresses: Address) -> bool:
    return any(ipaddress.ip_address(each.host).is_unspecified for each in addresses)


def _probe(address: Address, setting: str) -> None:
    """Find out whether anybody else listens there, or somewhere that overlaps."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run that are still ending are no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            hint = ""
            if error.errno == errno.EADDRINUSE:
                hint = "; another program serves it: stop that one, or take another port"
            raise AddressInUseError(
                f"{setting}: {address} can't be bound: {error.strerror}{hint}"
            ) from error


@contextlib.contextmanager
def lock_dir(path: Path, setting: str) -> Iterator[None]:
    """Hold a directory for this instance alone, by whichever name it is reached.

    Raises:
        RuntimeDirError: Another instance uses it.
    """
    # A lock on the folder itself, which only its owner can open: any user of the machine could hold
    # a name that stands for it. It dies with the process, and no child inherits it.
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeDirError(
                f"{setting}: another Meshwarden instance uses {path}; each needs its own"
            ) from error
        yield
    finally:
        os.close(folder)


def die_with_parent() -> Callable[[], None]:
    """Give a function for a child to run before exec, so that it dies when its parent does.

    It also makes the child deaf to SIGHUP until it asks for it: a reload that comes while control
    is starting would end it otherwise.

    The library is looked up here, before the fork: between fork and exec nothing may be loaded.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # It died between the fork and the line above.
            os._exit(1)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    return in_child


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Build a child's environment of a short list: a front runs policy code, no secret goes in."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        **inherited,
        # A child finds the code where we found ours, from a checkout too.
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        **additions,
    }


def raise_file_limit(wanted: int = 65_536) -> int:
    """Raise the soft limit of open files as far as allowed, at most to `wanted`; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return soft
