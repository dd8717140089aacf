"""Where the ledger ended, remembered outside its database."""

import asyncio
import logging
from pathlib import Path

import pytest

from ca.ledger import Head
from meshwarden.control.identity.heads import KnownHeads

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
NOW = 20_000 * DAY


def head(number: int) -> Head:
    """A head like any other."""
    return Head(number, number.to_bytes(32))


def test_the_last_head_of_each_day_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """And of today the newest."""
    now = NOW
    heads = KnownHeads(tmp_path / "heads", lambda: now)
    for number, moment in ((1, NOW), (2, NOW + SECOND), (3, NOW + DAY), (4, NOW + DAY + SECOND)):
        now = moment
        heads.wrote(head(number))
    heads.save()
    assert list(KnownHeads(tmp_path / "heads", lambda: now).all) == [head(2), head(4)]


def test_a_busy_ledger_is_written_down_once_a_second(tmp_path: Path) -> None:
    """A write of the file for each of the ledger's would double them."""
    now = NOW
    heads = KnownHeads(tmp_path / "heads", lambda: now)
    heads.wrote(head(1))
    now += SECOND // 2
    heads.wrote(head(2))
    assert list(KnownHeads(tmp_path / "heads", lambda: now).all) == [head(1)]
    now += SECOND
    heads.wrote(head(3))
    assert list(KnownHeads(tmp_path / "heads", lambda: now).all) == [head(3)]


def test_what_is_new_is_on_disk_within_a_second_though_nothing_follows(tmp_path: Path) -> None:
    """Whoever kills control then finds no room to cut the last write off."""

    async def story() -> None:
        heads = KnownHeads(tmp_path / "heads", lambda: NOW)
        heads.wrote(head(1))
        heads.wrote(head(2))
        following = asyncio.create_task(heads.run())
        async with asyncio.timeout(5):
            while list(KnownHeads(tmp_path / "heads", lambda: NOW).all) != [head(2)]:
                await asyncio.sleep(0.05)
        following.cancel()

    asyncio.run(story())


def test_a_head_that_the_ledger_lost_is_kept_beside_what_is_written_in_its_place(
    tmp_path: Path,
) -> None:
    """Over restarts, once, and also beside one of the same number."""
    heads = KnownHeads(tmp_path / "heads", lambda: NOW)
    heads.wrote(head(3))
    assert KnownHeads(tmp_path / "heads", lambda: NOW).newest == head(3)
    for _ in range(2):
        heads.lost(head(3))
    heads.wrote(Head(3, b"x" * 32))
    heads.save()
    again = KnownHeads(tmp_path / "heads", lambda: NOW)
    assert [*again.all] == [Head(3, b"x" * 32), head(3)]
    for number in range(200):
        again.lost(head(number))
    assert len(again.all) == 1 + 100


def test_it_does_not_grow_for_ever(tmp_path: Path) -> None:
    """A year of days and some."""
    now = NOW
    heads = KnownHeads(tmp_path / "heads", lambda: now)
    for day in range(600):
        now = NOW + day * DAY
        heads.wrote(head(day + 1))
    assert len(KnownHeads(tmp_path / "heads", lambda: now).all) == 400


@pytest.mark.parametrize("data", [b"", b"{}", b'{"heads": [[1, 2]]}', b'{"heads": [[1, 2, "zz"]]}'])
def test_a_file_that_can_not_be_read_is_told_and_begun_anew(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Issuing goes on; what was known before is lost, and that is said."""
    (tmp_path / "heads").write_bytes(data)
    caplog.set_level(logging.ERROR)
    heads = KnownHeads(tmp_path / "heads", lambda: NOW)
    assert not heads.all
    assert ("not known" in caplog.text) is (data != b"{}")
    heads.wrote(head(1))
    assert list(KnownHeads(tmp_path / "heads", lambda: NOW).all) == [head(1)]
