"""Commands: what they print, and how they exit."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from meshwarden.cli.main import app

POLICY = """\
p, role:web, orders, GET|HEAD, /orders/**, allow
p, *, orders, DELETE, /orders/**, deny
p, *, orders, GET, /beta, allow, request.headers['x-env'] == 'beta'
p, user:https://id.example/ann, orders, GET, /mine, allow
g, td/ns/shop/sa/web, role:web
"""
_WITHOUT_OUTPUT = {("serve",), ("identity", "write"), ("bundle", "show")}
WEB = ("--principal", "td/ns/shop/sa/web", "--service", "orders")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a policy, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("MESHWARDEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.csv").write_text(POLICY)
    return tmp_path


def run(*arguments: str, stdin: str = "") -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, arguments, input=stdin)


def answered(*arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run a command with -o json."""
    value: dict[str, Any] = json.loads(run(*arguments, "-o", "json", stdin=stdin).stdout)
    return value


def test_an_allowed_request_exits_with_0_and_names_its_rule() -> None:
    """With the line of policy, as written."""
    result = run("check", *WEB, "--path", "/orders/1")
    assert result.exit_code == 0
    assert result.stdout.startswith("ALLOWED 200")
    assert "policy.csv:1" in result.stdout
    assert "p, role:web, orders, GET|HEAD, /orders/**, allow" in result.stdout


def test_a_denied_request_exits_with_1_and_names_its_rule() -> None:
    """An explicit deny."""
    result = run("check", *WEB, "--path", "/orders/1", "--method", "DELETE")
    assert result.exit_code == 1
    assert result.stdout.startswith("DENIED 403")
    assert "policy.csv:2" in result.stdout


def test_a_denial_without_a_rule_shows_the_nearest_misses() -> None:
    """What would have had to be otherwise."""
    result = run("check", *WEB, "--path", "/orders/1", "--method", "POST")
    assert result.exit_code == 1
    assert "no rule matched" in result.stdout
    misses = answered("check", *WEB, "--path", "/orders/1", "--method", "POST")["misses"]
    assert misses[0].startswith("policy.csv:1: ")
    assert misses[0] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("--path", "/beta", "--header", "X-Env=beta"), True),
        (("--path", "/beta", "--header", "X-Env=prod"), False),
        (("--path", "/mine", "--user", "https://id.example/ann"), True),
        (("--path", "/mine", "--user", "https://id.example/bob"), False),
        (("--path", "/orders/1", "--principal", "spiffe://td/ns/shop/sa/web"), True),
        (("--path", "/orders/1", "--context", "x=y"), False),
    ],
)
def test_flags_reach_the_policy(arguments: tuple[str, ...], allowed: object) -> None:
    """Headers in any case, a user with a URL for an issuer, a principal with or without scheme."""
    assert answered("check", "--service", "orders", *arguments)["allowed"] is allowed


def test_json_has_everything_that_people_are_shown() -> None:
    """And the request as the policy saw it."""
    answer = answered("check", *WEB, "--path", "/orders/1?x=1")
    assert answer["status"] == 200
    assert (answer["rule"], answer["reason"]) == ("policy.csv:1", "allowed by a rule")
    assert answer["request"]["path"] == "/orders/1"
    assert len(answer["digest"]) == 64


def test_a_whole_checkrequest_comes_in_on_stdin() -> None:
    """In protobuf's JSON, as Envoy's own tools print it."""
    request = {
        "attributes": {
            "source": {"principal": "spiffe://td/ns/shop/sa/web"},
            "request": {"http": {"method": "GET", "path": "/orders/1"}},
            "contextExtensions": {"service": "orders"},
        }
    }
    assert run("check", "-", stdin=json.dumps(request)).exit_code == 0
    refused = run("check", "-", stdin='{"attributs": {}}')
    assert refused.exit_code == 2
    assert 'no field named "attributs"' in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--principal", "TD/ns"), "--principal TD/ns: its trust domain may hold only lower-case"),
        (("--user", "ann"), "write ISSUER/SUBJECT"),
        (("--claim", "a=b"), "--claim needs one too"),
        (("--header", "x"), "write NAME=VALUE"),
        (("file.json",), "give flags, or '-'"),
        (("--policy", "p", "--server", "s:1"), "two different ones to ask"),
        (("--server", "127.0.0.1:1"), "127.0.0.1:1: UNAVAILABLE"),
        (("--server", "127.0.0.1:1", "--cert", "c"), "need --ca"),
        (("--server", "127.0.0.1:1", "--ca", "gone"), "gone: No such file or directory"),
        (("--policy", "gone"), "gone: can't be read: No such file or directory"),
        (("--config", "gone.toml"), "gone.toml: can't be read"),
    ],
)
def test_what_can_not_be_asked_is_a_fault_and_no_denial(
    arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, one sentence on stderr, nothing on stdout."""
    result = run("check", *arguments)
    assert result.exit_code == 2
    # Usage errors are framed to the terminal's width.
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_every_fault_of_a_policy_is_shown_under_its_line(folder: Path) -> None:
    """With a caret, on stderr, and exit code 2; the same list as JSON."""
    (folder / "policy" / "bad.csv").write_text("p, *, a, GET, /, Deny\n\np, *, a, get, /, allow\n")
    result = run("policy", "check")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"meshwarden: {folder}/policy/bad.csv:1: ")
    assert lines[1] == "    p, *, a, GET, /, Deny"
    assert lines[2] == "                     ^^^^"
    assert lines[3].startswith(f"meshwarden: {folder}/policy/bad.csv:3: ")
    faults = answered("policy", "check")["faults"]
    assert [(fault["file"], fault["line"]) for fault in faults] == [("bad.csv", 1), ("bad.csv", 3)]


def test_a_policy_without_faults_is_told_by_its_digest() -> None:
    """The one that a server would show for it."""
    known = answered("policy", "check", "policy")
    assert known["ok"] is True
    assert known["rules"] == 4
    assert known["digest"] == answered("check")["digest"]


def test_a_binding_to_no_attribute_is_a_fault_of_the_policy(folder: Path) -> None:
    """Nothing in the folder is wrong, but it could not be served."""
    (folder / "meshwarden.toml").write_text("policy.bind = {who = 'source.princpal'}\n")
    result = run("policy", "check")
    assert result.exit_code == 2
    assert "source.princpal" in result.stderr


def test_values_are_shown_with_their_origin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default, file or environment."""
    (folder / "meshwarden.toml").write_text("server.fronts = 2\n")
    monkeypatch.setenv("MESHWARDEN_SERVER__DRAIN_S", "7")
    shown = answered("config", "show")
    assert shown["server.fronts"] == {"value": 2, "from": "meshwarden.toml"}
    assert shown["server.drain_s"] == {"value": 7.0, "from": "MESHWARDEN_SERVER__DRAIN_S"}
    assert shown["listen.address"] == {"value": "127.0.0.1:9191", "from": "default"}
    rows = [line.split() for line in run("config", "show").stdout.splitlines()]
    assert ["server.fronts", "2", "meshwarden.toml"] in rows


def test_faults_of_the_settings_stand_under_their_lines(folder: Path) -> None:
    """On stderr for people, on stdout for programs; a good file says so."""
    (folder / "meshwarden.toml").write_text("server.front = 2\nlisten.adress = 'x'\n")
    result = run("config", "check")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "meshwarden: meshwarden.toml:1: server.front: no such key; did you mean server.fronts?",
        "    server.front = 2",
        "    ^^^^^^^^^^^^",
        "meshwarden: meshwarden.toml:2: listen.adress: no such key; did you mean listen.address?",
        "    listen.adress = 'x'",
        "    ^^^^^^^^^^^^^",
    ]
    faults = answered("config", "check")["faults"]
    assert [(fault["key"], fault["line"]) for fault in faults] == [
        ("server.front", 1),
        ("listen.adress", 2),
    ]
    (folder / "meshwarden.toml").write_text("server.fronts = 2\n")
    assert "no fault, 1 keys set" in run("config", "check").stdout


def test_the_reference_is_a_file_to_begin_with(folder: Path) -> None:
    """It loads as it is; as JSON it says the same."""
    (folder / "meshwarden.toml").write_text(run("config", "reference").stdout)
    assert run("config", "check").exit_code == 0
    assert answered("config", "reference")["server.fronts"]["default"] == 1


def test_versions_name_what_a_bug_report_needs() -> None:
    """What decides, what serves, what the front is."""
    assert {"meshwarden", "python", "grpcio", "envoy", "pyvoy"} <= answered("version").keys()


def commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk to every command that does something."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield names, command
        return
    for name, each in inner.items():
        yield from commands(each, (*names, name))


@pytest.mark.parametrize(
    "names",
    [names for names, _ in commands(typer.main.get_command(app)) if names not in _WITHOUT_OUTPUT],
)
def test_every_command_can_speak_json(names: tuple[str, ...]) -> None:
    """Only what runs until it is stopped has no answer, and what prints a file of its own form."""
    assert "--output" in run(*names, "-h", "--help").stdout


def test_a_service_that_does_not_run_is_a_fault(folder: Path) -> None:
    """And the way out is told."""
    result = run("status", "--runtime-dir", str(folder))
    assert result.exit_code == 2
    assert "no service runs on" in result.stderr


# What follows runs the installed command itself.

COMMAND = str(Path(sys.executable).with_name("meshwarden"))


def spawned(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        [COMMAND, *arguments], env={**os.environ, **environ}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_a_process_exits_as_its_verdict_is() -> None:
    """0 allowed, 1 denied, 2 a fault: what scripts ask."""
    assert spawned("check", *WEB, "--path", "/orders/1").returncode == 0
    assert spawned("check", "--service", "orders").returncode == 1
    assert spawned("check", "--policy", "gone").returncode == 2
    assert spawned("chekc").returncode == 2


def test_a_shell_completes_commands_and_values() -> None:
    """As `--install-completion` sets it up."""
    words = {"_MESHWARDEN_COMPLETE": "complete_bash", "COMP_WORDS": "meshwarden re"}
    assert spawned(**words, COMP_CWORD="1").stdout.split() == ["reload", "restart"]
    words["COMP_WORDS"] = "meshwarden status -o "
    assert spawned(**words, COMP_CWORD="3").stdout.split() == ["human", "json", "yaml"]


def test_an_unforeseen_fault_is_no_denial(folder: Path) -> None:
    """Python's own exit code for it would be 1."""
    broken = folder / "broken.py"
    broken.write_text(
        "from meshwarden.cli import version, main\n"
        "version._installed = lambda _: 1 / 0\n"
        "main.main()\n"
    )
    done = subprocess.run(
        [sys.executable, broken, "version"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "ZeroDivisionError" in done.stderr


def test_nothing_is_coloured_or_cut_in_a_pipe() -> None:
    """A digest arrives whole, however narrow the terminal is said to be."""
    shown = spawned("check", *WEB, "--path", "/orders/1", COLUMNS="30", FORCE_COLOR="").stdout
    assert "\x1b" not in shown
    assert json.loads(spawned("policy", "check", "-o", "json").stdout)["digest"] in shown


def test_a_light_command_imports_nothing_heavy() -> None:
    """`meshwarden version` is up at once: no gRPC, no engine, no Rich."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, "version"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "meshwarden.cli.main" in imported
    heavy = {"grpc", "google.protobuf", "pydantic", "rich.console", "authz.policy.snapshot"}
    assert not imported & {*heavy, "meshwarden.supervisor.main", "asyncio"}


def test_who_interrupts_a_command_that_is_still_being_imported_sees_no_traceback() -> None:
    """And the shell sees that he did."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "meshwarden", "version"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        # The command's own package is there, and most of what it needs is not.
        assert any(line.endswith(" meshwarden.cli\n") for line in command.stderr)
        command.send_signal(signal.SIGINT)
        rest = command.stderr.read()
    assert "Traceback" not in rest
    assert command.returncode in {-signal.SIGINT, 130}


@pytest.mark.parametrize(
    "names", [names for names, _ in commands(typer.main.get_command(app))], ids=" ".join
)
def test_the_help_of_every_command_says_how_it_exits(names: tuple[str, ...]) -> None:
    """What a script has to know."""
    assert "Exits " in " ".join(run(*names, "-h").stdout.split())


@pytest.mark.parametrize(
    "names", [names for names, _ in commands(typer.main.get_command(app))], ids=" ".join
)
def test_help_is_cut_nowhere_on_80_columns(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word that is too long for its column would end in dots."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(*names, "-h").stdout
    assert "Usage: " in shown
    assert "\u2026" not in shown


def test_what_a_command_does_not_need_is_not_imported() -> None:
    """Help comes at once, and the shell that completes a word waits for nothing."""
    heavy = ("grpc", "google.protobuf", "sqlalchemy", "cryptography", "rich", "yaml", "asyncio")
    heavy += ("authz.policy.engine", "importlib.metadata")
    program = (
        "import sys, meshwarden.cli.main;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_check_of_a_policy_here_needs_no_grpc() -> None:
    """It takes as long to import as all else that a check is made of."""
    program = "import sys, meshwarden.cli.explaining; print('grpc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
