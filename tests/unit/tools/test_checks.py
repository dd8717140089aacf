"""The checks of make lint find what they are there for."""

from pathlib import Path

import pytest

from tools import check_tree, check_unit


@pytest.mark.parametrize(
    "line",
    [
        "index = https://" + "pypi." + "org/simple",
        "FROM " + "docker." + "io/library/debian",
        "GOPROXY=https://proxy.golang." + "org",
        "cd /work/" + "main",
        "see /ro" + "ot/notes",
    ],
)
def test_what_works_on_one_machine_only_is_found(line: str) -> None:
    """Each is named with its file and line."""
    (fault,) = check_tree.faults("README.md", f"first\n{line}\n")
    assert fault.startswith("README.md:2: names a")


@pytest.mark.parametrize(
    "line", ["FROM debian:12-slim", "/var/lib/meshwarden", "a/root/b", "see docs.python.org"]
)
def test_plain_names_are_left_alone(line: str) -> None:
    """An image's or a package's plain name works everywhere."""
    assert check_tree.faults("README.md", line) == []


@pytest.mark.parametrize("path", check_unit.NEEDED, ids=lambda path: path.name)
def test_a_unit_that_lost_a_setting_is_found(path: Path) -> None:
    """Even where systemd is not installed."""
    text = path.read_text()
    assert check_unit.faults(text, path) == []
    weaker = text.replace("NoNewPrivileges=yes\n", "")
    assert check_unit.faults(weaker, path) == [f"{path.name}: lacks NoNewPrivileges=yes"]
