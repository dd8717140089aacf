"""What holds for every model, policy and request: index and scan agree, and so does pycasbin."""

from collections.abc import Callable
from random import Random
from typing import Any

import casbin
import pytest
from casbin.persist.adapters.string_adapter import StringAdapter
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from authz.policy.errors import PolicyError
from authz.policy.snapshot import Decision, Row, Snapshot
from tests.properties.engine_worlds import WORLDS, World

every_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
pycasbin_worlds = pytest.mark.parametrize(
    "world",
    [world for world in WORLDS if world.same_as_pycasbin],
    ids=lambda world: world.name,
)
few = settings(max_examples=40, deadline=None)
many = settings(max_examples=400, deadline=None)
seeds = st.integers(0, 2**32)
_REQUESTS = 8


@every_world
@few
@given(seed=seeds)
def test_an_indexed_decision_is_what_trying_every_rule_says(world: World, seed: int) -> None:
    """The index only saves time."""
    index_agrees(world, Random(seed))


@every_world
@few
@given(seed=seeds)
def test_the_order_of_rows_changes_no_verdict(world: World, seed: int) -> None:
    """Unless the order of rules is what the effect goes by."""
    order_agrees(world, Random(seed))


@pycasbin_worlds
@few
@given(seed=seeds)
def test_pycasbin_says_the_same_and_gives_the_same_rule(world: World, seed: int) -> None:
    """Verdict and explanation, wherever pycasbin does not raise."""
    pycasbin_agrees(world, Random(seed))


def index_agrees(world: World, chance: Random) -> None:
    """Compare decide() with decide_by_scan() in one world."""
    snapshot = built(world, world.rows(chance))
    for request in world.requests(chance, _REQUESTS):
        assert said(snapshot.decide(request)) == said(snapshot.decide_by_scan(request))


def order_agrees(world: World, chance: Random) -> None:
    """Compare a policy with itself, shuffled."""
    rows = world.rows(chance)
    snapshot = built(world, rows)
    shuffled = list(rows)
    chance.shuffle(shuffled)
    other = built(world, tuple(shuffled))
    if "priority" in world.name:
        return
    assert snapshot.digest == other.digest
    for request in world.requests(chance, _REQUESTS):
        assert snapshot.decide(request).allowed == other.decide(request).allowed


def pycasbin_agrees(world: World, chance: Random) -> None:
    """Compare with pycasbin's enforce_ex."""
    rows = world.rows(chance)
    snapshot = built(world, rows)
    enforcer = pycasbin(world, rows)
    for request in world.requests(chance, _REQUESTS):
        try:
            allowed, rule = enforcer.enforce_ex(*request)
        except Exception:  # noqa: BLE001, S112 - what pycasbin does not answer, we may
            continue
        assert snapshot.as_pycasbin(snapshot.decide(request)) == (allowed, list(rule)), request


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("agrees", [index_agrees, order_agrees])
@every_world
@many
@given(seed=seeds)
def test_index_and_order_for_many_more(
    agrees: Callable[[World, Random], None],
    world: World,
    seed: int,
) -> None:
    """Seventy thousand decisions of each kind."""
    agrees(world, Random(seed))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pycasbin_worlds
@many
@given(seed=seeds)
def test_pycasbin_for_many_more(world: World, seed: int) -> None:
    """Sixty thousand decisions."""
    pycasbin_agrees(world, Random(seed))


def built(world: World, rows: tuple[Row, ...]) -> Snapshot:
    """The world's policy; one with a role that nobody has is passed over."""
    try:
        return Snapshot.build(world.text(rows), options=world.options)
    except PolicyError as error:
        undefined = all("no g row gives" in str(fault) for fault in error.faults)
        assume(not undefined)
        raise


def said(decision: Decision) -> tuple[bool, int | None]:
    """A decision as far as it must be the same."""
    return decision.allowed, None if decision.rule is None else decision.rule.id


def pycasbin(world: World, rows: tuple[Row, ...]) -> Any:
    """An Enforcer of pycasbin with the same model and rows."""
    model = casbin.Enforcer.new_model(text=world.model)
    text = "\n".join(", ".join((row.ptype, *row.values)) for row in rows)
    return casbin.Enforcer(model, StringAdapter(text or "# nothing"))
