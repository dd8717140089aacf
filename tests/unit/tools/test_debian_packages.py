"""A missing Debian package is installed, or said aloud, and never goes unnoticed in CI."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import debian

ROOT = Path(__file__).resolve().parents[3]
NEEDY = """
import pytest

@pytest.mark.requires_debian_package("no-such-package", command="no-such-command")
def test_needy():
    raise AssertionError("ran without its program")

@pytest.mark.requires_debian_package("coreutils", command="sh")
def test_served():
    pass
"""


def run_needy(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    """Run the tests above in a pytest of their own, with our conftest."""
    (folder / "test_needy.py").write_text(NEEDY)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-ra",
            "-p",
            "tests.conftest",
            f"--rootdir={folder}",
            folder,
        ],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_its_program_a_test_is_skipped_with_the_command_that_brings_it(
    tmp_path: Path,
) -> None:
    """The summary names the package; the rest of the tests run."""
    done = run_needy(tmp_path, ci="")
    assert done.returncode == 0, done.stdout
    assert "sudo apt-get install no-such-package" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout


def test_in_ci_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    """A skip would pass for a success there."""
    done = run_needy(tmp_path, ci="true")
    assert done.returncode == 1
    assert "sudo apt-get install no-such-package" in done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_package_lists_are_fetched_before_anything_is_installed() -> None:
    """A fresh image has empty lists, and nobody is there to answer questions."""
    ran: list[list[str]] = []

    def note(command: list[str], **settings: object) -> None:
        environment = settings["env"]
        assert isinstance(environment, dict)
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"
        assert settings["stdin"] == subprocess.DEVNULL
        ran.append(command)

    assert debian.install(["nghttp2-client", "redis"], run=note) == ""
    assert [command[-1] for command in ran] == ["update", "redis"]


@pytest.mark.parametrize("step", ["update", "install"])
def test_what_apt_get_said_reaches_the_user(step: str) -> None:
    """A failure is text to show, not an exception: the tests go on without the package."""

    def fail(command: list[str], **_: object) -> None:
        if step in command:
            raise subprocess.CalledProcessError(100, command, output="E: no network")

    assert debian.install(["redis"], run=fail) == f"apt-get {step} failed:\nE: no network"
