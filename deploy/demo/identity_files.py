"""Callers without an Envoy: certificates in files, kept fresh by `meshwarden identity write`."""

import os
import sys
from pathlib import Path

from deploy.demo.certificates import Credential
from deploy.demo.processes import Child, wait_until

__all__ = ["IdentityFiles"]

READY_S = 20.0


class IdentityFiles(Child):
    """The program that writes one caller's files, and writes them again before they expire."""

    def __init__(self, folder: Path, name: str, spiffe_id: str, agent_socket: Path) -> None:
        """Start it.

        Args:
            folder: Holds a folder for each caller.
            name: The caller's.
            spiffe_id: Which of this user's identities.
            agent_socket: Whom to ask.
        """
        files = folder / name
        files.mkdir(parents=True)
        self.credential = Credential(files / "svid.pem", files / "svid.key")
        self.bundle = files / "bundle.pem"
        command = [sys.executable, "-m", "meshwarden", "identity", "write"]
        command += ["--dir", str(files), "--spiffe-id", spiffe_id]
        command += ["--socket", f"unix://{agent_socket}"]
        super().__init__(f"identity write {name}", command, folder / f"{name}.log", os.environ)

    def wait_ready(self) -> None:
        """Wait for the first files.

        Raises:
            DemoError: It ended or takes too long.
        """
        files = (self.credential.certificate, self.credential.key, self.bundle)
        wait_until(lambda: all(file.exists() for file in files), [self], READY_S)
