"""Policy changed by the rule, by the role, by the table: shown, asked about, made, undone."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from deploy.demo.processes import wait_until
from meshwarden.control_socket import ask
from meshwarden.files import RuntimeDir
from protos.meshwarden.v1 import policy_pb2, policy_pb2_grpc
from tests.e2e.support.policy import at_terminal, command, folder_of, told
from tests.e2e.support.service import Service

BASE = {
    "policy.csv": "p, role:web, shop, GET, /open, allow\np, *, shop, DELETE, /**, deny\n",
    "roles.csv": "g, td/ns/shop/sa/frontend, role:web\n",
}
ALLOW = ("allow", "role:web", "to", "GET", "/more", "on", "shop")


@pytest.fixture(scope="module")
def running(new_folder: Callable[[], Path]) -> Iterator[Service]:
    """A service on the embedded store."""
    with Service(new_folder(), {}, {"policy.source": "store"}) as service:
        service.wait_ready()
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    """The service with the policy that each story begins with."""
    folder = folder_of(running.folder, "base", BASE)
    code, said = command(running, "apply", folder, "-m", "begin")
    assert code == 0, said
    return running


def newest(service: Service) -> int:
    """The number of the newest revision."""
    number: int = told(service, "history", "--limit", 1)[0]["number"]
    return number


def change(database: Path, statement: str, values: tuple[str, ...]) -> None:
    """Do something to a table as its other users do."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_allow_makes_a_revision_of_one_more_row(service: Service) -> None:
    """It shows what it lets in; history counts it, show names it."""
    before = newest(service)
    code, said = command(service, *ALLOW, "-m", "more")
    assert code == 0, said
    assert said.startswith("denied before, ALLOWED now: 1\n")
    assert f"revision {before + 1} is in force" in said
    (made,) = told(service, "history", "--limit", 1)
    assert (made["added"], made["removed"], made["message"]) == (1, 0, "more")
    shown = told(service, "show")
    assert shown["parent"] == before
    assert [(each["kind"], each["new"]["text"]) for each in shown["changes"]] == [
        ("added", "p, role:web, shop, GET, /more, allow")
    ]
    assert "+ p, role:web, shop, GET, /more, allow" in command(service, "show")[1]


def test_what_was_allowed_is_revoked_again(service: Service) -> None:
    """Whole rules by their fields; the rest of the policy is as it was."""
    before = told(service, "get")
    command(service, *ALLOW)
    assert len(told(service, "get")) == len(before) + 1
    code, said = command(service, "revoke", "--path", "/more")
    assert code == 0, said
    assert said.startswith("allowed before, DENIED now: 1\n")
    assert told(service, "get") == before
    (made,) = told(service, "history", "--limit", 1)
    assert made["message"] == "remove p, role:web, shop, GET, /more, allow"


def test_a_dry_run_changes_nothing(service: Service) -> None:
    """Whatever the change; what it would do is shown."""
    before = newest(service)
    folder = folder_of(service.folder, "next", BASE["policy.csv"].replace("role:web", "*"))
    for words in (
        ALLOW,
        ("revoke", "--path", "/open"),
        ("role", "add", "td/ns/shop/sa/job", "role:web"),
        ("apply", folder),
    ):
        code, said = command(service, *words, "--dry-run")
        assert code == 0, said
        assert "before" in said.splitlines()[0]
        assert "nothing was changed" in said
    assert newest(service) == before


def test_a_rule_with_a_fault_is_told_and_changes_nothing(service: Service) -> None:
    """By the engine that would decide by it."""
    before = newest(service)
    code, said = command(service, "allow", "role:none", "to", "GET", "/", "on", "shop")
    assert code == 2
    assert "'role:none' is a role that no g row gives" in said
    assert newest(service) == before


