"""Policy from the revision store: in force at once, and loaded once."""

import asyncio
import time
from pathlib import Path

from typing_extensions import override

from authz.policy.rules import PolicyText
from authz.policy.snapshot import Snapshot
from authz.revisions import AuditEntry, Draft, RevisionStore
from meshwarden import plugins, publication
from meshwarden.control.source import PolicyPublisher
from meshwarden.control.store_source import STREAM, StoreSource
from meshwarden.follower import engine_options
from meshwarden.settings import Policy, Runtime, Settings
from tests.fakes.policy import mesh_text


class CountedSource(StoreSource):
    """Counts its loads."""

    loads = 0

    @override
    def load(self) -> PolicyText:
        self.loads += 1
        return super().load()


async def commit(store: RevisionStore, number: int, settings: Settings) -> None:
    """Make a revision, as any replica may."""
    text = mesh_text(f"p, *, *, GET, /{number}, allow")
    digest = Snapshot.build(text, None, engine_options(settings)).digest
    draft = Draft(text, digest, "ann", "why", "here")
    await store.commit(STREAM, number - 1, draft, AuditEntry(1, "ann", "local", "apply", "done"))


async def until_revision(folder: Path, number: int) -> float:
    """Wait until a revision is published; give how long that took, in seconds."""
    began_s = time.monotonic()
    async with asyncio.timeout(10):
        while publication.load(folder).revision != number:
            await asyncio.sleep(0.01)
    return time.monotonic() - began_s


def test_a_revision_is_loaded_once_and_soon_whoever_made_it(tmp_path: Path) -> None:
    """By another replica, or by who loads it then and there; nothing is waited for."""
    settings = Settings(
        runtime=Runtime(tmp_path, tmp_path), policy=Policy(source="store", path=tmp_path)
    )

    async def story() -> None:
        store, other = plugins.revision_store(settings), plugins.revision_store(settings)
        await commit(other, 1, settings)
        source = CountedSource(store, asyncio.get_running_loop())
        publisher = PolicyPublisher(settings, source, tmp_path, lambda: 1)
        running = [
            asyncio.create_task(publisher.run()),
            asyncio.create_task(source.follow(publisher.notice)),
        ]
        async with asyncio.timeout(10):
            while publication.stamp(tmp_path) is None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        assert source.loads == 1
        await commit(other, 2, settings)
        assert await until_revision(tmp_path, 2) < 0.5
        await asyncio.sleep(0.6)
        assert source.loads == 2
        await commit(store, 3, settings)
        await publisher.load()
        assert publication.load(tmp_path).revision == 3
        await asyncio.sleep(0.6)
        assert source.loads == 3
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await store.close()
        await other.close()
        await asyncio.sleep(0.2)

    asyncio.run(story())
