"""The descriptors of xds-protos, read by a Python of its own.

xds-protos can't be in our environment: it overwrites files of the packages we run on, and one
process takes no two declarations of one message.
"""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.wire import describe

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "wire.txt"
CLIENTS = ROOT / "requirements" / "interop.txt"


def declared_by_oracle(modules: list[str], lock_file: Path = LOCK) -> describe.Declared:
    """What these modules of somebody else's declare.

    Args:
        modules: Import names, such as "envoy.type.v3.http_status_pb2".
        lock_file: Of the environment that has them; that of xds-protos unless it is said.
    """
    # Isolated: a PYTHONPATH of ours would bring our packages in.
    command = [str(environment(lock_file) / "bin" / "python"), "-I", describe.__file__, *modules]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: describe.Declared = json.loads(answer.stdout)
    return found


def environment(lock_file: Path = LOCK) -> Path:
    """The virtual environment of a lock file, made on first use and kept in .cache/."""
    tag = f"{lock_file.read_bytes().hex()}{sys.version}"
    digest = hashlib.sha256(tag.encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / f"{lock_file.stem}-{digest}"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        # Two test runs at once: the second waits for the first to have made it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "made"
        if not made.exists():
            make_environment(folder, lock_file)
            made.touch()
    return folder


def make_environment(folder: Path, lock_file: Path = LOCK) -> None:
    """Installs what is locked with uv where there is one, else with pip."""
    for place in (None, ROOT / ".venv-uv" / "bin", Path(sys.prefix) / "bin"):
        if uv := shutil.which("uv", path=place):
            make = [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)]
            install = [uv, "pip", "install", "-q", "--python", str(folder)]
            break
    else:
        make = [sys.executable, "-I", "-m", "venv", "--clear", str(folder)]
        install = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "-q"]
    subprocess.run(make, check=True)
    locked = ["--require-hashes", "-r", str(lock_file)]
    subprocess.run([*install, *locked], check=True)
