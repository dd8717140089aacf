"""Policy from the revision store: applied, put back, shared by replicas, kept over outages."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.demo.processes import free_ports, wait_until
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from protos.meshwarden.v1.policy_pb2 import ApplyRequest, GetRequest, PolicyText, Row
from protos.meshwarden.v1.policy_pb2_grpc import PolicyStub
from tests.e2e.support.service import Service
from tests.servers.partition import Partition
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

OPEN = "p, *, shop, GET, /open, allow\n"
MORE = OPEN + "p, *, shop, GET, /more, allow\n"
OTHER = "p, *, shop, GET, /more, allow\n"
SPREAD_S = 5.0
# For a machine that does other things too.
MARGIN_S = 2.0
POLICY = (sys.executable, "-m", "meshwarden", "policy")


def policy(folder: Path, name: str, text: str) -> Path:
    """Write a policy folder."""
    made = folder / name
    made.mkdir(exist_ok=True)
    (made / "policy.csv").write_text(text)
    return made


def command(service: Service, *arguments: object) -> tuple[int, str]:
    """Run `meshwarden policy` against a service, as its owner would."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "meshwarden",
            "policy",
            *map(str, arguments),
            "--config",
            str(service.config),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def status(service: Service, path: str) -> int:
    """Ask for a verdict: 0 is allowed."""
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = "GET", path
    request.attributes.context_extensions["service"] = "shop"
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        answer = AuthorizationStub(channel).Check(request, timeout=5)
    code: int = answer.status.code
    return code


def waits_for(service: Service, path: str, *, allowed: bool, within_s: float = SPREAD_S) -> None:
    """Wait until a service decides so."""
    wait_until(lambda: (status(service, path) == 0) is allowed, [service], within_s)


@pytest.fixture
def service(new_folder: Callable[[], Path]) -> Iterator[Service]:
    """A service on the embedded store."""
    with Service(new_folder(), {}, {"policy.source": "store"}) as running:
        running.wait_ready()
        yield running


def test_before_the_first_revision_all_is_denied(service: Service) -> None:
    """An empty store is a policy that allows nothing, not a service that doesn't start."""
    assert status(service, "/open") != 0
    assert command(service, "history")[1].startswith("no revision yet")


def test_a_revision_is_in_force_when_apply_returns_soon_after(service: Service) -> None:
    """It is in the history, with who and why, and in the audit trail."""
    folder = policy(service.folder, "one", OPEN)
    code, said = command(service, "apply", folder, "-m", "open the shop")
    assert code == 0, said
    assert "revision 1 is in force" in said
    waits_for(service, "/open", allowed=True)
    made: list[dict[str, Any]] = json.loads(command(service, "history", "-o", "json")[1])
    assert [(each["number"], each["message"]) for each in made] == [(1, "open the shop")]
    assert made[0]["author"].startswith("local:")
    trail = json.loads(command(service, "audit", "-o", "json")[1])
    assert [(each["action"], each["revision"]) for each in trail] == [("policy.apply", "policy/1")]


def test_applying_the_same_again_makes_no_revision(service: Service) -> None:
    """History tells changes, not habits."""
    folder = policy(service.folder, "one", OPEN)
    command(service, "apply", folder)
    assert "unchanged" in command(service, "apply", folder)[1]
    assert len(json.loads(command(service, "history", "-o", "json")[1])) == 1


def test_a_policy_with_a_fault_changes_nothing(service: Service) -> None:
    """Every fault is told, and the last revision goes on deciding."""
    command(service, "apply", policy(service.folder, "one", OPEN))
    bad = policy(service.folder, "bad", OPEN + "p, *, shop, GET, /x, Deny\np, *\n")
    code, said = command(service, "apply", bad)
    assert code == 2
    assert "policy.csv:2" in said
    assert "policy.csv:3" in said
    waits_for(service, "/open", allowed=True)


def test_whoever_was_slower_is_told_by_whom(service: Service) -> None:
    """A revision upon one that is no longer the newest is refused."""
    command(service, "apply", policy(service.folder, "one", OPEN), "-m", "first")
    command(service, "apply", policy(service.folder, "two", MORE), "-m", "second")
    code, said = command(service, "apply", policy(service.folder, "three", OPEN), "--parent", 1)
    assert code == 2
    assert "revision 2 was made meanwhile by local:" in said
    assert "second" in said


def test_a_dry_run_checks_and_changes_nothing(service: Service) -> None:
    """It tells what apply would."""
    code, said = command(service, "apply", policy(service.folder, "one", OPEN), "--dry-run")
    assert code == 0
    assert "nothing was changed" in said
    assert "no revision yet" in command(service, "history")[1]


def test_rollback_makes_a_new_revision_of_an_old_policy(service: Service) -> None:
    """What was undone stays in the history."""
    command(service, "apply", policy(service.folder, "one", OPEN))
    command(service, "apply", policy(service.folder, "two", MORE))
    waits_for(service, "/more", allowed=True)
    assert "revision 3 is in force" in command(service, "rollback", 1)[1]
    waits_for(service, "/more", allowed=False)


