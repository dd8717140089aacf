"""pycasbin's source distribution: the locked version, fetched once and kept in .cache/."""

import fcntl
import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["unpack_tests"]

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements" / "run.txt"
CACHE = ROOT / ".cache"


def unpack_tests(folder: Path) -> None:
    """Unpack the tests of the locked version under a folder; its package is left out.

    Raises:
        RuntimeError: The distribution can't be fetched, or is not the locked one.
    """
    with tarfile.open(_archive()) as archive:
        for member in archive.getmembers():
            parts = Path(member.name).parts
            if member.isfile() and parts[1:2] == ("tests",):
                member.name = str(Path(*parts[1:]))
                archive.extract(member, folder, filter="data")


def _archive() -> Path:
    version, hashes = _locked()
    path = CACHE / f"casbin-{version}.tar.gz"
    CACHE.mkdir(exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        # Two test runs at once: the second waits for the first to have fetched it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _fetch(version, hashes)
    if hashlib.sha256(path.read_bytes()).hexdigest() not in hashes:
        path.unlink()
        raise RuntimeError(f"{path.name} is not the locked one; it has been removed")
    return path


def _locked() -> tuple[str, list[str]]:
    """The version in requirements/run.txt, and the hashes of its distributions."""
    entry = re.search(
        r"^casbin==(\S+)((?: \\\n\s+--hash=sha256:\w+)+)", LOCK.read_text(), re.MULTILINE
    )
    if entry is None:
        raise RuntimeError("requirements/run.txt has no casbin")
    return entry[1], re.findall(r"sha256:(\w+)", entry[2])


def _fetch(version: str, hashes: list[str]) -> None:
    """Download by pip, which the project's own environment hasn't got."""
    venv = CACHE / "pip"
    wanted = CACHE / "casbin.txt"
    pins = " ".join(f"--hash=sha256:{each}" for each in hashes)
    wanted.write_text(f"casbin=={version} {pins}\n")
    pip = [str(venv / "bin" / "python"), "-I", "-m", "pip", "download", "-q", "-d", str(CACHE)]
    wanted_only = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", str(wanted)]
    for command in ([sys.executable, "-I", "-m", "venv", "--clear", str(venv)], pip + wanted_only):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"pycasbin's sources can't be fetched: {done.stderr[-500:]}")
