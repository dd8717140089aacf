"""Questions before what is hard to undo."""

import os
import pty
import subprocess
import sys

import pytest

_ASK = (
    "import sys, typer\n"
    "from meshwarden.cli.prompts import Yes, confirm\n"
    "app = typer.Typer()\n"
    "@app.command()\n"
    "def go(yes: Yes = False) -> None:\n"
    "    confirm('Really?', yes=yes)\n"
    "    print('done')\n"
    "app()\n"
)


def _on_a_terminal(answer: bytes) -> tuple[int, bytes]:
    """Run the question on a terminal of its own; give the exit code and what was shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _ASK], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N] " not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, answer)
        try:
            while more := os.read(ours, 1024):
                shown += more
        except OSError:
            pass  # Linux' way to say that the other end is closed.
    os.close(ours)
    return process.returncode, shown


def _piped(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _ASK, *arguments],
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("answer", [b"y\n", b"YES\n"])
def test_yes_on_a_terminal_goes_on(answer: bytes) -> None:
    """Either spelling of yes, in any case."""
    code, shown = _on_a_terminal(answer)
    assert code == 0
    assert b"done" in shown


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"yep\n", b"\x04"])
def test_anything_else_changes_nothing_and_exits_with_1(answer: bytes) -> None:
    """No answer is a no, and so is Ctrl-D."""
    code, shown = _on_a_terminal(answer)
    assert code == 1
    assert b"nothing was changed" in shown
    assert b"done" not in shown


def test_without_a_terminal_nobody_is_asked_and_it_exits_with_2() -> None:
    """What stands in the input of a script is not an answer."""
    run = _piped()
    assert run.returncode == 2
    assert run.stdout == ""
    assert "give --yes" in run.stderr


def test_yes_beforehand_needs_no_terminal() -> None:
    """A script says --yes."""
    run = _piped("--yes")
    assert (run.returncode, run.stdout) == (0, "done\n")