def test_what_was_exported_can_be_applied_again(service: Service) -> None:
    """Export and apply are each other's opposites."""
    command(service, "apply", policy(service.folder, "one", MORE))
    out = service.folder / "out"
    assert command(service, "export", out)[0] == 0
    assert "unchanged" in command(service, "apply", out)[1]


def test_a_row_that_would_be_others_in_a_file_never_gets_in(service: Service) -> None:
    """A client of one's own can send it: a line end within a value, a name that can't be read."""
    command(service, "apply", policy(service.folder, "one", MORE))
    with grpc.insecure_channel(f"unix:{service.folder}/run/admin.sock") as channel:
        api = PolicyStub(channel)
        live = api.Get(GetRequest(), timeout=10).text
        for change in (
            {"values": ["*", "shop", "GET", "/a\np, *, *, *, /**, allow", "allow"]},
            {"values": ["*", "shop", "GET", "/a\0", "allow"]},
            {"file": "\x1b[2J.csv"},
        ):
            odd = PolicyText()
            odd.CopyFrom(live)
            odd.rows[0].MergeFrom(Row(**change))
            if "values" in change:
                odd.rows[0].values[:] = change["values"]
            assert api.Apply(ApplyRequest(text=odd), timeout=10).errors
        assert api.Get(GetRequest(), timeout=10).revision.number == 1


def test_revisions_survive_a_restart(new_folder: Callable[[], Path]) -> None:
    """The store is on disk, and so is what was in force."""
    folder = new_folder()
    with Service(folder, {}, {"policy.source": "store"}) as first:
        first.wait_ready()
        command(first, "apply", policy(folder, "one", OPEN))
    (folder / "policy").rmdir()
    with Service(folder, {}, {"policy.source": "store"}) as second:
        second.wait_ready()
        waits_for(second, "/open", allowed=True)
        assert len(json.loads(command(second, "history", "-o", "json")[1])) == 1


def test_where_a_folder_is_the_source_apply_says_so(new_folder: Callable[[], Path]) -> None:
    """Silently doing nothing would be worse than a refusal."""
    with Service(new_folder(), {"policy.csv": OPEN}) as service:
        service.wait_ready()
        code, said = command(service, "apply", service.folder / "policy")
        assert code == 2
        assert "policy.source = 'store'" in said


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_replicas_agree_and_outlive_an_outage(
    new_folder: Callable[[], Path], server: Postgresql
) -> None:
    """Two replicas on one PostgreSQL: a change reaches both; while it is gone both go on deciding,
    a front started meanwhile too; once it is back, the next change reaches both again.
    """
    settings = {"policy.source": "store", "store.url": server.url}
    with Service(new_folder(), {}, settings) as one, Service(new_folder(), {}, settings) as two:
        one.wait_ready()
        two.wait_ready()
        assert command(one, "apply", policy(one.folder, "one", OPEN))[0] == 0
        waits_for(two, "/open", allowed=True)

        server.stop()
        code, said = command(one, "apply", policy(one.folder, "two", MORE))
        assert code == 2, said
        restart = [sys.executable, "-m", "meshwarden", "restart", "fronts"]
        subprocess.run(
            [*restart, "--config", str(two.config)], check=True, timeout=60, capture_output=True
        )
        assert status(one, "/open") == 0
        assert status(two, "/open") == 0

        server.start()
        assert command(two, "apply", policy(two.folder, "two", MORE))[0] == 0
        waits_for(two, "/more", allowed=True)
        waits_for(one, "/more", allowed=True)


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
@pytest.mark.parametrize("cut_s", [0.5, 8.0])
def test_replicas_agree_soon_after_a_partition_that_nobody_was_told_of(
    new_folder: Callable[[], Path], server: Postgresql, cut_s: float
) -> None:
    """Something between takes all that is sent and answers nothing, and old connections never
    speak again: of a short one, only they tell. Meanwhile the replica goes on by what it has; then
    it gets what was changed, a deletion too, in the 5 s of promise 24.
    """
    with Partition(server.port) as partition:
        settings = {"policy.source": "store"}
        far = server.url.replace(f":{server.port}/", f":{partition.port}/")
        with (
            Service(new_folder(), {}, {**settings, "store.url": far}) as cut_off,
            Service(new_folder(), {}, {**settings, "store.url": server.url}) as other,
        ):
            cut_off.wait_ready()
            other.wait_ready()
            assert command(other, "apply", policy(other.folder, "before", OPEN))[0] == 0
            waits_for(cut_off, "/open", allowed=True)
            partition.begin()
            assert command(other, "apply", policy(other.folder, "after", OTHER))[0] == 0
            waits_for(other, "/open", allowed=False)
            time.sleep(cut_s)
            assert status(cut_off, "/open") == 0
            partition.end()
            ended_s = time.monotonic()
            waits_for(cut_off, "/open", allowed=False, within_s=SPREAD_S + MARGIN_S)
            waits_for(cut_off, "/more", allowed=True)
            assert time.monotonic() - ended_s < SPREAD_S + MARGIN_S
