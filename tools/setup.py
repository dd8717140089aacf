"""Makes .venv from the locked requirements, on a machine with python3 (>= 3.11) and little else.

    python3 -m tools.setup run      what the service and the demo need
    python3 -m tools.setup dev      that, and what the tests and the linters need

Imports the standard library only, and stays readable by older Pythons so that they can be told
what is wrong. A stamp in .venv remembers what was installed, so that the second call is quick.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from tools import debian

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
# uv lives beside .venv, not in it: the service's environment holds only what the service needs.
UV_VENV = ROOT / ".venv-uv"
LOCKS = {"run": "run.txt", "dev": "dev.txt"}
# dev.txt is locked on top of run.txt, so whoever has dev has run.
BRINGS = {"run": ("run",), "dev": ("run", "dev")}
# What pip is told by the user's environment, said in uv's words: a mirror is used by both.
UV_NAMES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
}
OLDEST = (3, 11)


class SetupError(Exception):
    """The environment cannot be made; the message says what the user can do about it."""


def say(text: str) -> None:
    """Print one line for the user, on stderr so that a program's own output stays clean."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fingerprint(wanted: str, root: Path = ROOT) -> str:
    """Hash everything that an installed set follows from.

    Args:
        wanted: "run" or "dev".
        root: The project's folder.

    Returns:
        64 hex digits, which change with the lock file, the packaging or this program.
    """
    files = ["pyproject.toml", "tools/setup.py", f"requirements/{LOCKS[wanted]}"]
    digest = hashlib.sha256()
    for name in files:
        digest.update((root / name).read_bytes() + b"\0")
    return digest.hexdigest()


def is_fresh(wanted: str, root: Path = ROOT) -> bool:
    """Tell whether the set was installed from the files as they are now."""
    stamp = root / ".venv" / f".installed-{wanted}"
    return stamp.is_file() and stamp.read_text() == fingerprint(wanted, root)