def test_at_a_terminal_what_is_let_in_is_asked_about(service: Service) -> None:
    """No is no; yes makes it; a change that lets nothing in isn't asked about."""
    before = newest(service)
    code, said = at_terminal(service, "n", *ALLOW)
    assert code == 1
    assert "ALLOWED now: 1" in said
    assert "It allows what was denied, by 1 change. Make it? [y/N]" in said
    assert newest(service) == before
    assert at_terminal(service, "y", *ALLOW)[0] == 0
    code, said = at_terminal(service, "", "revoke", "--path", "/more")
    assert code == 0
    assert "[y/N]" not in said
    assert newest(service) == before + 2


def test_apply_asks_at_a_terminal_unless_yes_is_given(service: Service) -> None:
    """As a script it neither shows nor asks."""
    before = newest(service)
    wider = folder_of(service.folder, "wider", BASE["policy.csv"].replace("role:web", "*"))
    code, said = at_terminal(service, "n", "apply", wider)
    assert code == 1
    assert said.startswith("denied before, ALLOWED now: 1\n")
    code, said = at_terminal(service, "", "apply", wider, "--yes")
    assert code == 0
    assert "[y/N]" not in said
    assert newest(service) == before + 1
    code, said = at_terminal(service, "", "rollback", before)
    assert code == 0
    assert said.startswith("allowed before, DENIED now: 1\n")
    code, said = command(service, "apply", wider)
    assert said.startswith(f"revision {before + 3} is in force")


def test_diff_compares_revisions_and_what_is_live(service: Service) -> None:
    """By effect, deny to allow first; it exits as diff of two folders does."""
    first = newest(service)
    command(service, *ALLOW)
    code, said = command(service, "diff", first, first + 1)
    assert code == 1
    assert said.startswith("denied before, ALLOWED now: 1\n")
    code, said = command(service, "diff", first)
    assert code == 0
    assert said.startswith("allowed before, DENIED now: 1\n")
    assert command(service, "diff", first, "--exit-code")[0] == 1
    code, said = command(service, "diff", "live", service.folder / "base")
    assert code == 0
    assert said.startswith("allowed before, DENIED now: 1\n")
    assert command(service, "diff", first, service.folder / "base") == (0, "no rule differs\n")
    code, said = command(service, "diff", first, 9999)
    assert code == 2
    assert "no revision 9999" in said


def test_a_revisions_difference_is_in_the_api(service: Service) -> None:
    """With its parent, or with any other revision."""
    command(service, *ALLOW)
    socket = RuntimeDir(service.folder / "run").admin_socket
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stub = policy_pb2_grpc.PolicyStub(channel)
        reply = stub.Diff(policy_pb2.DiffRequest())
        assert [list(each.new.values)[3] for each in reply.changes] == ["/more"]
        assert reply.base.number == reply.revision.parent
        whole = stub.Diff(policy_pb2.DiffRequest(number=reply.base.number, base=0))
        assert not whole.HasField("base")
        assert len(whole.changes) == 3
        with pytest.raises(grpc.RpcError) as caught:
            stub.Diff(policy_pb2.DiffRequest(number=9999))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_roles_are_given_and_drawn_on_the_store(service: Service) -> None:
    """Add, list, tree and remove speak of the newest revision."""
    code, said = command(service, "role", "add", "td/ns/shop/sa/job", "role:web", "-m", "jobs")
    assert code == 0, said
    assert said.startswith("denied before, ALLOWED now: 1\n")
    assert "td/ns/shop/sa/job" in command(service, "role", "tree", "web")[1]
    assert len(told(service, "role", "list", "--role", "web")) == 2
    assert command(service, "role", "remove", "td/ns/shop/sa/job", "role:web")[0] == 0
    assert len(told(service, "role", "list")) == 1


