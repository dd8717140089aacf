"""An identity as files, for software that knows nothing of SPIFFE: all of a set, or none of it.

The files lie in a folder of their own, and their names in the folder that people use are links
through one link, `..data`. Replacing that one link replaces all of them at once, as Kubernetes does
with its volumes: no process ever opens the new certificate and then the old key.

    credential-bundle.private-key.pem      the key and the chain in one file
    TRUST_DOMAIN.spiffe-trust-bundle.pem   the authorities of each trust domain
    svid.pem  svid.key  bundle.pem         the same, apart: for what wants files of its own

Source: SPIFFE Filesystem Delivery, section 2, for the first two.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from meshwarden.pem import certificates_pem
from meshwarden.workload_client import FetchedSvid, Update

__all__ = ["CredentialFolderError", "has_credentials", "write_credentials"]

_DATA = "..data"
_SET = "..set-"
_MODE = 0o600


class CredentialFolderError(Exception):
    """The folder can't be used; the message says why. What was there is there still."""


def write_credentials(folder: Path, svid: FetchedSvid, update: Update) -> None:
    """Write one identity and all bundles, replacing the set that was there.

    Args:
        folder: Made with mode 0700 if it isn't there.
        svid: Whose key and certificate.
        update: Where the bundles are from.

    Raises:
        CredentialFolderError: A name is taken by what we didn't write.
        OSError: It can't be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = _files(svid, update)
    with _alone(folder):
        _check_names(folder, files)
        _replace(folder, svid.serial, files)


def has_credentials(folder: Path, svid: FetchedSvid, update: Update) -> bool:
    """Whether there is each file of a set, whatever is in it; no where that can't be seen."""
    try:
        return all((folder / name).exists() for name in _files(svid, update))
    except OSError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others who write there away: each takes the sets of before for what is left over."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _check_names(folder: Path, names: Mapping[str, str]) -> None:
    """Refuse to go on beside a file or a link of somebody else's: it would stay what it is."""
    for name in names:
        link = folder / name
        if not (_is_ours(link) or (not link.is_symlink() and not link.exists())):
            raise CredentialFolderError(f"{link} is there, and not ours: move it away")


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and os.readlink(link) == f"{_DATA}/{link.name}"  # noqa: PTH115 - may dangle


def _replace(folder: Path, serial: str, files: Mapping[str, str]) -> None:
    data = folder / _DATA
    old = Path(os.readlink(data)).name if data.is_symlink() else ""  # noqa: PTH115 - it may dangle
    # Step 1: the new set, whole and on disk, where nobody looks yet.
    made = folder / f"{_SET}{serial}-{secrets.token_hex(4)}"
    made.mkdir(mode=0o700)
    try:
        for name, text in files.items():
            _write(made / name, text)
    except OSError:  # A full disk, mostly: it is not to hold half a set as well.
        shutil.rmtree(made, ignore_errors=True)
        raise
    # Step 2: the one link that all names go through.
    _link(data, made.name)
    # Step 3: names that weren't there, and those that are no more.
    for name in files:
        if not (folder / name).is_symlink():
            _link(folder / name, f"{_DATA}/{name}")
    for link in folder.iterdir():
        if link.name not in files and _is_ours(link) and not link.exists():
            link.unlink()
    # Step 4: older sets; the last one stays for who has just gone through the link.
    for each in folder.glob(f"{_SET}*"):
        if each.name not in {made.name, old}:
            shutil.rmtree(each, ignore_errors=True)


def _files(svid: FetchedSvid, update: Update) -> dict[str, str]:
    key = load_der_private_key(svid.key, None)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    chain = certificates_pem(svid.chain)
    own = next(iter(update.bundles.values()))
    return {
        "credential-bundle.private-key.pem": key_pem + chain,
        **{
            f"{name}.spiffe-trust-bundle.pem": certificates_pem(authorities)
            for name, authorities in update.bundles.items()
        },
        "svid.pem": chain,
        "svid.key": key_pem,
        "bundle.pem": certificates_pem(own),
    }


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _link(path: Path, target: str) -> None:
    """Put a link in place of whatever link was there, in one step."""
    beside = path.with_name(f"..link-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    beside.symlink_to(target)
    beside.replace(path)