def is_made_by(home: Path, venv: Path = VENV) -> bool:
    """Tell whether the environment works and stands on the interpreter in this folder."""
    try:
        lines = (venv / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home":
            return (venv / "bin" / "python").exists() and Path(value.strip()).resolve() == home
    return False


def own_home() -> Path:
    """Return the folder of the interpreter that runs this, seen through any virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent


def is_debian_python() -> bool:
    """Tell whether apt-get can mend this interpreter: Debian's own is the one under /usr/bin."""
    return own_home() == Path("/usr/bin") and Path("/etc/debian_version").exists()


def offer_package(package: str, why: str) -> None:
    """Install a Debian package that the interpreter lacks, or say how.

    Raises:
        SetupError: It could not be installed from here.
    """
    if not is_debian_python():
        raise SetupError(f"{sys.executable} {why}; use another interpreter: make PYTHON=...")
    if not debian.may_install():
        raise SetupError(f"python3 {why}; Debian has it apart: {debian.command_for([package])}")
    say(f"python3 {why}: installing {package} with apt-get")
    fault = debian.install([package])
    if fault:
        raise SetupError(f"python3 {why}, and {package} could not be installed. {fault}")
    importlib.invalidate_caches()


def check_interpreter() -> None:
    """Make sure that this interpreter can make virtual environments.

    Raises:
        SetupError: It is too old, or lacks a module that could not be installed.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info[:2] < OLDEST:
        raise SetupError(f"Python {version} is too old, 3.11 is needed: make PYTHON=python3.11")
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        offer_package(f"python{version}-venv", "has no venv module")


def run(*arguments: object, **environment: str) -> None:
    """Run a command in the project's folder, its output shown only if it fails.

    Raises:
        SetupError: It failed; the message is its output.
    """
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise SetupError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SetupError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def find_uv() -> Path | None:
    """Return the locked uv, installed beside .venv on first use, or None where it can't be had."""
    uv = UV_VENV / "bin" / "uv"
    stamp = UV_VENV / ".installed"
    lock = ROOT / "requirements" / "uv.txt"
    if uv.exists() and stamp.exists() and stamp.read_text() == lock.read_text():
        return uv
    try:
        say("installing uv")
        run(sys.executable, "-m", "venv", "--clear", UV_VENV)
        run(
            UV_VENV / "bin" / "python", "-m", "pip", "install", "-q", "--require-hashes", "-r", lock
        )
        run(uv, "--version")
    except SetupError as error:
        say(f"going on with pip, since uv cannot be had here: {str(error).strip()}")
        return None
    stamp.write_text(lock.read_text())
    return uv


def install_with_uv(uv: Path, wanted: str, *, remake: bool) -> None:
    """Make the environment and install the set with uv.

    Raises:
        SetupError: uv failed.
    """
    told = {
        theirs: os.environ[pips]
        for pips, theirs in UV_NAMES.items()
        if os.environ.get(pips) and theirs not in os.environ
    }
    if remake:
        run(uv, "venv", "-q", "--clear", "--python", sys.executable, VENV, **told)
    install = [uv, "pip", "install", "-q", "--python", VENV]
    run(*install, "--require-hashes", "-r", f"requirements/{LOCKS[wanted]}", **told)
    run(*install, "--no-deps", "--no-build-isolation", "-e", ".", **told)


def install_with_pip(wanted: str, *, remake: bool) -> None:
    """Make the environment and install the set with pip.

    Raises:
        SetupError: pip failed.
    """
    # Without --clear this also adds pip to an environment that uv made without it.
    run(sys.executable, "-m", "venv", *(["--clear"] if remake else []), VENV)
    install = [VENV / "bin" / "python", "-m", "pip", "install", "-q"]
    run(*install, "--require-hashes", "-r", f"requirements/{LOCKS[wanted]}")
    run(*install, "--no-deps", "--no-build-isolation", "-e", ".")


def check_libpython() -> None:
    """Look for the shared libpython that a front embeds, and say what follows without it."""
    look = "import find_libpython; print(find_libpython.find_libpython() or '')"
    python = VENV / "bin" / "python"

    def found() -> bool:
        done = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
        return bool(done.stdout.strip())

    if found():
        return
    package = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        offer_package(package, "has no shared libpython")
    except SetupError as error:
        say(str(error))
    if not found():
        say("going on without it: the service answers through grpcio, slower, instead of fronts")


def set_up(wanted: str, *, insist: bool) -> None:
    """Bring .venv to the wanted set, doing nothing where it is there.

    Args:
        wanted: "run" or "dev".
        insist: Make .venv again if another interpreter made it.

    Raises:
        SetupError: It could not be done.
    """
    works = (VENV / "bin" / "python").exists()
    remake = not works or (insist and not is_made_by(own_home()))
    if not remake and is_fresh(wanted):
        return
    check_interpreter()
    for stamp in VENV.glob(".installed-*"):
        stamp.unlink()
    uv = find_uv()
    say(f"installing requirements/{LOCKS[wanted]} into .venv with {'uv' if uv else 'pip'}")
    try:
        if uv is None:
            install_with_pip(wanted, remake=remake)
        else:
            install_with_uv(uv, wanted, remake=remake)
    except SetupError as error:
        if uv is None:
            raise
        # uv reads less of the machine's settings than pip does (proxies, pip.conf, mirrors).
        say(f"going on with pip, since uv failed: {error}")
        install_with_pip(wanted, remake=remake)
    check_libpython()
    for name in BRINGS[wanted]:
        (VENV / f".installed-{name}").write_text(fingerprint(name))


def main() -> int:
    """Read the command line; the exit status is 1 where the environment could not be made."""
    parser = argparse.ArgumentParser(description="Makes .venv from the locked requirements.")
    parser.add_argument("wanted", choices=sorted(LOCKS))
    parser.add_argument("--insist", action="store_true", help="remake a .venv of other Python")
    options = parser.parse_args()
    try:
        set_up(options.wanted, insist=options.insist)
    except SetupError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
