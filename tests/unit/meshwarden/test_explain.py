"""`meshwarden explain`, and two policies asked side by side."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app

LIVE = """\
p, role:clerk, shop, *, /orders/**, allow
p, td/ns/shop/sa/web, shop, GET, /orders/1, allow
p, *, shop, DELETE, /orders/**, deny
p, *, shop, GET, /beta, allow, request.headers['x-env'] == 'beta'
g, td/ns/shop/sa/web, role:sales
g, role:sales, role:clerk
"""
NEXT = """\
p, role:clerk, shop, GET, /orders/**, allow
p, *, shop, GET, /more, allow
g, td/ns/shop/sa/web, role:clerk
"""
WEB = ("--principal", "td/ns/shop/sa/web", "--service", "shop")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a policy and a candidate, no service, no settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, text in (("policy", LIVE), ("next", NEXT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.csv").write_text(text)
    (tmp_path / "meshwarden.toml").write_text(
        f'runtime.state_dir = "{tmp_path}"\nruntime.runtime_dir = "{tmp_path}"\n'
    )
    return tmp_path


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, arguments)


def explained(*arguments: str) -> dict[str, Any]:
    """Run explain with -o json."""
    value: dict[str, Any] = json.loads(run("explain", *arguments, "-o", "json").stdout)
    return value


def test_every_matching_rule_is_told_and_the_way_to_the_role() -> None:
    """Also one that would have allowed alone."""
    found = explained(*WEB, "--path", "/orders/1")
    assert found["answer"]["allowed"]
    assert found["answer"]["rule"] == "policy.csv:1"
    assert found["role_path"] == ["td/ns/shop/sa/web", "role:sales", "role:clerk"]
    assert [each["rule"] for each in found["matching"]] == ["policy.csv:1", "policy.csv:2"]
    shown = run("explain", *WEB, "--path", "/orders/1").stdout
    assert "td/ns/shop/sa/web -> role:sales -> role:clerk" in shown
    assert "*  allow  policy.csv:1" in shown


def test_a_deny_stands_beside_the_allow_that_it_beats() -> None:
    """The reader sees why the allow was in vain."""
    result = run("explain", *WEB, "--path", "/orders/1", "--method", "DELETE")
    assert result.exit_code == 1
    assert "DENIED 403" in result.stdout
    assert "*  deny" in result.stdout
    assert "policy.csv:1" in result.stdout


def test_a_denial_without_a_rule_names_what_each_near_rule_lacked() -> None:
    """The conjunct that was not met, with both sides of it."""
    found = explained("--service", "shop", "--path", "/beta")
    assert not found["matching"]
    by_rule = {each["rule"]: each["reason"] for each in found["nearest"]}
    assert "request.headers['x-env']" in by_rule["policy.csv:4"]
    assert "who is nothing" in by_rule["policy.csv:1"] or "path" in by_rule["policy.csv:1"]


def test_a_verdict_that_is_not_the_policys_is_told_as_it_is() -> None:
    """An ambiguous path is denied although a rule matches its normal form."""
    found = explained(*WEB, "--path", "/orders/%2e%2e%2Forders/1")
    assert not found["answer"]["allowed"]
    assert "ambiguous path" in found["answer"]["reason"]


@pytest.mark.parametrize(
    ("arguments", "change", "code"),
    [
        (("--path", "/orders/1"), "none", 0),
        (("--path", "/orders/1", "--method", "POST"), "allow->deny", 1),
        (("--path", "/more"), "deny->allow", 1),
        (("--path", "/neither"), "none", 0),
    ],
)
@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_candidate_is_asked_beside_the_policy(
    command: str, arguments: tuple[str, ...], change: str, code: int
) -> None:
    """What changes decides the exit code."""
    asked = (command, *WEB, *arguments, "--candidate", "next")
    result = run(*asked, "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["change"]) == (code, change)
    shown = run(*asked)
    assert shown.exit_code == code
    said = {"none": "the candidate says the same", "allow->deny": "the candidate keeps it out"}
    assert said.get(change, "the candidate lets it in") in shown.stdout


def test_where_no_service_runs_that_is_said() -> None:
    """The configured folder answers then."""
    assert "policy; no service runs" in run("check", *WEB, "--path", "/orders/1").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--policy", "policy", "--revision", "1"), "two different policies"),
        (("--revision", "1"), "no service runs on"),
        (("--candidate", "7"), "no service runs on"),
        (("--candidate", "shadow"), "no candidate is beside the policy"),
        (("--candidate", "gone"), "gone"),
    ],
)
def test_what_can_not_be_asked_is_a_fault(arguments: tuple[str, ...], told: str) -> None:
    """With what to do about it; 1 would look like a verdict."""
    result = run("explain", *WEB, "--path", "/", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_candidate_with_a_fault_is_shown_under_its_line(folder: Path) -> None:
    """And no verdict is given."""
    (folder / "next" / "policy.csv").write_text("p, *, shop, GET, /, alow\n")
    result = run("check", *WEB, "--candidate", "next")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"meshwarden: {folder}/next/policy.csv:1: ")
    assert lines[1:3] == ["    p, *, shop, GET, /, alow", " " * 24 + "^^^^"]


def test_the_published_policy_of_a_stopped_service_with_a_store_is_asked(folder: Path) -> None:
    """Its fronts would decide by it as well."""
    from meshwarden import publication  # noqa: PLC0415
    from tests.fakes.policy import mesh_text  # noqa: PLC0415

    text = mesh_text("p, *, shop, GET, /open, allow")
    found = publication.Publication(text, {}, "d", 5, "revision 3 by ann", 1, 3)
    publication.publish(folder, found)
    with (folder / "meshwarden.toml").open("a") as file:
        file.write('policy.source = "store"\n')
    asked = json.loads(run("check", "--service", "shop", "--path", "/open", "-o", "json").stdout)
    assert asked["allowed"]
    assert (asked["revision"], asked["live"]) == (3, False)
    assert asked["source"] == "revision 3 by ann; no service runs"
    assert "no fault, 1 rules" in run("policy", "check").stdout
    assert "1 rules: nothing found" in run("policy", "lint").stdout
    assert "name a FOLDER" in run("policy", "test").stderr
    (folder / "policy.json").unlink()
    assert "none has left a policy" in run("check", "--service", "shop").stderr
