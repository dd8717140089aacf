"""`meshwarden policy diff`: what it prints, and how it exits."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app

OLD = """\
p, role:web, orders, GET, /orders/*, allow
p, role:web, orders, PUT, /orders/*, allow
p, *, orders, DELETE, /orders/**, deny
p, user:https://id.example/ann, orders, GET, /mine, allow
g, td/ns/shop/sa/web, role:web
"""
NEW = """\
p, role:web, orders, GET, /orders/**, allow
p, role:web, orders, PUT, /orders/*, allow, request.headers['x-env'] == 'prod'
p, *, orders, DELETE, /orders/**, deny
p, user:https://id.example/ann, orders, GET|POST, /mine, allow, request.auth.claims['mail'] != ''
p, role:web, orders, GET, /orders/1, allow
g, td/ns/shop/sa/web, role:web
g, td/ns/shop/sa/job, role:web
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with two policies, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "old", OLD)
    write(tmp_path, "new", NEW)
    return tmp_path


def write(folder: Path, name: str, text: str, model: str = "") -> None:
    """Write one policy."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "policy.csv").write_text(text)
    if model:
        (folder / name / "model.conf").write_text(model)


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, arguments)


def compared(old: str = "old", new: str = "new") -> dict[str, Any]:
    """What it says to programs."""
    result = run("policy", "diff", old, new, "-o", "json", "--seconds", "0")
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def lines(shown: list[dict[str, Any]]) -> list[int]:
    """The line of each change in the new policy."""
    return [(each["change"]["new"] or each["change"]["old"])["line"] for each in shown]


def test_what_is_let_in_comes_first_and_fails() -> None:
    """Then what is kept out, then what makes no difference."""
    result = run("policy", "diff", "old", "new", "--seconds", "0")
    assert result.exit_code == 1
    assert result.stdout.startswith("denied before, ALLOWED now: 3\n")
    titles = [line for line in result.stdout.splitlines() if line and line[0] != " "]
    assert titles == [
        "denied before, ALLOWED now: 3",
        "allowed before, DENIED now: 2",
        "no effect found: 1",
        "1 rule added, 3 rules changed, 1 role added",
    ]


def test_every_example_is_judged_so_by_check(folder: Path) -> None:
    """With the flags that are shown, under both policies."""
    value = compared()
    assert (lines(value["widened"]), lines(value["narrowed"])) == ([1, 4, 7], [2, 4])
    for each in (*value["widened"], *value["narrowed"]):
        for name in ("old", "new"):
            asked = run("check", "--policy", name, *shlex.split(each["flags"]))
            assert asked.exit_code == (0 if each[name]["allowed"] else 1)
    assert folder.exists()


def test_json_and_yaml_say_the_same() -> None:
    """Changes, effects with their requests, and what has none."""
    value = compared()
    shown = run("policy", "diff", "old", "new", "-o", "yaml", "--seconds", "0").stdout
    assert msgspec.yaml.decode(shown) == value
    assert [each["kind"] for each in value["no_effect_found"]] == ["added"]
    assert value["widened"][0]["new"] == {"allowed": True, "rule": "policy.csv:1"}


def test_csv_and_yaml_are_compared_rule_by_rule(folder: Path) -> None:
    """The same rules are no difference; another one is named by its line of YAML."""
    (folder / "new" / "policy.csv").unlink()
    rules = """\
rules:
  - allow: {who: role:web, service: orders, methods: [GET], path: /orders/*}
  - allow: {who: role:web, service: orders, methods: PUT, path: /orders/*}
  - deny: {who: "*", service: orders, methods: DELETE, path: /orders/**}
  - allow: {who: "user:https://id.example/ann", service: orders, methods: GET, path: /mine}
roles:
  web: [td/ns/shop/sa/web]
"""
    (folder / "new" / "policy.yaml").write_text(rules)
    result = run("policy", "diff", "old", "new", "--exit-code")
    assert (result.exit_code, result.stdout) == (0, "no rule differs\n")
    (folder / "new" / "policy.yaml").write_text(rules.replace("[GET]", "[GET, HEAD]"))
    (widened,) = compared()["widened"]
    assert widened["new"] == {"allowed": True, "rule": "policy.yaml:2"}
    assert (widened["change"]["new"]["file"], widened["change"]["new"]["line"]) == (
        "policy.yaml", 2,
    )  # fmt: skip


def test_the_same_policy_is_no_difference(folder: Path) -> None:
    """Whatever the order of its lines."""
    write(folder, "new", "".join(reversed(OLD.splitlines(keepends=True))))
    result = run("policy", "diff", "old", "new", "--exit-code")
    assert (result.exit_code, result.stdout) == (0, "no rule differs\n")


def test_less_allowed_fails_only_if_asked(folder: Path) -> None:
    """--exit-code, for CI that wants no difference in effect at all."""
    write(folder, "new", "".join(OLD.splitlines(keepends=True)[1:]))
    assert run("policy", "diff", "old", "new").exit_code == 0
    assert run("policy", "diff", "old", "new", "--exit-code").exit_code == 1


def test_a_rule_without_effect_is_no_difference(folder: Path) -> None:
    """It is listed all the same."""
    write(folder, "new", OLD + "p, role:web, orders, GET, /orders/7, allow\n")
    result = run("policy", "diff", "old", "new", "--exit-code")
    assert result.exit_code == 0
    assert "no effect found: 1" in result.stdout


def test_a_policy_with_faults_is_a_fault(folder: Path) -> None:
    """Told with the folder it is in, for there are two, and with a caret."""
    write(folder, "new", "p, *, orders, GET, /, Allow\n")
    result = run("policy", "diff", "old", "new")
    assert result.exit_code == 2
    said, line, caret = result.stderr.splitlines()
    assert "new/policy.csv:1: unknown effect 'Allow'" in said
    assert line[caret.index("^") : len(caret)] == "Allow"


def test_a_model_of_ones_own_is_asked_in_its_fields(folder: Path) -> None:
    """Whatever they are bound to."""
    model = (
        "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = r.sub == p.sub && keyMatch2(r.obj, p.obj)\n"
    )
    bind = "policy.bind = {sub = 'source.principal', obj = 'request.path'}\n"
    (folder / "meshwarden.toml").write_text(bind)
    write(folder, "old", "p, alice, /a/:id\n", model)
    write(folder, "new", "p, alice, /a/:id\np, bob, /b/:id\n", model)
    (shown,) = compared()["widened"]
    assert shown["request"] == {"sub": "bob", "obj": "/b/1"}


def test_no_time_to_look_is_told_and_fails() -> None:
    """What was not looked into may let somebody in."""
    result = run("policy", "diff", "old", "new", "--seconds", "0.000001")
    assert result.exit_code == 1
    assert "no time to look into (--seconds 0 takes it): 5" in result.stdout
