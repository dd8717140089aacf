"""A shell completes names that are really there: by its own protocol, and in a real bash."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshwarden import publication
from meshwarden.follower import build_policy
from meshwarden.settings import Policy, Runtime, Settings
from tests.fakes.policy import mesh_text

_ROWS = (
    "p, role:web, orders, GET|HEAD, /orders/**, allow",
    "p, td/ns/shop/sa/job, reports, PURGE, /reports/daily, allow",
    "p, user:https://id.example/ann, orders, GET, /mine, allow",
    "g, td/ns/shop/sa/web, role:web",
)
_WITHIN_S = 20.0
# As the installed program is: the variable that shells set is named after it.
_PROGRAM = "import sys; sys.argv[0] = 'meshwarden'; from meshwarden.cli.main import main; main()"
_COMMAND = (sys.executable, "-c", _PROGRAM)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder where a service has published a policy."""
    settings = Settings(runtime=Runtime(tmp_path, tmp_path), policy=Policy())
    found = publication.Publication(mesh_text(*_ROWS), {}, "", 5, "test")
    build_policy(found, settings)
    publication.publish(tmp_path, found)
    (tmp_path / "meshwarden.toml").write_text(
        f'runtime.state_dir = "{tmp_path}"\nruntime.runtime_dir = "{tmp_path}"\n'
    )
    return tmp_path


def environ(**more: str) -> dict[str, str]:
    """The environment without a developer's own settings."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("MESHWARDEN_")
    }
    return {**clean, **more}


def spawned(folder: Path, **variables: str) -> str:
    """Ask as a shell does; nothing may ever be said on stderr."""
    done = subprocess.run(
        _COMMAND,
        cwd=folder,
        env=environ(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def bash(folder: Path, line: str) -> list[str]:
    """Complete the last word of a line, by bash's protocol."""
    words = ["meshwarden", *re.findall(r":|[^ :]+|(?<= )$", line)]
    found = spawned(
        folder,
        _MESHWARDEN_COMPLETE="complete_bash",
        COMP_WORDS="\n".join(words),
        COMP_CWORD=str(len(words) - 1),
    )
    return found.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("check --principal ", ["td/ns/shop/sa/job", "td/ns/shop/sa/web"]),
        ("check --principal td/ns/shop/sa/w", ["td/ns/shop/sa/web"]),
        ("explain --service ", ["orders", "reports"]),
        ("check --method P", ["PATCH", "POST", "PURGE", "PUT"]),
        ("check --path /", ["/mine", "/orders/", "/reports/daily"]),
        ("policy who-can --service re", ["reports"]),
        ("policy what-can --user ", ["https://id.example/ann"]),
        ("policy lint --ignore dup", ["duplicate-rule"]),
        ("config show policy.sh", ["policy.shadow"]),
        ("policy role add td/ns/shop/sa/x ", ["role:web"]),
        ("policy role add td/ns/shop/sa/x role:w", ["web"]),
        ("policy allow td/ns/shop/sa/web to GET ", [r"/mine", r"/orders/\*\*", "/reports/daily"]),
        ("policy allow td/ns/shop/sa/web to GET /mine ", ["on"]),
        ("decisions search --rule policy.csv:2", ["2"]),
        ("policy rollback ", []),
        ("decisions show ", []),
    ],
)
def test_names_are_those_of_the_policy_that_is_in_force(
    folder: Path, line: str, words: list[str]
) -> None:
    """Bash cuts words at colons, and is given back what it will replace; what isn't there is
    silence.
    """
    assert bash(folder, line) == words


def test_the_folder_that_stands_on_the_line_goes_before(folder: Path) -> None:
    """Its rows may not even be a policy yet."""
    other = folder / "other"
    other.mkdir()
    (other / "policy.csv").write_text("p, td/ns/a/sa/b, shop, GET, /, allow\np, half a row\n")
    assert bash(folder, "check --policy other --service ") == ["shop"]
    assert bash(folder, "policy who-can other --service ") == ["shop"]


def test_revisions_come_from_the_store_with_what_is_said_of_them(folder: Path) -> None:
    """Zsh and fish show that too."""
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(folder / "meshwarden.db") as database:
        database.execute(
            "CREATE TABLE meshwarden_revision (stream TEXT, number INT, author TEXT, message TEXT)"
        )
        rows = [("policy", 1, "ann", "first"), ("policy", 2, "bob", ""), ("shadow", 9, "x", "y")]
        database.executemany("INSERT INTO meshwarden_revision VALUES (?, ?, ?, ?)", rows)
    assert bash(folder, "policy rollback ") == ["2", "1"]
    line = "meshwarden policy rollback "
    zsh = spawned(folder, _MESHWARDEN_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
    assert '"1":"ann\\\\: first"' in zsh
    fish = spawned(
        folder,
        _MESHWARDEN_COMPLETE="complete_fish",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert fish.splitlines() == ["2\tbob", "1\tann: first"]


def test_faults_are_silent(folder: Path) -> None:
    """Whoever presses a key reads no traceback."""
    (folder / "policy.json").write_text("damaged")
    assert bash(folder, "check --principal ") == []
    (folder / "meshwarden.toml").write_text("not = [toml")
    assert bash(folder, "check --principal ") == []
    assert bash(folder, "check --method G") == ["GET"]


class RealBash:
    """An interactive bash on a terminal of its own."""

    def __init__(self, folder: Path, script: Path) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=environ(TERM="dumb", PS1="$ ", HOME=str(folder)),
            start_new_session=True,
        )
        os.close(theirs)
        self.type(f"source {script}; bind 'set enable-bracketed-paste off'; echo rea''dy\n")
        self.wait_for("ready")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> str:
        """Read what is shown until a text is in it."""
        shown = ""
        end = time.monotonic() + _WITHIN_S
        while text not in shown:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} is not in {shown!r}"
            if select.select([self._ours], [], [], left)[0]:
                shown += os.read(self._ours, 4096).decode()
        return shown

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes_words_with_colons_and_stars(folder: Path) -> None:
    """By the script that --show-completion prints, and --install-completion puts in place."""
    program = folder / "bin" / "meshwarden"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{_PROGRAM}" "$@"\n')
    program.chmod(0o755)
    script = folder / "completion.sh"
    shown = subprocess.run(
        [program, "--show-completion", "bash"],
        env=environ(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    script.write_text(f'PATH="{program.parent}:$PATH"\n{shown.stdout}')
    terminal = RealBash(folder, script)
    try:
        terminal.type("meshwarden policy role add td/ns/shop/sa/x role:w\t")
        terminal.wait_for("role:web ")
        terminal.type("\x15meshwarden check --principal td/ns/shop/sa/j\t")
        terminal.wait_for("td/ns/shop/sa/job ")
        terminal.type("\x15meshwarden policy allow td/ns/shop/sa/web to GET /o\t")
        terminal.wait_for(r"/orders/\*\* ")
    finally:
        terminal.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_by_one_command(folder: Path, shell: str) -> None:
    """Into the home of whoever asks."""
    done = subprocess.run(
        [*_COMMAND, "--install-completion", shell],
        cwd=folder,
        env=environ(HOME=str(folder), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = [path for path in folder.rglob("*") if path.is_file() and "meshwarden" in path.name]
    assert any("_MESHWARDEN_COMPLETE" in path.read_text() for path in written)
