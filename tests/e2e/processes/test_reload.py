"""A new policy is in force soon after it is written, and a bad one changes nothing: promise 3."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from hashlib import sha256

import grpc
import msgspec
import pytest

from protos.envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from tests.e2e.processes.conftest import POLICY, NewPlace
from tests.e2e.support.clients import CHECK, call, channel_to
from tests.e2e.support.instance import Instance
from tests.fakes.envoy import check_request

OPEN = "p, *, *, GET, /new, allow\n"
BAD = "p, *, *, GET, /new, allow\np, *, *, GET, /bad, perhaps\n"
WRONG_LINE = "policy.csv:2: "


class Decider:
    """One instance and a channel on which to ask it."""

    def __init__(self, instance: Instance, channel: grpc.Channel) -> None:
        self.instance = instance
        self.file = instance.place.policy / "policy.csv"
        self._channel = channel

    def allows(self, path: str) -> bool:
        """Ask about a path."""
        return self.rule(path)[0]

    def rule(self, path: str) -> tuple[bool, str]:
        """Ask about a path; give the verdict and the rule that decided."""
        message = check_request(path).SerializeToString()
        answer = CheckResponse.FromString(call(self._channel, CHECK, message))
        told = answer.dynamic_metadata["meshwarden"]
        return answer.status.code == 0, str(told["rule"])

    def policy(self) -> dict[str, object]:
        """What `meshwarden status` says of the policy."""
        return dict(self.instance.status()["policy"])


@pytest.fixture(scope="module")
def running(new_place: NewPlace) -> Iterator[Decider]:
    """Run two fronts."""
    with new_place({"server.fronts": 2}).start() as instance:
        instance.wait_ready()
        with channel_to(instance.place.port) as channel:
            yield Decider(instance, channel)


@pytest.fixture
def decider(running: Decider) -> Decider:
    """Give the shared instance with its first policy in force."""
    shutil.rmtree(running.instance.place.policy)
    running.instance.place.policy.mkdir()
    running.file.write_text(POLICY["policy.csv"])
    done = running.instance.place.command("reload")
    assert done.returncode == 0, done.stderr
    assert not running.allows("/new")
    return running


def test_an_edit_is_in_force_without_a_word(decider: Decider) -> None:
    """The folder is looked at."""
    decider.file.write_text(OPEN)
    decider.instance.wait_for(lambda: decider.allows("/new"))


def test_a_reload_returns_when_every_front_decides_by_the_new_policy(decider: Decider) -> None:
    """No wait after the command, on any front: each connection goes to another."""
    decider.file.write_text(OPEN)
    done = decider.instance.place.command("reload", "-o", "json")
    digest = json.loads(done.stdout)["digest"]
    fronts = [each for each in decider.instance.status()["processes"] if each["kind"] == "front"]
    assert [each["digest"] for each in fronts] == [digest, digest]
    for _ in range(10):
        with channel_to(decider.instance.place.port) as channel:
            assert Decider(decider.instance, channel).allows("/new")


def test_sighup_reloads(new_place: NewPlace, run: Callable[..., Instance]) -> None:
    """Also where nobody watches the folder."""
    instance = run(new_place({"policy.watch": False})).wait_ready()
    with channel_to(instance.place.port) as channel:
        decider = Decider(instance, channel)
        decider.file.write_text(OPEN)
        loads = instance.metric("meshwarden_policy_loads_total", result="loaded")
        assert not decider.allows("/new")
        instance.send_signal(signal.SIGHUP)
        instance.wait_for(lambda: decider.allows("/new"))
        assert instance.metric("meshwarden_policy_loads_total", result="loaded") == loads + 1


def test_sighups_during_the_start_end_nothing(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Before control can hear one, it would be its death."""
    place = new_place()
    instance = run(place)
    instance.wait_for((place.run_dir / "supervisor.sock").exists)
    while not instance.is_ready():
        instance.send_signal(signal.SIGHUP)
    assert "control ended" not in instance.said()


def test_a_bad_edit_keeps_the_last_good_policy_and_status_says_why(decider: Decider) -> None:
    """File, line, since when, and by which policy is decided meanwhile."""
    before = decider.policy()
    decider.file.write_text(BAD)

    done = decider.instance.place.command("reload")

    assert done.returncode == 2
    assert WRONG_LINE in done.stderr
    assert f"policy {str(before['digest'])[:12]} stays in force" in done.stderr
    assert decider.allows("/public/a")
    assert not decider.allows("/new")
    now = decider.policy()
    assert now["digest"] == before["digest"]
    assert [str(error).startswith(WRONG_LINE) for error in list(now["errors"])] == [True]  # type: ignore[call-overload]
    decider.instance.wait_for(lambda: decider.policy()["failing_for_s"] > 0.5)  # type: ignore[operator]
    shown = decider.instance.place.command("status").stdout
    assert WRONG_LINE in shown
    assert "loads have failed for" in shown


def test_a_mended_policy_clears_the_error(decider: Decider) -> None:
    """And the age of the failure with it."""
    decider.file.write_text(BAD)
    decider.instance.wait_for(lambda: decider.policy()["errors"])
    decider.file.write_text(OPEN)
    decider.instance.wait_for(lambda: not decider.policy()["errors"])
    assert decider.policy()["failing_for_s"] == 0
    decider.instance.wait_for(lambda: decider.allows("/new"))