def test_a_table_of_casbins_becomes_a_revision_and_back(service: Service) -> None:
    """Rows that are in force keep their places: import of an export changes nothing."""
    url = f"sqlite:///{service.folder / 'rules.db'}"
    assert command(service, "export", url) == (0, "3 rows in the table casbin_rule\n")
    code, said = command(service, "import", url)
    assert code == 0
    assert said.startswith("unchanged")
    code, said = command(service, "export", url)
    assert code == 2
    assert "holds 3 rows already" in said
    database = service.folder / "rules.db"
    row = ("p", "role:web", "shop", "PUT", "/t", "Allow")
    change(
        database, "INSERT INTO casbin_rule (ptype, v0, v1, v2, v3, v4) VALUES (?,?,?,?,?,?)", row
    )
    code, said = command(service, "import", url, "--dry-run")
    assert code == 2
    assert "casbin_rule:4: unknown effect 'Allow'" in said
    change(database, "UPDATE casbin_rule SET v4 = 'allow' WHERE v4 = ?", ("Allow",))
    code, said = command(service, "import", url, "-m", "from Casbin")
    assert code == 0, said
    places = [f"{row['file']}:{row['line']}" for row in told(service, "get")]
    assert places == ["policy.csv:1", "policy.csv:2", "roles.csv:1", "casbin_rule:4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "sqlite:////nowhere/rules.db"), "no such file"),
        (("import", "rules.db"), "is no database"),
        (("export", "postgresql://127.0.0.1:1/x"), "refused"),
    ],
)
def test_a_database_that_is_not_there_is_told(
    service: Service, words: tuple[str, ...], said: str
) -> None:
    """In one sentence, with exit code 2."""
    code, shown = command(service, *words)
    assert code == 2
    assert said in " ".join(shown.replace("│", " ").split())
    assert "Traceback" not in shown


def test_watch_tells_each_revision_over_a_restart_of_control(service: Service) -> None:
    """One line each, none left out."""
    since = newest(service)
    line = [sys.executable, "-m", "meshwarden", "policy", "watch", "-o", "json"]
    line += ["--since", str(since), "--count", "2", "--config", str(service.config)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        command(service, *ALLOW, "-m", "one")
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["number"], first["message"]) == (since + 1, "one")
        control = _control(service)
        os.kill(control, signal.SIGKILL)
        wait_until(lambda: _control(service) not in {0, control}, [service], 30)
        wait_until(lambda: command(service, "revoke", "--path", "/more")[0] == 0, [service], 30)
        second = json.loads(watching.stdout.readline())
        assert second["number"] == since + 2
        assert watching.wait(20) == 0
        assert watching.stderr is not None
        assert b"waiting for it" in watching.stderr.read()


def test_watch_ends_on_ctrl_c_as_a_shell_has_it(service: Service) -> None:
    """Without a traceback."""
    since = newest(service)
    line = [sys.executable, "-m", "meshwarden", "policy", "watch", "--since", str(since - 1)]
    line += ["--config", str(service.config)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert f"revision {since}  ".encode() in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert watching.stderr is not None
        assert watching.stderr.read() == b""


def test_many_who_change_at_once_all_get_through(service: Service) -> None:
    """Each change still applies upon the others', so it is made again upon them."""
    before = newest(service)
    lines = [
        [sys.executable, "-m", "meshwarden", "policy", "allow", "role:web", "to", "GET",
         f"/at-once/{number}", "on", "shop", "--config", str(service.config)]
        for number in range(4)
    ]  # fmt: skip
    several = [
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for line in lines
    ]
    for each in several:
        said, _ = each.communicate(timeout=100)
        assert each.returncode == 0, said
    made = told(service, "history", "--limit", 4)
    assert [each["number"] for each in made] == list(range(before + 4, before, -1))
    assert [(each["added"], each["removed"]) for each in made] == [(1, 0)] * 4
    assert len(told(service, "get", "--path", "/at-once/*")) == 4


def _control(service: Service) -> int:
    """The process id of control; 0 while there is none."""
    processes = ask(service.folder / "run", "status", 10)["processes"]
    pids = [each["pid"] for each in processes if each["kind"] == "control"]
    return int(pids[0]) if pids else 0
