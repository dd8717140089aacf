"""The environment is made once, and again when what it was made from has changed."""

from pathlib import Path

import pytest

from tools import setup


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lay out the files that an environment follows from."""
    for folder in ("tools", "requirements", ".venv"):
        (tmp_path / folder).mkdir()
    for name in (
        "pyproject.toml",
        "tools/setup.py",
        "requirements/run.txt",
        "requirements/dev.txt",
    ):
        (tmp_path / name).write_text(name)
    return tmp_path


def install(wanted: str, project: Path) -> None:
    """Leave the stamp that a successful installation leaves."""
    (project / ".venv" / f".installed-{wanted}").write_text(setup.fingerprint(wanted, project))


def test_what_is_installed_is_not_installed_again(project: Path) -> None:
    """A second start costs a few hashes."""
    assert not setup.is_fresh("run", project)
    install("run", project)
    assert setup.is_fresh("run", project)
    assert not setup.is_fresh("dev", project)


@pytest.mark.parametrize("changed", ["pyproject.toml", "tools/setup.py", "requirements/run.txt"])
def test_a_change_of_what_it_follows_from_makes_it_stale(project: Path, changed: str) -> None:
    """Pulling a new lock file is enough to get its packages."""
    install("run", project)
    (project / changed).write_text("changed")
    assert not setup.is_fresh("run", project)


def test_the_tools_of_developers_do_not_concern_a_run(project: Path) -> None:
    """A new linter is no reason to wait before the demo."""
    install("run", project)
    (project / "requirements/dev.txt").write_text("changed")
    assert setup.is_fresh("run", project)


def test_an_environment_knows_its_interpreter(tmp_path: Path) -> None:
    """Another interpreter, or one that has gone, is noticed."""
    home = tmp_path / "python"
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    home.mkdir()
    assert not setup.is_made_by(home, venv)
    (venv / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.11.2\n")
    assert not setup.is_made_by(home, venv)
    (venv / "bin" / "python").touch()
    assert setup.is_made_by(home, venv)
    assert not setup.is_made_by(tmp_path / "other", venv)


def test_the_lock_for_tests_holds_the_same_versions_as_the_lock_for_running() -> None:
    """What is tested is what runs."""

    def pins(name: str) -> dict[str, str]:
        text = (setup.ROOT / "requirements" / name).read_text()
        lines = [line.split() for line in text.splitlines() if "==" in line and line[0].isalnum()]
        return dict(line[0].split("==") for line in lines)

    run, dev = pins("run.txt"), pins("dev.txt")
    assert len(run) > 20
    assert run == {name: dev.get(name) for name in run}