def test_a_failed_load_is_tried_again_even_if_nothing_changed(decider: Decider) -> None:
    """What was wrong may have been the disk, a mount or a module."""
    decider.file.write_text(BAD)
    decider.instance.wait_for(lambda: decider.policy()["errors"])
    failed = decider.instance.metric("meshwarden_policy_loads_total", result="failed")
    decider.instance.wait_for(
        lambda: decider.instance.metric("meshwarden_policy_loads_total", result="failed") > failed
    )


def test_rules_that_moved_to_other_lines_are_named_by_the_new_ones(decider: Decider) -> None:
    """The rules are the same, and so is their digest."""
    digest = decider.policy()["digest"]
    assert decider.rule("/public/a") == (True, "policy.csv:1")
    decider.file.write_text("# A comment.\n\n" + POLICY["policy.csv"])
    decider.instance.wait_for(lambda: decider.rule("/public/a") == (True, "policy.csv:3"))
    assert decider.policy()["digest"] == digest


def test_a_folder_that_is_replaced_is_followed(decider: Decider) -> None:
    """As a deployment does it: a new folder beside the old one, then a rename or two."""
    policy = decider.instance.place.policy
    fresh = policy.with_name("fresh")
    fresh.mkdir()
    (fresh / "policy.csv").write_text(OPEN)
    policy.rename(policy.with_name("old"))
    fresh.rename(policy)
    decider.instance.wait_for(lambda: decider.allows("/new"))
    shutil.rmtree(policy.with_name("old"))


def test_files_swapped_behind_a_link_are_followed(decider: Decider) -> None:
    """As Kubernetes mounts a ConfigMap: policy.csv is a link through `..data`, which is swapped."""
    policy = decider.instance.place.policy
    decider.file.unlink()
    for name, text in (("..1", POLICY["policy.csv"]), ("..2", OPEN)):
        (policy / name).mkdir()
        (policy / name / "policy.csv").write_text(text)
    (policy / "..data").symlink_to("..1")
    decider.file.symlink_to("..data/policy.csv")
    assert decider.instance.place.command("reload").returncode == 0
    (policy / "..data_tmp").symlink_to("..2")
    (policy / "..data_tmp").rename(policy / "..data")
    decider.instance.wait_for(lambda: decider.allows("/new"))


def test_a_published_copy_that_was_damaged_is_written_again(decider: Decider) -> None:
    """Fronts refuse it and keep what they have; the next load mends it."""
    copy = decider.instance.place.state_dir / "policy.json"
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-10])
    decider.instance.wait_for(lambda: "checksum" in decider.instance.said())
    assert decider.allows("/public/a")
    assert decider.instance.place.command("reload").returncode == 0
    assert copy.read_bytes() == whole


def test_a_restart_without_its_source_serves_the_last_good_policy_and_says_so(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """The folder is gone between two starts."""
    place = new_place()
    before = run(place).wait_ready()
    digest = before.status()["policy"]["digest"]
    before.stop()
    shutil.rmtree(place.policy)

    instance = run(place).wait_ready()

    with channel_to(place.port) as channel:
        assert Decider(instance, channel).allows("/public/a")
    # Fronts answer by the copy before control has tried the folder and says so.
    instance.wait_for(lambda: instance.status()["policy"]["restored"])
    policy = instance.status()["policy"]
    assert policy["digest"] == digest
    assert "No such file" in policy["errors"][0]
    instance.wait_for(lambda: "restored from the last run" in instance.said())
    assert "from the local copy" in place.command("status").stdout

    place.policy.mkdir()
    (place.policy / "policy.csv").write_text(OPEN)
    instance.wait_for(lambda: not instance.status()["policy"]["restored"])


@pytest.mark.parametrize("damage", ["torn", "newer"])
def test_a_start_on_a_local_copy_of_no_use_and_without_its_source_is_refused(
    damage: str, new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """Half a policy is another policy, and so is one of whose format half is understood."""
    place = new_place()
    run(place).wait_ready().stop()
    shutil.rmtree(place.policy)
    copy = place.state_dir / "policy.json"
    if damage == "torn":
        copy.write_bytes(copy.read_bytes()[:-10])
        why = "the checksum does not match"
    else:
        rewrite_as_newer(copy.read_bytes(), copy.write_bytes)
        why = "is of format 99, written by a newer version"
    with place.start() as instance:
        assert instance.ended() == 2
        assert why in instance.said()


def rewrite_as_newer(text: bytes, write: Callable[[bytes], object]) -> None:
    """Write a published policy as a later version might."""
    # Checksum, then all but the rows, then the rows.
    body = msgspec.json.decode(text.split(b"\n")[1])
    body |= {"format": 99, "text": "in a way that is not known yet"}
    fresh = msgspec.json.encode(body)
    write(sha256(fresh).hexdigest().encode() + b"\n" + fresh)


def test_a_policy_that_is_too_old_turns_readiness_red_and_goes_on_deciding(
    new_place: NewPlace, run: Callable[..., Instance]
) -> None:
    """`policy.max_stale_s`, counted from the first load that failed; a good one turns it green."""
    place = new_place({"policy.max_stale_s": 1})
    instance = run(place).wait_ready()
    (place.policy / "policy.csv").write_text(BAD)
    instance.wait_for(lambda: instance.get("/readyz")[0] == 503)
    assert "the policy's source has not loaded for" in instance.get("/readyz")[1]
    assert instance.get("/healthz")[0] == 200
    instance.wait_for(lambda: not instance.is_ready())
    with channel_to(place.port) as channel:
        assert Decider(instance, channel).allows("/public/a")
    (place.policy / "policy.csv").write_text(OPEN)
    instance.wait_for(instance.answers)
