"""The committed modules are what their sources compile to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IDENTITY = "protos/meshwarden/v1/identity"


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "protos.py", tmp_path / "tools")
    return tmp_path


def check(root: Path, cwd: Path) -> tuple[int, str]:
    """The exit status of the check, and what it said."""
    command = [sys.executable, str(root / "tools" / "protos.py"), "--check"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_committed_modules_are_fresh(tmp_path: Path) -> None:
    """They are, whatever folder the check is run from."""
    assert check(ROOT, cwd=tmp_path) == (0, "")


def test_a_changed_source_is_found(tree: Path) -> None:
    """A field renamed in the source alone fails the check."""
    source = tree / f"{IDENTITY}.proto"
    source.write_text(source.read_text().replace("bool tls", "bool is_tls"))
    status, said = check(tree, cwd=tree)
    assert status == 1
    assert f"{IDENTITY}_pb2.py: is not what its source compiles to" in said


def test_a_missing_and_an_orphaned_module_are_found(tree: Path) -> None:
    """So is a package without its __init__.py."""
    (tree / f"{IDENTITY}_pb2.pyi").unlink()
    (tree / "protos/gone_pb2.py").touch()
    (tree / "protos/meshwarden/__init__.py").unlink()
    status, said = check(tree, cwd=tree)
    assert status == 1
    assert said.splitlines()[:3] == [
        f"{IDENTITY}_pb2.pyi: missing",
        "protos/gone_pb2.py: has no source",
        "protos/meshwarden/__init__.py: missing",
    ]


def test_an_invalid_source_is_told_in_protocs_words(tree: Path) -> None:
    """With its line, and without a traceback."""
    (tree / f"{IDENTITY}.proto").write_text("nonsense")
    status, said = check(tree, cwd=tree)
    assert status == 1
    assert f"{IDENTITY}.proto:1:1" in said
    assert "Traceback" not in said
