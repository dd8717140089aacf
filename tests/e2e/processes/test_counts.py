"""What was decided is counted once and recorded once, whatever happens to processes meanwhile."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.e2e.processes.conftest import NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.instance import Instance
from tests.e2e.support.load import direct_load
from tests.fakes.envoy import check_request

CHECKS = "meshwarden_checks_total"
SECONDS = "meshwarden_check_seconds_count"


def ask(port: int, calls: int) -> None:
    """Ask that many times, each on a connection of its own, so that every front gets some."""
    message = check_request("/public/a").SerializeToString()
    for _ in range(calls):
        with channel_to(port) as channel:
            call(channel, CHECK, message)


def records(state_dir: Path) -> list[dict[str, object]]:
    """Read every record that is kept."""
    lines = []
    for path in state_dir.glob("decisions.jsonl*"):
        lines += path.read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_metrics_are_the_sum_over_all_fronts_and_never_go_back(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Through a killed front and a renewed one, asked of whichever front answers."""
    instance = run(new_place({"server.fronts": 2, "server.drain_s": 0.5})).wait_ready()
    port = instance.place.port
    seen = [0.0]

    def at_least(calls: int) -> bool:
        try:
            seen.append(instance.metric(CHECKS, verdict="allow"))
        except OSError:  # The kernel gave this connection to the front that was killed.
            return False
        return seen[-1] >= calls

    ask(port, 20)
    instance.wait_for(lambda: at_least(20))
    front = instance.front()
    os.kill(front, signal.SIGKILL)
    instance.wait_for(
        lambda: at_least(20) and instance.pids("front").get("front-0", front) != front
    )
    instance.wait_for(instance.is_ready)
    ask(port, 20)
    instance.wait_for(lambda: at_least(40))
    assert instance.place.command("restart", "fronts").returncode == 0
    ask(port, 20)
    instance.wait_for(lambda: at_least(60))
    for _ in range(10):
        assert at_least(60)
    assert seen == sorted(seen)
    assert seen[-1] == 60
    assert instance.metric(SECONDS) == 60
    assert instance.metric("meshwarden_policy_loads_total", result="loaded") >= 1, "control's share"
    assert instance.metric("meshwarden_policy_rules") == 2


def test_each_decision_is_recorded_once_through_renewals_and_a_stop(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Processes that are ended in order hand over what they have."""
    instance = run(new_place({"server.fronts": 2})).wait_ready()
    with direct_load([instance.place.port], rate=200) as load:
        instance.wait_for(lambda: load.answered > 50)
        assert instance.place.command("restart", "fronts").returncode == 0
    assert load.failures == []
    instance.send_signal(signal.SIGTERM)
    assert instance.ended(60) == 0
    said = instance.said()
    assert "is killed" not in said
    assert "not delivered" not in said
    ids = [record["id"] for record in records(instance.place.state_dir)]
    assert len(set(ids)) == len(ids) == load.answered


def test_a_killed_control_costs_no_record(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Fronts keep them until it is back; a batch that it had not confirmed comes again."""
    instance = run(new_place()).wait_ready()
    with direct_load([instance.place.port], rate=200) as load:
        instance.wait_for(lambda: load.answered > 50)
        control = instance.control
        os.kill(control, signal.SIGKILL)
        instance.wait_for(lambda: instance.pids("control").get("control", control) != control)
        enough = load.answered + 50
        instance.wait_for(lambda: load.answered > enough)
    assert load.failures == []
    instance.wait_for(
        lambda: len({record["id"] for record in records(instance.place.state_dir)}) == load.answered
    )


def test_records_wait_for_control_and_those_past_the_queue_are_counted(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Seen in /metrics while control is still away."""
    instance = run(new_place({"decisions.queue_records": 10})).wait_ready()
    control = instance.control
    os.kill(control, signal.SIGSTOP)
    ask(instance.place.port, 30)
    instance.wait_for(
        lambda: instance.metric("meshwarden_decision_records_total", outcome="dropped") == 20
    )
    os.kill(control, signal.SIGCONT)
    instance.wait_for(lambda: len(records(instance.place.state_dir)) == 10)
    assert instance.metric("meshwarden_decision_records_total", outcome="dropped") == 20


def test_the_decision_log_is_bounded_and_its_lines_are_whole(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """More is written than is kept; no file is larger than the settings say."""
    bounded = {"decisions.file_bytes": 65_536, "decisions.files": 2}
    instance = run(new_place(bounded)).wait_ready()
    message = check_request("/public/" + "a" * 900).SerializeToString()
    with channel_to(instance.place.port) as channel:
        for _ in range(300):
            call(channel, CHECK, message)
    instance.wait_for(
        lambda: (
            instance.metric(
                "meshwarden_decision_sink_records_total", sink="jsonl", outcome="written"
            )
            == 300
        )
    )
    sizes = [path.stat().st_size for path in instance.place.state_dir.glob("decisions.jsonl*")]
    assert len(sizes) == 2
    assert max(sizes) <= 65_536
    kept = records(instance.place.state_dir)
    assert 0 < len(kept) < 300
    assert {record["verdict"] for record in kept} == {"allow"}


def test_bytes_that_are_no_text_are_recorded_and_harm_nobody(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """With `encode_raw_headers` any byte gets through to us, and so into a record."""
    instance = run(new_place()).wait_ready()
    front = instance.front()
    raw = [
        (":method", b"GET"),
        (":path", b"/public/\xff\xfe"),
        (":authority", b"h\xfft"),
        ("x-any", b"\x80\xff"),
    ]
    message = check_request(raw_headers=raw)
    message.attributes.request.http.path = ""
    with channel_to(instance.place.port) as channel:
        call(channel, CHECK, message.SerializeToString())
        instance.wait_for(lambda: len(records(instance.place.state_dir)) == 1)
        call(channel, CHECK, message.SerializeToString())
    assert instance.front() == front
