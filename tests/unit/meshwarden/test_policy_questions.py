"""Questions to a policy: what is looked up, who can, what can."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshwarden.cli.main import app

RULES = """\
p, role:shop, orders, GET, /orders/*, allow
p, *, orders, DELETE, /orders/archive/**, deny
p, td/ns/a/sa/job, orders, GET, /reports/*, allow, request.headers['x'] == 'y'
g, td/ns/a/sa/web, role:shop
"""
SCAN = """\
[request_definition]
r = sub
[policy_definition]
p = rule
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = eval(p.rule)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mesh policy."""
    (tmp_path / "p.csv").write_text(RULES)
    return tmp_path


def ask(*arguments: str) -> tuple[int, str]:
    """Run `meshwarden policy`."""
    result = CliRunner().invoke(app, ["policy", *arguments])
    return result.exit_code, result.output


def test_the_plan_of_the_mesh_model_scans_nothing_alone(folder: Path) -> None:
    """Each way to match begins with an index."""
    code, output = ask("plan", str(folder))
    assert code == 0
    assert "indexed" in output
    assert "full scan" not in output


def test_a_full_scan_is_warned_of(tmp_path: Path) -> None:
    """A matcher that only evaluates rules tries each of them."""
    (tmp_path / "model.conf").write_text(SCAN)
    (tmp_path / "p.csv").write_text("p, r.sub == 'a'\n")
    config = tmp_path / "c.toml"
    config.write_text('[policy]\npath = "."\nbind = {sub = "source.principal"}\n')
    code, output = ask("plan", "--config", str(config))
    assert code == 0
    assert "warning: full scan" in output


def test_who_can_names_members_of_a_role_and_denials(folder: Path) -> None:
    """It answers for a request of which all but the caller is known."""
    code, output = ask(
        "who-can", str(folder), "--service", "orders", "--path", "/orders/1", "-o", "json"
    )
    assert code == 0
    (grant,) = json.loads(output)
    assert grant["rule"] == "p.csv:1"
    assert grant["members"] == ["td/ns/a/sa/web"]
    archived = ("--service", "orders", "--method", "delete", "--path", "/orders/archive/3")
    (denial,) = json.loads(ask("who-can", str(folder), *archived, "-o", "json")[1])
    assert denial["effect"] == "deny"


def test_what_can_tells_what_a_rule_still_asks(folder: Path) -> None:
    """A condition that hangs on the request is told in words, not guessed."""
    code, output = ask("what-can", str(folder), "--principal", "td/ns/a/sa/job", "-o", "json")
    assert code == 0
    grants = {each["rule"]: each for each in json.loads(output)}
    assert set(grants) == {"p.csv:2", "p.csv:3"}
    assert any("x" in term for term in grants["p.csv:3"]["left"])


def test_nothing_to_tell_is_said(folder: Path) -> None:
    """An empty answer is an answer."""
    code, output = ask("who-can", str(folder), "--service", "elsewhere")
    assert code == 0
    assert "no rule speaks of it" in output
