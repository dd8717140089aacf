"""`meshwarden policy` on a folder: get, list, allow, deny, revoke and role, without a service."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app

RULES = """\
# Orders.
p, role:web, orders, GET, /orders/*, allow
p, *, orders, DELETE, /orders/**, deny
p, *, pages, GET, /*, allow, request.headers['x-env'] == 'prod'
"""
ROLES = """\
g, td/ns/shop/sa/frontend, role:web
g, role:admin, role:web
g, td/ns/shop/sa/console, role:admin
"""
RBAC = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub, r.obj) && r.act == p.act
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a policy, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "mine"
    made.mkdir()
    (made / "policy.csv").write_text(RULES)
    (made / "roles.csv").write_text(ROLES)
    return made


def run(*arguments: str) -> Result:
    """Run `meshwarden policy` on the folder, in this process."""
    return CliRunner().invoke(app, ["policy", *arguments, "--policy", "mine"])


def told(*arguments: str) -> Any:
    """What it says to programs."""
    return json.loads(run(*arguments, "-o", "json").stdout)


@pytest.fixture
def own_model(folder: Path) -> Path:
    """A folder with a model of somebody's own."""
    (folder / "model.conf").write_text(RBAC)
    attributes = {"sub": "source.principal", "obj": "destination.service", "act": "request.method"}
    bound = "".join(f'policy.bind.{name} = "{each}"\n' for name, each in attributes.items())
    (folder.parent / "meshwarden.toml").write_text(bound)
    (folder / "policy.csv").write_text("p, admin, data, read\n")
    (folder / "roles.csv").write_text("g, alice, admin, data\n")
    return folder


def test_get_prints_each_row_with_its_place() -> None:
    """Effect first; a column that no row has anything in is left out."""
    lines = run("get").stdout.splitlines()
    assert lines[0] == "mine: 3 rules, 3 roles given"
    assert lines[2].split() == ["who", "service", "method", "path", "when", "written", "at"]
    assert lines[3].split() == ["allow", "role:web", "orders", "GET", "/orders/*", "policy.csv:2"]
    assert lines[-1].split() == ["td/ns/shop/sa/console", "role:admin", "roles.csv:3"]


def test_get_as_csv_is_policy_again() -> None:
    """What matches, as it would be written."""
    shown = run("get", "--service", "pages", "-o", "csv").stdout
    assert shown == RULES.splitlines(keepends=True)[3]


def test_get_says_the_same_to_programs_in_both_forms() -> None:
    """Values by the names of their fields."""
    rows = told("get", "--effect", "deny")
    assert [row["values"]["method"] for row in rows] == ["DELETE"]
    assert rows[0]["line"] == 3
    assert msgspec.yaml.decode(run("get", "--effect", "deny", "-o", "yaml").stdout) == rows


@pytest.mark.parametrize(
    ("filters", "lines"),
    [
        (("--who", "*"), ["policy.csv:3", "policy.csv:4"]),
        (("--who", "role:*"), ["policy.csv:2"]),
        (("--path", "/orders/*"), ["policy.csv:2"]),
        (("--path", "/or*"), ["policy.csv:2", "policy.csv:3"]),
        (("--role", "web"), ["policy.csv:2", "roles.csv:1", "roles.csv:2"]),
        (("--ptype", "g", "--role", "role:admin"), ["roles.csv:2", "roles.csv:3"]),
        (("--file", "roles.csv"), ["roles.csv:1", "roles.csv:2", "roles.csv:3"]),
        (("--field", "when="), ["policy.csv:2", "policy.csv:3"]),
        (("--service", "nobody"), []),
    ],
)
def test_filters_narrow_what_get_prints(filters: tuple[str, ...], lines: list[str]) -> None:
    """A star is a star where a row has just that, else any characters."""
    assert [f"{row['file']}:{row['line']}" for row in told("get", *filters)] == lines


def test_a_misspelt_field_is_a_fault() -> None:
    """An empty table would say that there is no such rule."""
    result = run("get", "--field", "servce=orders")
    assert result.exit_code == 2
    assert "the nearest is 'service'" in result.stderr


def test_list_counts_rules_by_service_and_by_what_is_asked() -> None:
    """Files count their roles too."""
    assert told("list") == [
        {"service": "orders", "allow": 1, "deny": 1, "roles": 0},
        {"service": "pages", "allow": 1, "deny": 0, "roles": 0},
    ]
    assert {each["file"]: each["roles"] for each in told("list", "--by", "file")} == {
        "policy.csv": 0,
        "roles.csv": 3,
    }
    assert "role:web" in run("list", "--by", "who").stdout


def test_allow_writes_one_line_and_shows_what_it_lets_in(folder: Path) -> None:
    """As a sentence."""
    result = run("allow", "role:web", "to", "post", "/orders", "on", "orders")
    assert result.exit_code == 0
    assert result.stdout.startswith("denied before, ALLOWED now: 1\n")
    assert result.stdout.endswith("written: policy.csv\n")
    added = "p, role:web, orders, POST, /orders, allow\n"
    assert (folder / "policy.csv").read_text() == RULES + added


def test_flags_and_a_sentence_say_the_same(folder: Path) -> None:
    """Also with a condition, and into a file of one's choice."""
    flags = ("--who", "role:web", "--service", "orders", "--method", "PUT", "--path", "/orders/*")
    condition = "request.headers['x-env'] == 'prod'"
    run("allow", *flags, "--when", condition, "--file", "more.csv")
    first = (folder / "more.csv").read_text()
    sentence = ("role:web", "to", "PUT", "/orders/*", "on", "orders", "when", condition)
    again = run("allow", *sentence)
    assert first == f"p, role:web, orders, PUT, /orders/*, allow, {condition}\n"
    assert again.stdout == "unchanged: more.csv:1 says so already\n"


def test_a_dry_run_shows_it_and_writes_nothing(folder: Path) -> None:
    """For people and for programs."""
    words = ("deny", "*", "to", "GET", "/orders/7", "on", "orders", "--dry-run")
    result = run(*words)
    assert result.exit_code == 0
    assert result.stdout.startswith("allowed before, DENIED now: 1\n")
    assert result.stdout.endswith("nothing was changed\n")
    value = told(*words)
    assert (value["dry_run"], value["files"]) == (True, [])
    assert len(value["difference"]["narrowed"]) == 1
    assert (folder / "policy.csv").read_text() == RULES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("allow", "role:no", "to", "GET", "/", "on", "orders"), "a role that no g row gives"),
        (("allow", "role:web", "to", "GET", "orders", "on", "orders"), "path: "),
        (("allow", "frontend", "to", "GET", "/", "on", "orders"), "td/ns/shop/sa/frontend"),
        (("allow", "role:web", "to", "GET", "/orders"), "write WHO to METHOD PATH on SERVICE"),
        (("allow", "--who", "role:web"), "service, method, path missing"),
        (("allow", "a", "to", "GET", "/", "on", "b", "--who", "c"), "who is given twice"),
        (("allow", "--field", "who"), "write NAME=VALUE"),
        (("deny", "*", "to", "GET", "/", "on", "x", "-m", "why"), "a folder has none"),
        (("revoke",), "say which rule"),
        (("revoke", "--service", "ordres"), "the nearest:"),
        (("revoke", "--service", "orders"), "2 lines are meant"),
        (("role", "add", "td/ns/a/sa/b", "web"), "write role:NAME"),
        (("role", "add", "td/ns/a/sa/b"), "Missing argument"),
        (("role", "remove", "td/ns/shop/sa/frontend", "role:wbe"), "the nearest:"),
        (("role", "remove", "td/ns/shop/sa/x", "role:web", "dom"), "and not 'dom' too"),
        (("role", "tree", "role:wbe"), "the nearest is 'role:web'"),
    ],
)
def test_what_can_not_be_done_is_told_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    """With what to write instead; exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert ((folder / "policy.csv").read_text(), (folder / "roles.csv").read_text()) == (
        RULES,
        ROLES,
    )


def test_revoke_takes_out_the_one_line_that_is_meant(folder: Path) -> None:
    """By its fields, or by its place."""
    result = run("revoke", "--service", "orders", "--effect", "deny")
    assert result.exit_code == 0
    assert "written: policy.csv" in result.stdout
    run("revoke", "--at", "policy.csv:3")
    assert (folder / "policy.csv").read_text() == "".join(RULES.splitlines(keepends=True)[:2])


def test_roles_are_given_and_taken_in_their_file(folder: Path) -> None:
    """What that lets in and keeps out is shown."""
    added = run("role", "add", "spiffe://td/ns/shop/sa/job", "role:web")
    assert added.stdout.startswith("denied before, ALLOWED now: 1\n")
    assert (folder / "roles.csv").read_text() == ROLES + "g, td/ns/shop/sa/job, role:web\n"
    removed = run("role", "remove", "td/ns/shop/sa/job", "role:web")
    assert removed.stdout.startswith("allowed before, DENIED now: 1\n")
    assert (folder / "roles.csv").read_text() == ROLES


def test_a_role_that_rules_speak_of_keeps_its_last_member(folder: Path) -> None:
    """The rule that would be in vain is named."""
    (folder / "roles.csv").write_text("g, td/ns/shop/sa/frontend, role:web\n")
    result = run("role", "remove", "td/ns/shop/sa/frontend", "role:web")
    assert result.exit_code == 2
    assert "policy.csv:2: 'role:web' is a role that no g row gives" in result.stderr


def test_role_list_tells_who_is_given_what_and_where() -> None:
    """All, or those of a role or a member."""
    assert [row["member"] for row in told("role", "list", "--role", "web")] == [
        "td/ns/shop/sa/frontend",
        "role:admin",
    ]
    (row,) = told("role", "list", "--member", "spiffe://td/ns/shop/sa/console")
    assert (row["role"], row["file"], row["line"]) == ("role:admin", "roles.csv", 3)


def test_role_tree_draws_members_below_their_roles() -> None:
    """With the rules that speak of each; from a member on, the other way round."""
    assert run("role", "tree").stdout.splitlines()[1:] == [
        "role:web  1 rule",
        "├── td/ns/shop/sa/frontend",
        "└── role:admin",
        "    └── td/ns/shop/sa/console",
    ]
    assert run("role", "tree", "td/ns/shop/sa/console").stdout.splitlines()[1:] == [
        "td/ns/shop/sa/console",
        "└── role:admin",
        "    └── role:web  1 rule",
    ]


def test_a_circle_of_roles_is_shown_as_one(folder: Path) -> None:
    """It ends where it begins again."""
    (folder / "roles.csv").write_text(
        ROLES + "g, role:a, role:b\ng, role:b, role:a\ng, td/ns/x/sa/y, role:a\n"
    )
    lines = run("role", "tree").stdout.splitlines()
    assert lines[-4:] == [
        "role:b",
        "└── role:a",
        "    ├── role:b  a circle: it stands above",
        "    └── td/ns/x/sa/y",
    ]
    of_circle = told("role", "tree", "role:a")[0]["roles"][0]
    assert of_circle["branches"][0]["branches"] == [{"name": "role:a", "cycle": True}]


def test_a_model_of_ones_own_is_edited_by_its_fields(own_model: Path) -> None:
    """Flags of the mesh model say how."""
    refused = run("allow", "bob", "to", "GET", "/", "on", "x")
    assert refused.exit_code == 2
    assert "--field sub=... --field obj=... --field act=..." in refused.stderr
    fields = ("--field", "sub=admin", "--field", "obj=data", "--field", "act=write")
    assert run("allow", *fields).stdout.startswith("denied before, ALLOWED now: 1\n")
    assert "only ever allows" in run("deny", *fields).stderr
    assert run("revoke", "--field", "act=write").exit_code == 0
    assert (own_model / "policy.csv").read_text() == "p, admin, data, read\n"


def test_roles_in_domains_have_their_domain_named(own_model: Path) -> None:
    """The tree keeps domains apart."""
    assert "MEMBER ROLE DOMAIN" in run("role", "add", "bob", "admin").stderr
    assert run("role", "add", "bob", "admin", "other").exit_code == 0
    assert (own_model / "roles.csv").read_text() == "g, alice, admin, data\ng, bob, admin, other\n"
    assert [each["of"] for each in told("role", "tree")] == ["g in data", "g in other"]
    assert run("role", "remove", "bob", "admin", "other").exit_code == 0


def test_without_a_service_and_without_a_folder_it_says_what_to_name(folder: Path) -> None:
    """In place of a traceback or an empty answer."""
    config = folder.parent / "m.toml"
    config.write_text('runtime.state_dir = "/nowhere"\nruntime.runtime_dir = "/nowhere"\n')
    for words in (("get",), ("role", "tree")):
        result = CliRunner().invoke(app, ["policy", *words, "--config", str(config)])
        assert result.exit_code == 2
        assert "--policy" in result.stderr
    words = ("allow", "*", "to", "GET", "/", "on", "x")
    result = CliRunner().invoke(app, ["policy", *words, "--config", str(config)])
    assert result.exit_code == 2
    assert "edit its files by --policy" in result.stderr
