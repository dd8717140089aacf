"""Checks the systemd unit: that systemd can read it and that it stays hardened.

`systemd-analyze` does both where it is installed; without it only the list below is checked.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

UNIT = Path(__file__).resolve().parent.parent / "deploy" / "systemd" / "meshwarden.service"
# systemd's own scale: 0 is locked up, 10 is wide open; a service without any setting has 9.6.
WORST_EXPOSURE = 2.0
NEEDED = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "StateDirectory=meshwarden",
    "RuntimeDirectory=meshwarden",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "SystemCallFilter=@system-service mincore",
    "MemoryDenyWriteExecute=yes",
    "CapabilityBoundingSet=",
)


def faults(text: str) -> list[str]:
    """List the settings that the unit has to have and has not."""
    lines = {line.strip() for line in text.splitlines()}
    return [f"{UNIT.name}: lacks {setting}" for setting in NEEDED if setting not in lines]


def analyze(text: str) -> list[str]:
    """List what systemd-analyze says against the unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        print("systemd-analyze is not here: only the list of settings was checked")
        return []
    with tempfile.TemporaryDirectory() as folder:
        # The program is not installed where the unit says; "verify" insists on one that exists.
        unit = Path(folder) / UNIT.name
        unit.write_text(text.replace("/opt/meshwarden/bin/meshwarden", sys.executable))
        # --man=no: manual pages are not installed on small machines.
        verify = ["verify", "--man=no", str(unit)]
        limit = f"--threshold={int(WORST_EXPOSURE * 10)}"
        security = ["security", "--offline=yes", "--no-pager", limit, str(unit)]
        said = []
        for arguments in (verify, security):
            done = subprocess.run(
                [program, *arguments], capture_output=True, text=True, check=False
            )
            if done.returncode:
                said.append(f"systemd-analyze {arguments[0]}:\n{done.stdout}{done.stderr}")
    return said


def main() -> int:
    """Check the unit; the exit status is 1 if anything is wrong with it."""
    text = UNIT.read_text()
    found = faults(text) + analyze(text)
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
