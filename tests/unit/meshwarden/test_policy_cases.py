"""Policy tests: what a team reads before it ships a rule."""

import subprocess
import sys
from pathlib import Path
from typing import IO
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from meshwarden.authoring.cases import load_cases
from meshwarden.cli.main import app
from meshwarden.errors import CaseFileError

RULES = """\
p, td/ns/shop/sa/web, orders, GET, /orders/*, allow
p, td/ns/shop/sa/job, orders, GET, /reports/*, allow
p, *, orders, GET, /orders/secret, deny
"""
WEB = "{principal: td/ns/shop/sa/web, service: orders, method: GET, path: /orders/1}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy folder with an empty folder of tests."""
    (tmp_path / "rules.csv").write_text(RULES)
    (tmp_path / "tests").mkdir()
    return tmp_path


def write(folder: Path, text: str) -> None:
    """Make the text its only test file."""
    (folder / "tests" / "shop.yaml").write_text(text)


def run(folder: Path, *options: str) -> tuple[int, str]:
    """Run `meshwarden policy test` on it."""
    result = CliRunner().invoke(app, ["policy", "test", str(folder), *options])
    return result.exit_code, result.output


def test_a_case_that_comes_as_said_passes_in_silence(folder: Path) -> None:
    """Only the summary is printed."""
    write(folder, f"cases:\n  - {{request: {WEB}, expect: allow, rule: 'rules.csv:1'}}\n")
    code, output = run(folder)
    assert code == 0
    assert "FAIL" not in output
    assert "1 passed, 0 failed" in output


def test_what_a_case_leaves_out_is_denied(folder: Path) -> None:
    """A forgotten `expect` fails on an allowed request."""
    write(folder, f"cases:\n  - {{request: {WEB}}}\n")
    code, output = run(folder)
    assert code == 1
    assert "tests/shop.yaml:2" in output
    assert "allowed, not denied" in output


def test_the_wrong_rule_fails_though_the_verdict_is_right(folder: Path) -> None:
    """A case may name the line that has to decide."""
    write(folder, f"cases:\n  - {{request: {WEB}, expect: allow, rule: 'rules.csv:9'}}\n")
    code, output = run(folder)
    assert code == 1
    assert "decided by rules.csv:1, not by rules.csv:9" in output


MATRIX = """\
defaults: {service: orders}
callers:
  web: {principal: td/ns/shop/sa/web}
  nobody: {}
requests:
  read: {path: /orders/1}
  secret: {path: /orders/secret}
allowed:
  web: [read]
"""


def test_a_matrix_tries_every_pair(folder: Path) -> None:
    """Pairs that `allowed` doesn't list have to be denied, callers it doesn't list in all."""
    write(folder, MATRIX)
    assert len(load_cases(folder)) == 4
    code, output = run(folder, "--verbose")
    assert code == 0
    assert output.count("pass ") == 4


def test_a_matrix_notices_what_was_allowed_too_much(folder: Path) -> None:
    """The pair is named."""
    write(folder, MATRIX.replace("web: [read]", "web: []"))
    code, output = run(folder)
    assert code == 1
    assert "web: read" in output


def test_rules_that_no_case_met_are_listed_and_can_fail_the_run(folder: Path) -> None:
    """--threshold is the least share of rules that some case matches."""
    write(folder, MATRIX)
    code, output = run(folder, "--threshold", "100")
    assert code == 1
    assert "unmet rules.csv:2" in output
    assert run(folder, "--threshold", "60")[0] == 0


def test_junit_counts_what_the_summary_counts(folder: Path) -> None:
    """One testcase a case, failures inside."""
    write(folder, MATRIX.replace("web: [read]", "web: []"))
    report = folder / "report.xml"
    run(folder, "--junit", str(report))
    (suite,) = ET.parse(report).getroot()  # noqa: S314 - our own file
    assert suite.attrib["tests"] == "4"
    assert suite.attrib["failures"] == "1"
    assert len(suite.findall("testcase/failure")) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cases:\n  - {request: {}, expected: allow}\n", ":2: 'expected' is no key of a case"),
        ("cases:\n  - {request: {pth: /x}}\n", "the nearest is 'path'"),
        ("cases:\n  - {expect: yes}\n", "'expect' is allow or deny"),
        ("cases: {a: 1}\n", "'cases' is a list"),
        ("- a\n", "a test file is a mapping"),
        ("cases: [\n", "shop.yaml:2"),
        ("cases: []\ncases: []\n", "'cases' stands twice"),
        ("callers: {a: {}}\nallowed: {b: []}\n", ":2: 'b' is no caller"),
        ("callers: {a: {}}\nrequests: {r: {}}\nallowed: {a: [q]}\n", "'q' is no request"),
    ],
)
def test_a_test_file_that_makes_no_sense_is_told_by_line(
    folder: Path, text: str, told: str
) -> None:
    """Nothing of it runs: a test that silently isn't run is worse than none."""
    write(folder, text)
    with pytest.raises(CaseFileError, match="shop") as caught:
        load_cases(folder)
    assert told in str(caught.value)
    assert run(folder)[0] == 2


def test_a_request_that_no_sidecar_sends_is_a_fault(folder: Path) -> None:
    """Its verdict would prove nothing."""
    write(folder, "cases:\n  - {request: {principal: 'TD/UPPER'}}\n")
    code, output = run(folder)
    assert code == 2
    assert "tests/shop.yaml:2" in output


def test_rules_in_yaml_are_met_and_named_like_those_in_csv(tmp_path: Path) -> None:
    """Two rules of one list have a line each; the cases beside them are no policy."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - allow:\n      who: '*'\n      service: s\n      methods: GET\n"
        "      path:\n        - /a\n        - /b\n"
    )
    case = "cases:\n  - request: {service: s, path: /a}\n    expect: allow\n"
    write(tmp_path, case + "    rule: rules.yaml:7\n")
    code, said = run(tmp_path)
    assert code == 0
    assert "unmet rules.yaml:8  p, *, s, GET, /b, allow" in said
    assert "1 passed, 0 failed; 1 of 2 rules met (50 %)" in said
    write(tmp_path, case + "    rule: rules.yaml:8\n")
    assert "decided by rules.yaml:7, not by rules.yaml:8" in run(tmp_path)[1]


def test_bench_tells_what_a_decision_costs(folder: Path) -> None:
    """Median and tail, of the cases themselves."""
    write(folder, MATRIX)
    result = CliRunner().invoke(app, ["policy", "bench", str(folder), "--seconds", "0.1"])
    assert result.exit_code == 0
    assert "median" in result.output


def test_watching_runs_again_when_a_file_changes(folder: Path) -> None:
    """An edit of a test or a rule is seen without being told."""
    write(folder, MATRIX)
    command = [sys.executable, "-m", "meshwarden", "policy", "test", str(folder), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout
        assert output is not None
        try:
            assert "4 passed" in _line_with("passed", output)
            write(folder, MATRIX.replace("web: [read]", "web: []"))
            assert "1 failed" in _line_with("passed", output)
        finally:
            process.terminate()


def _line_with(word: str, output: IO[str]) -> str:
    return next(line for line in output if word in line)
