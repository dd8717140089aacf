"""How this instance says to the others that it is well, and what it shows of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.replicas import Replica, ShadowCounts
from authz.revisions import StoreUnavailableError
from meshwarden import status
from meshwarden.control.replicas import ReplicaReporter
from meshwarden.files import RuntimeDir
from meshwarden.settings import Runtime, Settings
from tests.fakes.replicas import FakeBoard


class Instance:
    """A reporter and what it tells of."""

    def __init__(self, folder: Path, board: FakeBoard | None) -> None:
        self.load = status.LoadState(digest="d" * 64, revision=3, published_ns=5)
        self.counts = ShadowCounts()
        self.runtime_dir = folder
        self.reporter = ReplicaReporter(
            Settings(runtime=Runtime(folder, folder)),
            RuntimeDir(folder),
            board,
            lambda: self.load,
            lambda: self.counts,
        )

    def shown(self) -> status.Replicas:
        """What the supervisor reads."""
        return status.read_replicas(self.runtime_dir)

    async def lives(self, *steps: Callable[[], object]) -> None:
        """Run it until each of these is true, one after the other."""
        task = asyncio.create_task(self.reporter.run())
        async with asyncio.timeout(20):
            for step in steps:
                while not step():
                    assert not task.done()
                    await asyncio.sleep(0.01)
        task.cancel()


@pytest.fixture
def board() -> FakeBoard:
    """What replicas share."""
    return FakeBoard()


def test_a_change_is_told_at_once_and_its_error_with_it(tmp_path: Path, board: FakeBoard) -> None:
    """Well before the next slow beat."""
    one = Instance(tmp_path, board)

    def fails() -> bool:
        one.load = status.LoadState(digest="d" * 64, revision=3, errors=("a.csv:1: bad", "b"))
        return True

    def is_told() -> bool:
        return any(each.error == "a.csv:1: bad\nb" for each in board.rows.values())

    asyncio.run(one.lives(lambda: board.rows, fails, is_told))
    (told,) = board.rows.values()
    assert (told.revision, told.digest) == (3, "d" * 64)
    assert one.shown().replicas[0].error == "a.csv:1: bad\nb"


def test_counts_alone_wait_for_the_slow_beat(tmp_path: Path, board: FakeBoard) -> None:
    """They change with every request."""
    one = Instance(tmp_path, board)

    async def story() -> None:
        task = asyncio.create_task(one.reporter.run())
        for number in range(10):
            one.counts = ShadowCounts("", number)
            await asyncio.sleep(0.15)
        task.cancel()

    asyncio.run(story())
    assert board.beats == 1


@pytest.mark.parametrize("error", [StoreUnavailableError("the store is away"), ValueError("ours")])
def test_a_board_that_fails_ends_nothing_and_ages_what_was_known(
    tmp_path: Path, board: FakeBoard, error: Exception
) -> None:
    """Of this one there is always news; once the board is back, of all."""
    other = Replica("other", "b.example", "0.0.0.0:1", "0.1", 2, "e" * 64, 5, "", 4)
    board.rows["other"] = other
    one = Instance(tmp_path, board)

    def breaks() -> bool:
        board.error = error
        one.load = status.LoadState(digest="f" * 64, revision=4)
        return True

    def is_shown() -> bool:
        known = one.shown()
        return bool(known.error) and {each.digest for each in known.replicas} == {
            "f" * 64,
            "e" * 64,
        }

    def is_mended() -> bool:
        board.error = None
        one.load = status.LoadState(digest="f" * 64, revision=5)
        return True

    asyncio.run(
        one.lives(
            lambda: len(one.shown().replicas) == 2,
            breaks,
            is_shown,
            is_mended,
            lambda: not one.shown().error,
        )
    )
    assert max(each.revision for each in one.shown().replicas) == 5


def test_one_that_stops_leaves_and_waits_for_nobody(tmp_path: Path, board: FakeBoard) -> None:
    """A board that is away keeps no stop waiting."""
    one = Instance(tmp_path, board)
    asyncio.run(one.lives(lambda: board.rows))
    asyncio.run(one.reporter.leave())
    assert not board.rows
    board.error = StoreUnavailableError("away")
    asyncio.run(one.reporter.leave())


def test_a_board_that_hangs_is_told_and_holds_up_no_stop(tmp_path: Path, board: FakeBoard) -> None:
    """A driver may take longer to give up than to answer: it is not waited for, nor asked twice."""
    one = Instance(tmp_path, board)

    async def story() -> None:
        board.hangs = True
        task = asyncio.create_task(one.reporter.run())
        async with asyncio.timeout(10):
            while not one.shown().error:
                await asyncio.sleep(0.01)
        assert [each.revision for each in one.shown().replicas] == [3]
        assert board.beats == 1
        task.cancel()
        async with asyncio.timeout(0.5):
            await asyncio.gather(task, return_exceptions=True)
            await one.reporter.leave()
        board.hangs = False

    asyncio.run(story())


def test_a_replica_keeps_its_id_with_its_state(tmp_path: Path, board: FakeBoard) -> None:
    """A restart is the same replica; another state folder is another one."""
    for _ in range(2):
        asyncio.run(Instance(tmp_path, board).lives(lambda: board.beats))
    assert len(board.rows) == 1
    (tmp_path / "replica-id").write_text("what is this")
    asyncio.run(Instance(tmp_path, board).lives(lambda: len(board.rows) == 2))


def test_one_that_shares_nothing_shows_itself(tmp_path: Path) -> None:
    """Without a board there is nobody else."""
    one = Instance(tmp_path, None)
    asyncio.run(one.lives(lambda: one.shown().replicas))
    (alone,) = one.shown().replicas
    assert alone.revision == 3
