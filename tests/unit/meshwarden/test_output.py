"""What programs get from commands."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from meshwarden.cli.main import app
from meshwarden.cli.output import yaml_text
from meshwarden.logs import configure_logging

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
@settings(max_examples=300, deadline=None)
def test_yaml_says_what_json_says(value: Any) -> None:
    """Whatever text a policy or a caller put into it."""
    assert yaml.safe_load(yaml_text(value)) == value


def test_yaml_keeps_the_order_of_keys_and_writes_other_alphabets_as_they_are() -> None:
    """Two runs can be compared by eye, and what was written in Greek is read in Greek."""
    same = ["a"]
    assert yaml_text({"z": "Ωmega", "a": same, "b": same}) == "z: Ωmega\na:\n- a\nb:\n- a\n"


def _commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in getattr(command, "commands", {}).items():
        yield from _commands(each, *names, name)
    if not getattr(command, "commands", None):
        yield names, command


def test_every_output_option_takes_the_same_words() -> None:
    """Some take one more."""
    seen = 0
    for names, command in _commands(typer.main.get_command(app)):
        for parameter in command.params:
            if "-o" in parameter.opts:
                seen += 1
                assert list(parameter.type.choices)[:3] == ["human", "json", "yaml"], names
    assert seen > 15


@pytest.mark.parametrize(
    "words",
    [
        "version",
        "config show",
        "config reference",
        "config check",
        "policy check deploy/demo/policy",
        "policy plan deploy/demo/policy",
        "policy test deploy/demo/policy",
        "policy lint deploy/demo/policy",
        "policy who-can deploy/demo/policy --service reviews.shop",
        "policy diff deploy/demo/policy deploy/demo/policy",
    ],
)
def test_a_command_says_the_same_as_json_and_as_yaml(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the root of the repository, where the demo is."""
    monkeypatch.chdir(Path(__file__).parents[3])
    as_json, as_yaml = (
        CliRunner().invoke(app, [*words.split(), "-o", form]) for form in ("json", "yaml")
    )
    assert as_json.exit_code == as_yaml.exit_code == 0
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)


def test_a_closed_output_is_no_fault() -> None:
    """As by `>&-`, of who wants to know the exit code alone."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m meshwarden config show >&-"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_who_has_read_enough_hears_no_complaint() -> None:
    """As `head` closes the pipe: neither a fault nor a verdict."""
    with subprocess.Popen(
        [sys.executable, "-m", "meshwarden", "config", "reference"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


_TRICKS = "\x1b[2J\x9b31m\u202e\x07\u200b"


def _on_a_terminal(arguments: list[str], home: Path) -> str:
    """What a command prints on a terminal of its own."""
    main, end = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "meshwarden", *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=home,
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100"},
    ) as process:
        os.close(end)
        read = b""
        # Linux answers with an error when nobody holds the other end any more.
        with contextlib.suppress(OSError):
            while piece := os.read(main, 65536):
                read += piece
        process.wait(30)
    os.close(main)
    return read.decode()


@pytest.mark.parametrize(
    "words",
    [
        "policy check bad",
        "policy diff empty odd",
        "policy lint odd",
        "policy get --policy odd",
        "policy get --policy odd -o csv",
        "policy get --policy odd -o json",
        "policy get --policy odd -o yaml",
        "policy list --policy odd",
        "policy role list --policy odd",
        "policy role tree --policy odd",
        "policy who-can odd --service orders",
    ],
)
def test_who_writes_a_rule_does_not_choose_how_its_reviewer_sees_it(
    words: str, tmp_path: Path
) -> None:
    """Neither by its text nor by its file's name."""
    for name in ("bad", "empty", "odd"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty" / "a.csv").write_text("p, *, orders, GET, /a, allow\n")
    (tmp_path / "bad" / f"{_TRICKS}.csv").write_text("p, *, orders, GET, /a, alow\n")
    rules = (
        f"p, role:a, orders, GET, /{_TRICKS}, allow, request.method != '{_TRICKS}'\n"
        f"p, *, {_TRICKS}, GET, /a, allow\n"
        f"g, user:i/{_TRICKS}, role:a\n"
    )
    (tmp_path / "odd" / "odd.csv").write_text(rules)
    told = _on_a_terminal(words.split(), tmp_path)
    assert [each for each in told if not each.isprintable() and each not in "\r\n"] == [], told
    assert "can't be printed" in told if "bad" in words else r"\x1b[2J" in told or "role:a" in told


def test_a_log_line_shows_what_a_file_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where its name would clear the screen of who follows the log."""
    logger = logging.getLogger("meshwarden.of-a-test")
    configure_logging("info", "control")
    logger.info("%s.csv", _TRICKS)
    configure_logging("warning", "test")
    assert capsys.readouterr().err.endswith(r"\x1b[2J\x9b31m\u202e\x07\u200b.csv" + "\n")
