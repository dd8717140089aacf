"""The candidate of one instance: kept over restarts, changed by those who may, never in the way."""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from authz.policy.errors import PolicyError
from authz.revisions import StoreUnavailableError
from meshwarden import publication, shadow
from meshwarden.control.shadow import FixedShadowError, OtherShadowError, ShadowKeeper
from meshwarden.control.who import Who
from meshwarden.files import RuntimeDir
from meshwarden.settings import Policy, Runtime, Settings
from tests.fakes.policy import mesh_text

ANN = Who("ann", "local", is_local=True)
ONE = mesh_text("p, *, shop, GET, /a, allow")
OTHER = mesh_text("p, *, shop, GET, /b, allow", "p, *, shop, GET, /c, allow")


def keeper(folder: Path, now_ns: int = 5, **policy: object) -> ShadowKeeper:
    """One without a store; the same folder is the same instance."""
    settings = Settings(
        runtime=Runtime(folder, folder),
        policy=Policy(**policy),  # type: ignore[arg-type]
    )
    return ShadowKeeper(settings, RuntimeDir(folder), None, lambda: now_ns)


def set_on(kept: ShadowKeeper, text: publication.PolicyText = ONE) -> shadow.Candidate:
    """Set a candidate."""
    return asyncio.run(kept.set(text, "folder", "why", ANN))


def test_a_candidate_is_published_apart_and_kept_over_a_restart(tmp_path: Path) -> None:
    """With who set it, when and why."""
    made = set_on(keeper(tmp_path))
    again = keeper(tmp_path)
    assert again.candidate == made
    assert (made.author, made.origin, made.message, made.set_ns) == ("ann", "folder", "why", 5)
    assert again.text() == ONE
    assert publication.load(tmp_path / "shadow").digest == made.digest
    assert publication.stamp(tmp_path) is None


def test_one_with_a_fault_changes_nothing(tmp_path: Path) -> None:
    """What is there stays."""
    kept = keeper(tmp_path)
    made = set_on(kept)
    with pytest.raises(PolicyError):
        set_on(kept, mesh_text("p, *, shop, GET, /a, perhaps"))
    assert kept.candidate == made
    assert kept.text() == ONE


def test_what_is_taken_away_is_gone_after_a_restart_too(tmp_path: Path) -> None:
    """And a second time there is nothing to take away."""
    kept = keeper(tmp_path)
    made = set_on(kept)
    assert asyncio.run(kept.stop("", ANN)) == made
    assert asyncio.run(kept.stop("", ANN)) is None
    assert keeper(tmp_path).candidate is None
    assert publication.stamp(tmp_path / "shadow") is None


def test_one_whose_author_went_away_is_not_overtaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is judged by and what is told of it are of one candidate, the last that was set."""
    kept, publish = keeper(tmp_path), publication.publish
    is_begun, meeting, met = threading.Event(), threading.Barrier(2), []

    def meet(*made: Any) -> None:
        is_begun.set()
        with contextlib.suppress(threading.BrokenBarrierError):
            met.append(meeting.wait(0.5))
        publish(*made)

    monkeypatch.setattr(publication, "publish", meet)

    async def story() -> shadow.Candidate:
        first = asyncio.create_task(kept.set(ONE, "folder", "why", ANN))
        await asyncio.to_thread(is_begun.wait, 10)
        first.cancel()
        return await kept.set(OTHER, "folder", "why", ANN)

    made = asyncio.run(story())
    assert (met, kept.candidate, kept.text()) == ([], made, OTHER)


def test_only_the_candidate_that_was_seen_is_taken_away(tmp_path: Path) -> None:
    """Somebody else's stays, and is named."""
    kept = keeper(tmp_path)
    first = set_on(kept)
    second = set_on(kept, OTHER)
    with pytest.raises(OtherShadowError, match="ann has set another candidate meanwhile"):
        asyncio.run(kept.stop(first.digest, ANN))
    assert kept.candidate == second


def test_one_that_the_configuration_named_once_is_forgotten_with_the_setting(
    tmp_path: Path,
) -> None:
    """No command has set it."""
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / "policy.csv").write_text("p, *, shop, GET, /a, allow\n")
    fixed = keeper(tmp_path, shadow=folder)

    async def story() -> None:
        task = asyncio.create_task(fixed.run())
        async with asyncio.timeout(10):
            while fixed.candidate is None:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert fixed.candidate is not None
    assert fixed.candidate.is_fixed
    with pytest.raises(FixedShadowError, match=r"policy\.shadow"):
        set_on(fixed)
    assert publication.stamp(tmp_path / "shadow") is not None
    assert keeper(tmp_path).candidate is None
    assert publication.stamp(tmp_path / "shadow") is None


def test_a_disk_that_takes_nothing_is_told_and_keeps_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control starts, too: nobody obeys a candidate."""
    kept = keeper(tmp_path)
    made = set_on(kept)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publication, "publish", full)
        with pytest.raises(StoreUnavailableError, match="No space left"):
            set_on(kept, OTHER)
    assert kept.candidate == made
    assert keeper(tmp_path).text() == ONE
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        assert keeper(tmp_path).candidate == made
