"""`meshwarden policy` against a service, as its owner runs it: piped, or at a terminal."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.support.service import Service

__all__ = ["at_terminal", "command", "folder_of", "told"]

_COMMAND = (sys.executable, "-m", "meshwarden", "policy")


def folder_of(parent: Path, name: str, text: str | Mapping[str, str]) -> Path:
    """Write a policy folder: of one file, or of several by name."""
    made = parent / name
    made.mkdir(exist_ok=True)
    for file, content in ({"policy.csv": text} if isinstance(text, str) else text).items():
        (made / file).write_text(content)
    return made


def command(service: Service, *arguments: object) -> tuple[int, str]:
    """Run a command to its end; give exit code and what it said."""
    done = subprocess.run(_line(service, arguments), capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def told(service: Service, *arguments: object) -> Any:
    """Run a command to its end; give what it says to programs."""
    code, said = command(service, *arguments, "-o", "json")
    assert code == 0, said
    return json.loads(said)


def at_terminal(service: Service, answer: str, *arguments: object) -> tuple[int, str]:
    """Run a command on a terminal of its own, and answer what it asks, if it does."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    with subprocess.Popen(
        _line(service, arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        shown, is_answered = b"", False
        try:
            while more := os.read(ours, 4096):
                shown += more
                if b"[y/N] " in shown and not is_answered:
                    os.write(ours, f"{answer}\n".encode())
                    is_answered = True
        except OSError:
            pass  # Linux' way to say that the other end is closed.
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def _line(service: Service, arguments: tuple[object, ...]) -> list[str]:
    return [*_COMMAND, *map(str, arguments), "--config", str(service.config)]
