"""`meshwarden policy lint`: what it prints, and how it exits."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.excerpts import Paper
from meshwarden.cli.main import app

WARNED = "p, *, orders, GTE, /a, allow\n"
WRONG = "p, role:shpo, orders, GET, /a, allow\ng, td/ns/shop/sa/web, role:shop\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a policy folder, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy").mkdir()
    return tmp_path / "policy"


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ("policy", "lint", *arguments))


def found(*arguments: str) -> dict[str, Any]:
    """What it says to programs."""
    value: dict[str, Any] = json.loads(run(*arguments, "-o", "json").stdout)
    return value


def test_nothing_found_exits_with_0(folder: Path) -> None:
    """And says how much was looked at."""
    (folder / "a.csv").write_text("p, *, orders, GET, /a, allow\n")
    result = run()
    assert (result.exit_code, result.stdout) == (0, "1 rules: nothing found\n")


def test_a_finding_is_shown_with_its_line_and_a_caret(folder: Path) -> None:
    """Id, place, what is wrong and what to do."""
    (folder / "a.csv").write_text(WRONG)
    result = run("policy")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:5] == [
        "error  undefined-role  a.csv:1",
        "    p, role:shpo, orders, GET, /a, allow",
        "       ^^^^^^^^^",
        "    no line gives anybody 'role:shpo'",
        "    fix: did you mean 'role:shop'?",
    ]
    assert result.stdout.endswith("1 rules: 1 error, 1 warning\n")


def test_a_caret_stands_under_a_value_in_yaml_too(folder: Path) -> None:
    """Where it is on the line; else under the line's beginning, which is the rule's."""
    rule = "  - allow: {who: role:shpo, service: orders, methods: GET, path: /a}"
    (folder / "a.yaml").write_text(f"rules:\n{rule}\nroles: {{shop: td/ns/shop/sa/web}}\n")
    assert run("policy").stdout.splitlines()[:3] == [
        "error  undefined-role  a.yaml:2",
        f"    {rule}",
        f"    {' ' * rule.index('role:shpo')}^^^^^^^^^",
    ]
    (folder / "a.yaml").write_text(
        "rules:\n  - allow:\n      who: role:shpo\n      service: s\n"
        "      methods: GET\n      path: /a\n"
    )
    assert run("policy").stdout.splitlines()[:3] == [
        "error  undefined-role  a.yaml:2",
        "      - allow:",
        "      ^^^^^^^^",
    ]


def test_a_folder_that_is_named_is_what_is_looked_at(folder: Path) -> None:
    """Though the service takes its policy from a server, which nobody asks here."""
    (folder / "a.csv").write_text("p, *, orders, GET, /a, allow\n")
    (folder.parent / "meshwarden.toml").write_text(
        'policy.source = "bundle"\npolicy.bundle.url = "http://127.0.0.1:1/policy.tar.gz"\n'
    )
    assert run("policy").stdout == "1 rules: nothing found\n"
    for command in ("check", "test"):
        done = CliRunner().invoke(app, ("policy", command, "policy"))
        assert done.exit_code == 0, done.output
    assert "Connection refused" in run().output


@pytest.mark.parametrize(("level", "code"), [("error", 0), ("warning", 1), ("note", 1)])
def test_a_warning_fails_only_where_it_should(folder: Path, level: str, code: int) -> None:
    """--fail-on, for CI."""
    (folder / "a.csv").write_text(WARNED)
    assert run("--fail-on", level).exit_code == code


def test_ignored_lints_find_nothing(folder: Path) -> None:
    """A name that is none is a fault, and the nearest is told."""
    (folder / "a.csv").write_text(WARNED)
    assert run("--fail-on", "note", "--ignore", "unknown-method").exit_code == 0
    refused = run("--ignore", "unknwon-method")
    assert refused.exit_code == 2
    assert "unknown-method?" in refused.stderr


def test_options_reach_the_lints(folder: Path) -> None:
    """Trust domains and the threshold for wildcards."""
    (folder / "a.csv").write_text("p, other/ns/a/sa/b, orders, *, /**, allow\n")
    assert found()["findings"] == []
    assert found("--trust-domain", "spiffe://td", "--wide", "2")["counts"] == {"warning": 2}


def test_json_and_yaml_say_the_same(folder: Path) -> None:
    """With columns, for editors."""
    (folder / "a.csv").write_text(WARNED)
    value = found()
    (finding,) = value["findings"]
    assert (finding["id"], finding["severity"]) == ("unknown-method", "warning")
    assert (finding["file"], finding["line"]) == ("a.csv", 1)
    assert (finding["column"], finding["end_column"]) == (15, 18)
    assert msgspec.yaml.decode(run("-o", "yaml").stdout) == value


def test_sarif_names_files_from_the_working_folder(folder: Path) -> None:
    """Where code review looks for them."""
    (folder / "a.csv").write_text(WARNED)
    (result,) = json.loads(run("-o", "sarif").stdout)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "policy/a.csv"
    assert place["region"] == {"startLine": 1, "startColumn": 15, "endColumn": 18}


def test_a_folder_that_can_not_be_read_as_policy_is_a_finding(folder: Path) -> None:
    """Every fault, as the service would tell it."""
    (folder / "a.csv").write_text("q, x\n")
    result = run()
    assert result.exit_code == 1
    assert "error  invalid-policy  a.csv:1" in result.stdout
    assert found("gone")["findings"][0]["id"] == "invalid-policy"


def test_a_long_line_is_cut_around_what_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the width of a terminal, with the caret where it belongs."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    paper = Paper()
    line = "p, " + "x" * 100 + ", GTE, " + "y" * 100
    at = line.index("GTE") + 1
    paper.excerpt(line, at, at + 3)
    shown, carets = paper._lines
    assert len(shown) <= 60
    assert shown[carets.index("^") : len(carets)] == "GTE"
