"""`meshwarden policy shadow` on a real service: set, counted, shown, promoted, stopped."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy.demo.processes import free_ports, wait_until
from protos.envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from protos.envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from tests.e2e.support.service import Service
from tests.servers.postgresql import COMMAND, PACKAGE, Postgresql, postgresql

LIVE = "p, *, shop, GET, /open, allow\n"
CANDIDATE = "p, *, shop, GET, /open, deny\np, *, shop, GET, /more, allow\n"
WITHIN_S = 10.0


def folder_of(service: Service, name: str, text: str) -> Path:
    """Write a policy folder beside the service's own."""
    made = service.folder / name
    made.mkdir(exist_ok=True)
    (made / "policy.csv").write_text(text)
    return made


def command(service: Service, *words: object) -> tuple[int, str]:
    """Run a command against a service, as its owner would; give exit code and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "meshwarden", *map(str, words), "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def shown(service: Service) -> dict[str, Any]:
    """What `policy shadow show` says."""
    _, said = command(service, "policy", "shadow", "show", "-o", "json")
    found: dict[str, Any] = json.loads(said)
    return found


def ask(service: Service, path: str, times: int = 1) -> bool:
    """Ask for a verdict, several times; give whether it was allowed."""
    request = CheckRequest()
    request.attributes.request.http.method = "GET"
    request.attributes.request.http.path = path
    request.attributes.context_extensions["service"] = "shop"
    with grpc.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        answers = [AuthorizationStub(channel).Check(request, timeout=5) for _ in range(times)]
    codes = {answer.status.code for answer in answers}
    assert len(codes) == 1
    return codes == {0}


def is_judged_by(service: Service, digest: str) -> bool:
    """Whether fronts judge by this candidate: a check that it denies alone is counted as such."""
    before = service.metric("meshwarden_shadow_checks_total", outcome="would_deny")
    assert ask(service, "/open")
    found = shown(service)
    after = service.metric("meshwarden_shadow_checks_total", outcome="would_deny")
    return bool(after > before and found["candidate"]["digest"] == digest)


@pytest.fixture
def service(new_folder: Callable[[], Path]) -> Iterator[Service]:
    """A service on the embedded store, with a revision in force."""
    with Service(new_folder(), {}, {"policy.source": "store"}) as running:
        running.wait_ready()
        code, said = command(running, "policy", "apply", folder_of(running, "live", LIVE))
        assert code == 0, said
        wait_until(lambda: ask(running, "/open"), [running], WITHIN_S)
        yield running


def test_a_candidate_is_set_counted_shown_and_taken_away(service: Service) -> None:
    """The answer never changes; each difference is on record, and found by its id."""
    candidate = folder_of(service, "candidate", CANDIDATE)
    assert command(service, "policy", "shadow", "show")[0] == 1
    code, said = command(service, "policy", "shadow", "set", candidate, "-m", "close it")
    assert code == 0, said
    digest = shown(service)["candidate"]["digest"]
    wait_until(lambda: is_judged_by(service, digest), [service], WITHIN_S)
    before = shown(service)["counts"]
    assert ask(service, "/open", 3)
    assert not ask(service, "/more", 2)
    assert not ask(service, "/neither")

    def counted() -> bool:
        now = shown(service)["counts"]
        return {name: now[name] - before[name] for name in now} == {
            "same": 1,
            "would_deny": 3,
            "would_allow": 2,
        }

    wait_until(counted, [service], WITHIN_S)
    found = shown(service)
    assert found["candidate"]["message"] == "close it"
    wait_until(
        lambda: (
            {each["verdict"] for each in shown(service)["examples"]}
            == {"would_deny", "would_allow"}
        ),
        [service],
        WITHIN_S,
    )
    (example, *_) = shown(service)["examples"]
    code, said = command(service, "decisions", "show", example["id"])
    assert code == 0
    assert "would_deny" in said
    assert command(service, "policy", "shadow", "show", "--exit-code")[0] == 1
    code, said = command(service, "policy", "shadow", "stop")
    assert (code, "was taken away" in said) == (0, True)
    assert command(service, "policy", "shadow", "stop")[0] == 1

    def is_over() -> bool:
        before = service.metric("meshwarden_shadow_checks_total", outcome="would_deny")
        assert ask(service, "/open", 2)
        after = service.metric("meshwarden_shadow_checks_total", outcome="would_deny")
        return bool(after == before)

    wait_until(is_over, [service], WITHIN_S)


def test_a_candidate_with_a_fault_is_refused_under_its_line(service: Service) -> None:
    """The one that is there already stays."""
    command(service, "policy", "shadow", "set", folder_of(service, "candidate", CANDIDATE))
    before = shown(service)["candidate"]
    bad = folder_of(service, "bad", LIVE + "p, *, shop, GET, /x, alow\n")
    code, said = command(service, "policy", "shadow", "set", bad)
    assert code == 2
    assert f"{bad}/policy.csv:2: " in said
    assert "    p, *, shop, GET, /x, alow\n                         ^^^^" in said
    assert shown(service)["candidate"] == before


def test_what_is_promoted_is_in_force_and_no_shadow_any_more(service: Service) -> None:
    """It is a revision like any other; nobody at a terminal is asked, so it needs --yes."""
    command(service, "policy", "shadow", "set", folder_of(service, "candidate", CANDIDATE))
    code, said = command(service, "policy", "shadow", "promote")
    assert (code, "--yes" in said) == (2, True)
    code, said = command(service, "policy", "shadow", "promote", "--yes", "-m", "as tried")
    assert code == 0, said
    wait_until(lambda: not ask(service, "/open") and ask(service, "/more"), [service], WITHIN_S)
    assert shown(service)["candidate"] is None
    history = json.loads(command(service, "policy", "history", "-o", "json")[1])
    assert history[0]["message"] == "as tried"


def test_an_older_revision_can_be_tried_beside_the_newest(service: Service) -> None:
    """And check asks both."""
    command(service, "policy", "apply", folder_of(service, "next", CANDIDATE))
    wait_until(lambda: ask(service, "/more"), [service], WITHIN_S)
    assert command(service, "policy", "shadow", "set", "--revision", 1)[0] == 0
    assert shown(service)["candidate"]["origin"] == "revision 1"
    for candidate in ("shadow", "1"):
        asked = ("check", "--service", "shop", "--path", "/open", "--candidate", candidate)
        code, said = command(service, *asked, "-o", "json")
        found = json.loads(said)
        assert (code, found["change"]) == (1, "deny->allow")
        assert found["policy"]["revision"] == 2
        assert found["policy"]["live"]
        assert found["candidate"]["rule"] == "policy.csv:1"


def test_a_candidate_and_its_counts_outlive_a_restart(new_folder: Callable[[], Path]) -> None:
    """Without a store too: here policy comes from a folder."""
    folder = new_folder()
    (folder / "policy").mkdir()
    (folder / "policy" / "policy.csv").write_text(LIVE)
    with Service(folder, folder / "policy") as first:
        first.wait_ready()
        candidate = folder_of(first, "candidate", CANDIDATE)
        assert command(first, "policy", "shadow", "set", candidate)[0] == 0
        digest = shown(first)["candidate"]["digest"]
        wait_until(lambda: is_judged_by(first, digest), [first], WITHIN_S)
        wait_until(lambda: shown(first)["counts"]["would_deny"] > 0, [first], WITHIN_S)
        code, said = command(first, "policy", "shadow", "promote", "--yes")
        assert (code, "policy.source" in said) == (2, True)
    with Service(folder, folder / "policy") as second:
        second.wait_ready()
        wait_until(lambda: shown(second)["candidate"] is not None, [second], WITHIN_S)
        before = shown(second)["counts"]["would_deny"]
        assert before > 0
        wait_until(lambda: is_judged_by(second, digest), [second], WITHIN_S)
        wait_until(lambda: shown(second)["counts"]["would_deny"] > before, [second], WITHIN_S)


def test_a_candidate_that_the_configuration_names_is_changed_there_only(
    new_folder: Callable[[], Path],
) -> None:
    """A command says so; it is shown like any other."""
    folder = new_folder()
    candidate = folder / "candidate"
    candidate.mkdir()
    (candidate / "policy.csv").write_text(CANDIDATE)
    settings = {"policy.shadow": str(candidate)}
    with Service(folder, {"policy.csv": LIVE}, settings) as running:
        running.wait_ready()
        wait_until(lambda: shown(running)["candidate"] is not None, [running], WITHIN_S)
        assert shown(running)["candidate"]["is_fixed"]
        for words in (("stop",), ("set", candidate)):
            code, said = command(running, "policy", "shadow", *words)
            assert (code, "policy.shadow" in said) == (2, True)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A real PostgreSQL."""
    with postgresql(free_ports(1)[0]) as running:
        yield running


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND)
def test_replicas_share_a_candidate_and_tell_how_they_are(
    new_folder: Callable[[], Path], server: Postgresql
) -> None:
    """Each counts by itself and all are summed; one that is stopped is forgotten, and while the
    store is away what was last known is shown, with the reason.
    """
    settings = {"policy.source": "store", "store.url": server.url}

    def replicas(of: Service) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(command(of, "status", "-o", "json")[1])["replicas"]
        return found

    with Service(new_folder(), {}, settings) as one:
        one.wait_ready()
        with Service(new_folder(), {}, settings) as two:
            two.wait_ready()
            assert command(one, "policy", "apply", folder_of(one, "live", LIVE))[0] == 0
            wait_until(lambda: ask(two, "/open"), [one, two], WITHIN_S)
            candidate = folder_of(two, "candidate", CANDIDATE)
            assert command(two, "policy", "shadow", "set", candidate)[0] == 0
            wait_until(lambda: shown(one)["candidate"] is not None, [one, two], WITHIN_S)
            digest = shown(one)["candidate"]["digest"]
            for each in (one, two):
                wait_until(lambda each=each: is_judged_by(each, digest), [one, two], WITHIN_S)
            wait_until(lambda: len(shown(one)["replicas"]) == 2, [one, two], WITHIN_S)
            wait_until(
                lambda: all(each["would_deny"] for each in shown(one)["replicas"]),
                [one, two],
                WITHIN_S,
            )
            wait_until(
                lambda: {each["revision"] for each in replicas(one)} == {1}, [one, two], WITHIN_S
            )
            known = replicas(one)
            assert {each["address"] for each in known} == {
                f"127.0.0.1:{each.port}" for each in (one, two)
            }
            assert len({each["digest"] for each in known}) == 1
            assert not any(each["stale"] or each["error"] for each in known)
            code, said = command(one, "status")
            assert code == 0
            assert f"127.0.0.1:{two.port}" in said

            server.stop()
            wait_until(
                lambda: json.loads(command(two, "status", "-o", "json")[1])["replicas_error"],
                [one, two],
                30,
            )
            assert ask(two, "/open")
            assert len(replicas(two)) == 2
            server.start()
            wait_until(
                lambda: not json.loads(command(two, "status", "-o", "json")[1])["replicas_error"],
                [one, two],
                30,
            )
        wait_until(lambda: len(replicas(one)) == 1, [one], 20)
