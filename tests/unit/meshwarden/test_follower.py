"""A process that decides follows what is published, and keeps what it has when that is no use."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from authz.attributes import Attributes
from authz.check import CheckService
from meshwarden import follower, publication
from meshwarden.follower import PolicyFollower, PolicyState, build_policy
from meshwarden.service import check_service
from meshwarden.settings import Policy, Runtime, Settings
from telemetry.record import DecisionRecord
from tests.fakes.envoy import check_request
from tests.fakes.policy import mesh_text


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give settings with the state folder here."""
    return Settings(runtime=Runtime(tmp_path, tmp_path), policy=Policy())


@pytest.fixture
def service(settings: Settings) -> CheckService[DecisionRecord]:
    """Give the service that gets the policies."""
    return check_service(settings)


def publish(settings: Settings, *lines: str, first_line: int = 1) -> str:
    """Publish a policy of the mesh model; give its digest."""
    text = mesh_text(*lines)
    rows = (replace(row, line=row.line + first_line - 1) for row in text.rows)
    found = publication.Publication(replace(text, rows=tuple(rows)), {}, "", 5, "test")
    digest = build_policy(found, settings).snapshot.digest
    publication.publish(
        settings.runtime.state_dir, publication.Publication(found.text, {}, digest, 5, "test")
    )
    return digest


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, 10 s at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def followed(
    settings: Settings,
    service: CheckService[DecisionRecord],
    steps: Callable[[PolicyFollower], Iterable[Callable[[], object]]],
) -> list[PolicyState]:
    """Follow while the steps go on: each yields what is awaited before the next."""
    told: list[PolicyState] = []

    async def scenario() -> None:
        following = PolicyFollower(settings, service, told.append)
        await following.start(5)
        running = asyncio.create_task(following.follow())
        for condition in steps(following):
            await until(condition)
            assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    return told


def test_a_start_waits_for_the_first_policy(
    settings: Settings, service: CheckService[DecisionRecord]
) -> None:
    """And gives up in time."""

    async def nothing() -> None:
        await PolicyFollower(settings, service).start(0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(nothing())

    async def late() -> PolicyState:
        following = PolicyFollower(settings, service)
        starting = asyncio.create_task(following.start(5))
        await asyncio.sleep(0.05)
        publish(settings, "p, *, *, GET, /a, allow")
        await starting
        return following.state

    assert asyncio.run(late()).rules == 1
    assert service.policy is not None


def test_each_new_publication_is_put_in_force_whole(
    settings: Settings, service: CheckService[DecisionRecord]
) -> None:
    """One assignment, and it is told."""
    digests = [publish(settings, "p, *, *, GET, /a, allow")]

    def steps(following: PolicyFollower) -> Iterable[Callable[[], object]]:
        digests.append(publish(settings, "p, *, *, GET, /b, allow", "p, *, *, GET, /c, allow"))
        yield lambda: following.state.digest == digests[1]
        assert service.policy is not None
        assert service.policy.snapshot.digest == digests[1]

    told = followed(settings, service, steps)
    assert [(state.digest, state.rules, state.error) for state in told] == [
        (digests[0], 1, ""),
        (digests[1], 2, ""),
    ]


@pytest.mark.parametrize("content", [b"torn", b""])
def test_a_publication_of_no_use_leaves_the_last_in_force_and_is_told(
    content: bytes, settings: Settings, service: CheckService[DecisionRecord]
) -> None:
    """The next good one ends the trouble."""
    first = publish(settings, "p, *, *, GET, /a, allow")

    def steps(following: PolicyFollower) -> Iterable[Callable[[], object]]:
        (settings.runtime.state_dir / "policy.json").write_bytes(content)
        yield lambda: following.state.error
        assert following.state.digest == first
        assert "checksum" in following.state.error
        second = publish(settings, "p, *, *, GET, /b, allow")
        yield lambda: following.state.digest == second
        assert following.state.error == ""

    followed(settings, service, steps)


def test_a_publication_that_vanishes_changes_nothing(
    settings: Settings, service: CheckService[DecisionRecord]
) -> None:
    """The policy is in memory."""
    first = publish(settings, "p, *, *, GET, /a, allow")

    async def scenario() -> None:
        following = PolicyFollower(settings, service)
        await following.start(5)
        (settings.runtime.state_dir / "policy.json").unlink()
        await following._look()
        assert (following.state.digest, following.state.error) == (first, "")

    asyncio.run(scenario())


def test_a_policy_that_did_not_build_is_tried_again_though_the_file_is_the_same(
    settings: Settings, service: CheckService[DecisionRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module may have been missing."""
    monkeypatch.setattr(follower, "_RETRY_S", 0.1)
    first = publish(settings, "p, *, *, GET, /a, allow")
    file = settings.runtime.state_dir / "policy.json"

    def steps(following: PolicyFollower) -> Iterable[Callable[[], object]]:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        yield lambda: following.state.error
        with file.open("r+b") as same:
            same.write(whole)
        following._seen = publication.stamp(settings.runtime.state_dir)
        yield lambda: not following.state.error

    told = followed(settings, service, steps)
    assert told[-1].digest == first


def test_the_same_rules_on_other_lines_are_put_in_force(
    settings: Settings, service: CheckService[DecisionRecord]
) -> None:
    """What names a rule must name its line of now."""
    digest = publish(settings, "p, *, *, GET, /a, allow")

    def line() -> int:
        assert service.policy is not None
        request = service.policy.binding.request(Attributes(check_request("/a"), 0))
        rule = service.policy.snapshot.decide(request).rule
        return rule.line if rule else 0

    def steps(following: PolicyFollower) -> Iterable[Callable[[], object]]:
        assert line() == 1
        publish(settings, "p, *, *, GET, /a, allow", first_line=8)
        yield lambda: line() == 8
        assert following.state.digest == digest

    followed(settings, service, steps)
