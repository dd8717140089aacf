"""The drop-in Enforcer answers as pycasbin does: the same verdict by the same rule.

Where it does not, and is right, casbin_cases leaves the case out and names the divergence that
docs/divergences.md describes.
"""

import operator
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

import casbin
import pytest
from casbin import util
from casbin.core_enforcer import EnforceContext
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from authz.casbin import Enforcer
from authz.policy.errors import PolicyError
from authz.policy.snapshot import EngineOptions, PolicyText, Row, Snapshot, Terms
from tests.properties.casbin_cases import Case, make_case

_REQUESTS = 16
_NAMES_OF_A_LINK = 2
_FUNCTIONS = {"keyMatch2": util.key_match2_func, "keyMatch": util.key_match_func}


def enforcer(cls: Any, case: Case) -> Any:
    """One of the two enforcers with the case's policy."""
    made = cls(cls.new_model(text=case.model))
    for ptype, *values in case.rows:
        made.model.model[ptype[0]][ptype].policy.append(list(values))
    # What load_policy() does once it has the rows.
    made.model.sort_policies_by_subject_hierarchy()
    made.model.sort_policies_by_priority()
    made.model.build_role_links(made.rm_map)
    made.model.build_conditional_role_links(made.cond_rm_map)
    for key, name in case.role_matching.items():
        made.add_named_matching_func(key, _FUNCTIONS[name])
    for key, name in case.domain_matching.items():
        made.add_named_domain_matching_func(key, _FUNCTIONS[name])
    for link in case.conditions:
        kind = "" if len(link) == _NAMES_OF_A_LINK else "domain_"
        getattr(made, f"add_named_{kind}link_condition_func")("g", *link, operator.eq)
    made.add_function("same", operator.eq)
    if cls is casbin.Enforcer:
        # It has them, but not in its matchers.
        made.add_function("keyGet", util.key_get)
        made.add_function("keyGet2", util.key_get2)
        made.add_function("keyGet3", util.key_get3)
    return made


def asked(made: Any, request: tuple[Any, ...]) -> tuple[bool, list[str]]:
    """What an enforcer says to a request; whether the first value is a number tells which."""
    number, *values = request
    if number:
        context = EnforceContext(f"r{number}", f"p{number}", f"e{number}", f"m{number}")
        allowed, rule = made.enforce_ex(context, *values)
    else:
        allowed, rule = made.enforce_ex(*values)
    return allowed, list(rule)


def differences(case: Case) -> tuple[int, list[str]]:
    """Ask both about every request.

    Returns:
        How many pycasbin has answered, and what they differ in.
    """
    theirs, ours = enforcer(casbin.Enforcer, case), enforcer(Enforcer, case)
    answered = 0
    found = []
    for request in case.requests:
        try:
            expected = asked(theirs, request)
        except Exception:  # noqa: BLE001, S112 - what pycasbin does not answer, we may
            continue
        answered += 1
        said = asked(ours, request)
        if said != expected:
            found.append(f"{request}: pycasbin {expected}, ours {said}")
    return answered, found


def smallest(case: Case, fails: Callable[[Case], bool]) -> Case:
    """Leave out rows and requests for as long as the case fails."""
    for name in ("requests", "rows", "conditions"):
        at = 0
        while at < len(getattr(case, name)):
            rest = getattr(case, name)[:]
            del rest[at]
            smaller = Case(**{**vars(case), name: rest})
            if fails(smaller):
                case = smaller
            else:
                at += 1
    return case


def compare(examples: int, decisions: int) -> None:
    """Compare so many cases, in which pycasbin answers at least so many requests."""
    total = 0

    @settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.integers(0, 2**48))
    def run(seed: int) -> None:
        nonlocal total
        case = make_case(Random(seed), _REQUESTS)
        answered, found = differences(case)
        total += answered
        if found:
            least = smallest(case, lambda each: bool(differences(each)[1]))
            rows = "\n".join(", ".join(row) for row in least.rows)
            pytest.fail(f"seed {seed}\n{least}\n{least.model}\n{rows}\n{differences(least)[1]}")

    run()
    assert total >= decisions


def test_five_thousand_decisions_are_pycasbins() -> None:
    """On some three hundred models."""
    compare(420, 5_000)


def snapshot(case: Case) -> Snapshot | None:
    """The case's policy for the server; None if the server refuses it, or has no such links."""
    if case.conditions or "other" in {row[-1] for row in case.rows}:
        return None
    rows = tuple(
        [
            Row(ptype, tuple(values), "policy.csv", at)
            for at, (ptype, *values) in enumerate(case.rows, 1)
        ]
    )
    options = EngineOptions(
        backtracking_regex=True,
        role_matching=case.role_matching,
        domain_matching=case.domain_matching,
        functions={"same": operator.eq},
        now=lambda: datetime(2027, 1, 1),  # noqa: DTZ001 - Casbin's times are bare
    )
    try:
        return Snapshot.build(PolicyText(case.model, rows, "model.conf"), options=options)
    except PolicyError:
        return None


@settings(max_examples=150, deadline=None, phases=[Phase.generate], database=None)
@given(st.integers(0, 2**48))
def test_index_scan_and_any_order_of_rules_agree(seed: int) -> None:
    """Over the same models; where priorities make an order, only that order is kept."""
    chance = Random(seed)
    case = make_case(chance, _REQUESTS)
    made = snapshot(case)
    if made is None:
        return
    rows = case.rows
    chance.shuffle(rows)
    other = None if case.ordered else snapshot(case)
    for number, *values in case.requests:
        terms = Terms(*[letter + number for letter in "rpem"])
        decision = made.decide(values, terms)
        scanned = made.decide_by_scan(values, terms)
        assert (decision.allowed, decision.rule) == (scanned.allowed, scanned.rule)
        if other is not None:
            assert other.decide(values, terms).allowed == decision.allowed


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fifty_thousand_decisions_are_pycasbins() -> None:
    """On some four thousand models."""
    compare(4_500, 50_000)
