"""Debian packages: what is missing, the command that brings it, and running it where we may.

Imported before anything is installed and by the tests, so it needs the standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["command_for", "install", "may_install"]

# A machine's own timer may hold dpkg's lock for a while; waiting beats failing.
APT_GET = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120")


def command_for(packages: Sequence[str]) -> str:
    """Spell the command that a person would type to install the packages."""
    return f"sudo apt-get install {' '.join(packages)}"


def may_install() -> bool:
    """Tell whether apt-get is here and we are root, so that nobody has to be asked."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str], run: Callable[..., object] = subprocess.run) -> str:
    """Install the packages with apt-get, asking nothing.

    Args:
        packages: Names of Debian packages.
        run: Stands in for subprocess.run in tests.

    Returns:
        "" when it worked, else what apt-get said, to be shown to the user.
    """
    environment: Mapping[str, str] = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        # A fresh image has empty package lists: without an update nothing can be found.
        ["update"],
        ["install", "-y", "--no-install-recommends", *packages],
    ):
        try:
            run(
                [*APT_GET, *arguments],
                env=environment,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            return f"apt-get {arguments[0]} failed:\n{error.stdout}"
        except OSError as error:
            return f"apt-get {arguments[0]} failed: {error}"
    return ""
