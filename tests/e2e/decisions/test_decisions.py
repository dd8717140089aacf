"""The decision log by its command: while the service runs, after its end, past a damaged file."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.demo.processes import free_ports
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.instance import COMMAND, Instance, Place
from tests.fakes.envoy import WEB, check_request
from tests.servers.postgresql import COMMAND as COMMAND_OF_POSTGRESQL
from tests.servers.postgresql import PACKAGE, postgresql

POLICY = {"policy.csv": "p, *, *, GET, /public/**, allow\np, *, *, GET, /public/not/**, deny\n"}
CALLER = WEB.removeprefix("spiffe://")


@pytest.fixture
def instance(new_folder: Callable[[], Path]) -> Iterator[Instance]:
    """Run a service of the test's own."""
    with ExitStack() as running:
        place = Place(new_folder(), POLICY)
        yield running.enter_context(place.start()).wait_ready()


def ask(instance: Instance, *paths: str) -> None:
    """Have requests decided."""
    with channel_to(instance.place.port) as channel:
        for path in paths:
            call(channel, CHECK, check_request(path).SerializeToString())


def found(place: Place, *words: str) -> list[dict[str, object]]:
    """What a search finds, as JSON."""
    done = place.command("decisions", "search", "-o", "json", *words)
    if done.returncode:
        assert any(words in done.stderr for words in ("is not there", "yet", "PostgreSQL"))
        return []
    decisions: list[dict[str, object]] = json.loads(done.stdout)
    return decisions


def test_a_decision_is_found_shown_and_there_after_the_end(instance: Instance) -> None:
    """With its reason, by the id that the sidecar has; also when nothing runs any more."""
    place = instance.place
    ask(instance, "/public/a", "/public/not/b", "/nowhere?token=untold")
    instance.wait_for(lambda: len(found(place)) == 3)
    (denied,) = found(place, "--rule", "policy.csv:2")
    assert (denied["verdict"], denied["path"]) == ("deny", "/public/not/b")
    assert [each["path"] for each in found(place, "--denied")] == ["/public/not/b", "/nowhere"]
    assert [each["path"] for each in found(place, "--path", "/public/a")] == ["/public/a"]
    assert len(found(place, "--principal", WEB, "--since", "1h")) == 3
    assert found(place, "--principal", "other") == []

    instance.send_signal(signal.SIGTERM)
    assert instance.ended() == 0
    (missed,) = found(place, "--path", "/nowhere")
    shown = place.command("decisions", "show", str(missed["id"]))
    assert shown.returncode == 0, shown.stderr
    for words in ("deny 403: no rule matched", CALLER, "GET /nowhere", "nearest", "policy.csv:1"):
        assert words in shown.stdout
    unknown = place.command("decisions", "show", "nothing-like-it")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no decision nothing-like-it" in unknown.stderr
    tail = place.command("decisions", "tail", "--denied", "-n", "1")
    assert "GET /nowhere" in tail.stdout
    assert len(tail.stdout.splitlines()) == 1
    assert all(b"untold" not in file.read_bytes() for file in place.state_dir.glob("decisions*"))


def test_who_follows_sees_each_decision_once(instance: Instance) -> None:
    """As one JSON object a line, from before there was any."""
    place = instance.place
    command = [*COMMAND, "decisions", "tail", "-f", "-o", "json", "--config", str(place.config)]
    following = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert following.stdout is not None
        seen = []
        for path in ("/public/a", "/public/not/b", "/public/c"):
            ask(instance, path)
            seen.append(json.loads(following.stdout.readline())["path"])
        assert seen == ["/public/a", "/public/not/b", "/public/c"]
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
    finally:
        following.kill()
        following.communicate()


def test_a_damaged_database_is_set_aside_while_the_lines_go_on(instance: Instance) -> None:
    """Control says so once; the next decisions are found again."""
    place = instance.place
    ask(instance, "/public/a")
    instance.wait_for(lambda: len(found(place)) == 1)
    instance.send_signal(signal.SIGTERM)
    instance.ended()
    (place.state_dir / "decisions.db").write_bytes(os.urandom(8192))
    broken = place.command("decisions", "tail")
    assert broken.returncode == 2
    assert "can't be read" in broken.stderr
    with place.start() as again:
        again.wait_ready()
        ask(again, "/public/b", "/public/c")
        again.wait_for((place.state_dir / "decisions.db.damaged").exists)
        again.wait_for(lambda: len(found(place)) == 2)
        assert again.said().count("was damaged") == 1
    lines = (place.state_dir / "decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["/public/a", "/public/b", "/public/c"]


def test_a_killed_control_loses_no_decision(instance: Instance) -> None:
    """A front forgets a batch when it is written; what was on its way comes again."""
    place = instance.place
    kills = 2
    for kill in range(kills):
        ask(instance, *(f"/public/{kill}/{number}" for number in range(150)))
        os.kill(instance.control, signal.SIGKILL)
        ask(instance, *(f"/public/{kill}/{number}" for number in range(150, 300)))
        instance.wait_for(instance.is_ready)
    instance.wait_for(lambda: len(found(place, "-n", "1000")) == kills * 300)
    paths = {each["path"] for each in found(place, "-n", "1000")}
    assert len(paths) == kills * 300


@pytest.mark.requires_debian_package(PACKAGE, command=COMMAND_OF_POSTGRESQL)
def test_decisions_in_postgresql_survive_its_outage(new_folder: Callable[[], Path]) -> None:
    """Those made meanwhile wait; control, the lines and the answers go on as if nothing were."""
    with postgresql(free_ports(1)[0]) as server:
        sinks = {"decisions.sinks": ["jsonl", "postgresql"], "decisions.url": server.url}
        place = Place(new_folder(), POLICY, sinks)
        with place.start() as running:
            running.wait_ready()
            ask(running, "/public/a", "/public/not/b")
            running.wait_for(lambda: len(found(place)) == 2)
            assert [each["path"] for each in found(place, "--denied")] == ["/public/not/b"]

            control = running.control
            server.stop()
            ask(running, "/public/c", "/public/d")
            lines = place.state_dir / "decisions.jsonl"
            running.wait_for(lambda: len(lines.read_text().splitlines()) == 4)
            away = place.command("decisions", "tail")
            assert (away.returncode, "PostgreSQL" in away.stderr) == (2, True)
            server.start()
            running.wait_for(lambda: len(found(place)) == 4)
            assert running.control == control
            assert running.metric("meshwarden_decision_sink_records_total", outcome="dropped") == 0
            assert "is written again" in running.said()
        # The file that fronts read does not say where it is.
        assert server.url not in (place.run_dir / "settings.json").read_text()
