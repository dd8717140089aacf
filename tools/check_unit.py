"""Checks the systemd units: that systemd can read them and that they stay hardened.

`systemd-analyze` does both where it is installed; without it only the list below is checked.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "systemd"
UNIT = FOLDER / "meshwarden.service"
AGENT = FOLDER / "meshwarden-agent.service"
# systemd's own scale: 0 is locked up, 10 is wide open; a service without any setting has 9.6. The
# agent looks at other users' processes.
WORST_EXPOSURE = {UNIT: 2.0, AGENT: 3.0}
NEEDED = {
    UNIT: (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=meshwarden",
        "RuntimeDirectory=meshwarden",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        "SystemCallFilter=@system-service mincore",
        "MemoryDenyWriteExecute=yes",
        "CapabilityBoundingSet=",
    ),
    AGENT: (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=meshwarden-agent",
        "StateDirectoryMode=0700",
        "RuntimeDirectory=meshwarden-agent",
        "RuntimeDirectoryMode=0755",
        "MemoryDenyWriteExecute=yes",
        "CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH",
    ),
}


def faults(text: str, path: Path = UNIT) -> list[str]:
    """List the settings that a unit has to have and has not."""
    lines = {line.strip() for line in text.splitlines()}
    return [f"{path.name}: lacks {setting}" for setting in NEEDED[path] if setting not in lines]


def analyze(text: str, path: Path = UNIT) -> list[str]:
    """List what systemd-analyze says against a unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        print("systemd-analyze is not here: only the list of settings was checked")
        return []
    with tempfile.TemporaryDirectory() as folder:
        # The program is not installed where the unit says; "verify" insists on one that exists.
        unit = Path(folder) / path.name
        unit.write_text(text.replace("/opt/meshwarden/bin/meshwarden", sys.executable))
        # --man=no: manual pages are not installed on small machines.
        verify = ["verify", "--man=no", str(unit)]
        limit = f"--threshold={int(WORST_EXPOSURE[path] * 10)}"
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
    """Check the units; the exit status is 1 if anything is wrong with one."""
    found = []
    for path in NEEDED:
        text = path.read_text()
        found += faults(text, path) + analyze(text, path)
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
