"""The shim puts our classes where programs look for pycasbin's, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

from authz.casbin import shim

_SHOW = (
    "import casbin, casbin.enforcer, casbin.synced_enforcer\n"
    "from casbin.enforcer import Enforcer\n"
    "print(casbin.Enforcer.__module__, Enforcer.__module__,"
    " casbin.synced_enforcer.Enforcer.__module__)"
)


def run(*command: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the shim as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    whole = [sys.executable, "-m", "authz.casbin.shim", *command]
    return subprocess.run(whole, check=False, capture_output=True, text=True, env=environment)


def test_a_program_gets_our_classes_by_every_import() -> None:
    """From the package and from its modules."""
    done = run("--", sys.executable, "-c", _SHOW)
    assert done.stdout.split() == ["authz.casbin.enforcer"] * 3


def test_a_program_that_a_program_starts_gets_them_too() -> None:
    """As a test runner's workers."""
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_SHOW!r}])"
    assert run("--", sys.executable, "-c", inner).stdout.split()[:1] == ["authz.casbin.enforcer"]


def test_a_sitecustomize_of_the_environment_still_runs(tmp_path: Path) -> None:
    """Ours goes before it, not in its place."""
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    done = run("--", sys.executable, "-c", _SHOW, path=tmp_path)
    # The shim's own Python has printed it once already.
    assert done.stdout.split()[1:] == ["theirs", *["authz.casbin.enforcer"] * 3]


def test_the_commands_exit_code_is_ours() -> None:
    """And a command that there isn't is said to be none."""
    assert run("--", sys.executable, "-c", "raise SystemExit(7)").returncode == 7
    missing = run("--", "no-such-command-here")
    assert (missing.returncode, "no-such-command-here" in missing.stderr) == (127, True)
    assert run().returncode == 2
    assert run("--", "-c", "raise SystemExit(8)").returncode == 8
    assert shim.main([]) == 2


def test_as_a_plugin_of_pytest_it_is_there_before_a_conftest(tmp_path: Path) -> None:
    """A conftest that imports a class gets ours."""
    (tmp_path / "conftest.py").write_text("from casbin import Enforcer\n")
    (tmp_path / "test_it.py").write_text(
        "from conftest import Enforcer\n"
        "def test_it():\n    assert Enforcer.__module__ == 'authz.casbin.enforcer'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "authz.casbin.shim", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
