"""What processes have seen of a candidate is added up, over the deaths of any of them."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from authz.check import CheckService
from authz.replicas import ShadowCounts
from meshwarden import publication, shadow
from meshwarden.decider import Decider
from meshwarden.files import RuntimeDir
from meshwarden.follower import PolicyFollower, build_policy, shadow_settings
from meshwarden.service import check_service
from meshwarden.settings import Policy, Runtime, Settings
from telemetry.record import DecisionRecord
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_policy, mesh_text


def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def says(folder: Path, name: str, *counts: int, pid: int = 0, published_ns: int = 7) -> None:
    """Write what a process has seen."""
    shadow.write_counts(folder, name, shadow.Seen(published_ns, pid or os.getpid(), *counts))


def test_counts_of_all_processes_are_summed(tmp_path: Path) -> None:
    """The newest word of each counts; what was said of another candidate does not."""
    tally = shadow.Tally(tmp_path, tmp_path)
    says(tmp_path, "front-0-1", 1, 2, 3)
    says(tmp_path, "front-1-2", 10, 20, 30)
    says(tmp_path, "front-2-3", 5, 5, 5, published_ns=6)
    tally.look(7)
    says(tmp_path, "front-0-1", 2, 2, 3)
    tally.look(7)
    assert tally.counts("d") == ShadowCounts("d", 12, 22, 33)


def test_what_the_dead_have_seen_stays_and_is_counted_once(tmp_path: Path) -> None:
    """Also when control itself has died between two looks."""
    says(tmp_path, "front-0-1", 1, 2, 3, pid=dead_pid())
    says(tmp_path, "front-1-2", 1, 0, 0)
    tally = shadow.Tally(tmp_path, tmp_path)
    tally.look(7)
    tally.look(7)
    assert [path.stem for path, _ in shadow.read_counts(tmp_path)] == ["front-1-2"]
    again = shadow.Tally(tmp_path, tmp_path)
    again.look(7)
    assert again.counts("d") == ShadowCounts("d", 2, 2, 3)


def test_another_candidate_begins_at_nothing(tmp_path: Path) -> None:
    """Even one of the same text: it was set anew."""
    says(tmp_path, "front-0-1", 1, 2, 3)
    tally = shadow.Tally(tmp_path, tmp_path)
    tally.look(7)
    tally.look(8)
    assert tally.counts("d") == ShadowCounts("d", 0, 0, 0)


def test_a_full_disk_makes_counts_old_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A front goes on deciding."""
    (tmp_path / "shadow").write_text("a file where the folder should be")
    says(tmp_path, "front-0-1", 1, 2, 3)
    assert "not up to date" in caplog.text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with all folders here."""
    (tmp_path / "shadow").mkdir()
    return Settings(runtime=Runtime(tmp_path, tmp_path), policy=Policy())


def publish(settings: Settings, *lines: str, published_ns: int = 5) -> None:
    """Publish a candidate."""
    found = publication.Publication(mesh_text(*lines), {}, "", published_ns, "test")
    digest = build_policy(found, settings).snapshot.digest
    apart = shadow_settings(settings).runtime.state_dir
    publication.publish(apart, replace_digest(found, digest))


def replace_digest(found: publication.Publication, digest: str) -> publication.Publication:
    """The same publication with its digest."""
    return publication.Publication(found.text, {}, digest, found.published_ns, "test")


async def until(condition: object) -> None:
    """Wait for a condition, 10 s at most."""
    assert callable(condition)
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_candidate_that_is_withdrawn_is_dropped(settings: Settings) -> None:
    """And one that comes back is judged by again."""
    service: CheckService[DecisionRecord] = check_service(settings)

    async def story() -> None:
        apart = shadow_settings(settings)
        follower = PolicyFollower(apart, service.shadow, may_end=True)
        task = asyncio.create_task(follower.follow())
        publish(settings, "p, *, shop, GET, /a, allow")
        await until(lambda: service.shadow.policy is not None)
        publication.withdraw(apart.runtime.state_dir)
        await until(lambda: service.shadow.policy is None)
        assert follower.state.digest == ""
        publish(settings, "p, *, shop, GET, /a, allow")
        await until(lambda: service.shadow.policy is not None)
        task.cancel()

    asyncio.run(story())


def test_a_process_counts_for_each_candidate_apart(settings: Settings) -> None:
    """What was counted before stays in the metric's totals, and out of the new one's counts."""

    async def story() -> None:
        decider = Decider(settings, RuntimeDir(settings.runtime.runtime_dir), "front-0", 0, _ignore)
        decider.service.policy = mesh_policy("p, *, catalog.shop, GET, /items/**, allow")
        task = asyncio.create_task(decider.run())
        request = check_request("/items/1").SerializeToString()

        def seen() -> list[tuple[int, int]]:
            decider.flush()
            found = shadow.read_counts(settings.runtime.runtime_dir)
            return [(each.published_ns, each.would_deny) for _, each in found]

        publish(settings, "p, *, catalog.shop, GET, /none, allow", published_ns=5)
        await until(lambda: decider.service.shadow.policy is not None)
        for _ in range(3):
            decider.service.answer(request, 1)
        assert seen() == [(5, 3)]
        before = decider.service.shadow.policy
        publish(settings, "p, *, catalog.shop, GET, /other, allow", published_ns=6)
        await until(lambda: decider.service.shadow.policy is not before)
        decider.service.answer(request, 1)
        assert seen() == [(6, 1)]
        assert decider.service.shadow.outcomes["would_deny"] == 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())


def _ignore(record: DecisionRecord) -> None:
    del record


def test_who_set_a_candidate_is_kept_and_forgotten(tmp_path: Path) -> None:
    """A damaged file is as good as none."""
    candidate = shadow.Candidate("d" * 64, 3, "ann", "folder", "why", 5)
    shadow.write_candidate(tmp_path, candidate)
    assert shadow.read_candidate(tmp_path) == candidate
    (tmp_path / "candidate.json").write_text("{")
    assert shadow.read_candidate(tmp_path) is None
    shadow.write_candidate(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
