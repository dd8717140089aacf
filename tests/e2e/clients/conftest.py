"""Other people's clients, as they come."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

GRPCURL = "v1.9.3"
ROOT = Path(__file__).resolve().parents[3]
BUILD_S = 300


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """Build grpcurl where Go is, once for this working tree; without Go, skip."""
    program = ROOT / ".cache" / f"grpcurl-{GRPCURL}" / "grpcurl"
    if program.exists():
        return program
    if shutil.which("go") is None:
        pytest.skip("needs a program that is not here: go (https://go.dev/dl), to build grpcurl")
    built = subprocess.run(
        ["go", "install", f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{GRPCURL}"],
        env={**os.environ, "GOBIN": str(program.parent), "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_S,
    )
    if built.returncode:
        reason = f"grpcurl could not be built: {built.stderr.strip()}"
        # Nobody would notice a skip there.
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return program
