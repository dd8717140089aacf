"""A fault is told with its line, a caret under what is meant, and the nearest right name."""

from pathlib import Path

import pytest

from authz.policy.nearest import did_you_mean
from meshwarden.cli.excerpts import complain_of
from meshwarden.cli.setting_lines import complain_of_settings, line_of
from meshwarden.errors import ConfigError, ConfigFault


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was said on stderr, by line."""
    return capsys.readouterr().err.splitlines()


def test_a_caret_stands_under_what_the_message_quotes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named as a terminal can open it."""
    (tmp_path / "p.csv").write_text("p, a\np, *, shop, GET, /, alow\n")
    complain_of(["p.csv:2: unknown effect 'alow'"], tmp_path)
    assert told(capsys) == [
        f"meshwarden: {tmp_path}/p.csv:2: unknown effect 'alow'",
        "    p, *, shop, GET, /, alow",
        "                        ^^^^",
    ]


def test_where_nothing_is_quoted_the_whole_line_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without what stands before it."""
    (tmp_path / "p.csv").write_text("  p, a  \n")
    complain_of(["p.csv:1: too few values"], tmp_path)
    assert told(capsys)[1:] == ["      p, a", "      ^^^^"]


@pytest.mark.parametrize(
    "fault", ["no place at all", "gone.csv:3: bad", "p.csv:99: bad", "p.csv:0: bad"]
)
def test_a_fault_without_its_line_is_told_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """A file may be gone, or shorter by now."""
    (tmp_path / "p.csv").write_text("p, a\n")
    complain_of([fault], tmp_path)
    (line,) = told(capsys)
    assert fault in line


def test_faults_of_a_policy_from_elsewhere_have_no_lines_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a database holds is in no folder."""
    complain_of(["p.csv:2: bad"], None)
    assert told(capsys) == ["meshwarden: p.csv:2: bad"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[policy]\npth = 1\n", ("policy.pth", 2, "^^^")),
        ("policy.pth = 1\n", ("policy.pth", 1, "^^^^^^^^^^")),
        ("[policy]\n\n[policy.bind]\nsub = 1\n", ("policy.bind.sub", 4, "^^^")),
        ("[policy]\nbind = { sub = 1 }\n", ("policy.bind.sub", 2, "^^^^")),
        ("[plicy]\na = 1\n", ("plicy", 1, " ^^^^^")),
        ('[policy.bind]\n"a.b" = 1\n', ("policy.bind.a.b", 2, "^^^^^")),
        ("[listen]\nallow = 1\n[policy]\nallow = 2\n", ("policy.allow", 4, "^^^^^")),
    ],
)
def test_a_setting_is_found_however_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, found: tuple[str, int, str]
) -> None:
    """In a table, dotted, inline, quoted; or else what it is within."""
    key, line, caret = found
    file = tmp_path / "meshwarden.toml"
    file.write_text(text)
    fault = ConfigFault(str(file), key, "no such key")
    assert line_of(fault) == line
    complain_of_settings(ConfigError((fault,)))
    first, shown, carets = told(capsys)
    assert first == f"meshwarden: {file}:{line}: {key}: no such key"
    assert shown == "    " + text.split("\n")[line - 1]
    assert carets.rstrip() == "    " + caret


def test_a_value_that_is_quoted_is_what_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is right then."""
    file = tmp_path / "meshwarden.toml"
    file.write_text('policy.max_stale_s = "long"\n')
    fault = ConfigFault(str(file), "policy.max_stale_s", "must be a number, not 'long'")
    complain_of_settings(ConfigError((fault,)))
    assert told(capsys)[2] == " " * 4 + " " * 22 + "^^^^"


@pytest.mark.parametrize(
    ("said", "line", "column"),
    [("bad (at line 2, column 3)", 2, 3), ("bad (at end of document)", 2, 6)],
)
def test_where_toml_ends_being_toml_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, line: int, column: int
) -> None:
    """In the reader's own words, without its way to say the place."""
    file = tmp_path / "meshwarden.toml"
    file.write_text("a = 1\nb = [\n\n")
    complain_of_settings(ConfigError((ConfigFault(str(file), "", f"is not TOML: {said}"),)))
    first, _, carets = told(capsys)
    assert first == f"meshwarden: {file}:{line}: is not TOML: bad"
    assert carets == " " * (4 + column - 1) + "^"


def test_a_fault_of_a_variable_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told as it is."""
    fault = ConfigFault("MESHWARDEN_POLICY__PTH", "", "no such key")
    complain_of_settings(ConfigError((fault,)))
    assert told(capsys) == ["meshwarden: MESHWARDEN_POLICY__PTH: no such key"]


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("alow", "; did you mean allow?"), ("Deny", "; did you mean deny?"), ("xyzzy", "")],
)
def test_the_nearest_name_is_offered_where_one_is_near(wrong: str, hint: str) -> None:
    """Case makes no difference to nearness."""
    assert did_you_mean(wrong, ["allow", "deny"]) == hint
