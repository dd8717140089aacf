"""Checks that no committed text names a package registry's host or a path of one machine.

Both make a checkout work in one place only: mirrors and proxies are the machine's own business.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Written so that no pattern matches its own text.
FORBIDDEN = {
    "a registry's host": re.compile(
        r"\b(?:(?:files\.)?python(?:hosted)\.org|pypi\.(?:org|io)|(?:registry\.)?npmjs\.(?:org|com)"
        r"|(?:docker|ghcr|quay|gcr)\.(?:io)\b|crates\.(?:io)|repo\d?\.maven\.(?:org)"
        r"|(?:proxy|sum)\.golang\.(?:org)|(?:deb|security|snapshot)\.debian\.(?:org))"
    ),
    "a path of one machine": re.compile(
        r"(?<![\w.])/(?:work/(?:main|shared)|root/|home/[a-z]+/|tmp/(?:lab)|opt/(?:wheels))"
    ),
}


def faults(name: str, text: str) -> list[str]:
    """List what is wrong in one file, as "file:line: what"."""
    return [
        f"{name}:{number}: names {what}: {match.group()}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in FORBIDDEN.items()
        if (match := pattern.search(line))
    ]


def main() -> int:
    """Check every file that git knows; the exit status is 1 if any has a fault."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: list[str] = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file():  # a file may be deleted and not yet committed
            found += faults(name, path.read_text(errors="replace"))
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
