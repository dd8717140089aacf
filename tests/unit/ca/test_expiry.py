"""What is said of what expires, and when."""

from dataclasses import replace

import pytest

from ca.authority import Kind, Plan, State
from ca.expiry import Expiring, expired, in_use, warning_days
from tests.unit.ca.makings import DOMAIN, NOW, SECOND, authorities

DAY = 86_400 * SECOND


def lives(days: float, left: float) -> Expiring:
    """Something that lives so many days, of which some are left."""
    return Expiring("root", "it", int(NOW - (days - left) * DAY), int(NOW + left * DAY))


@pytest.mark.parametrize(
    ("left", "days"), [(31, 0), (30, 30), (8, 30), (7, 7), (1.01, 7), (1, 1), (0.01, 1)]
)
def test_warnings_come_at_30_7_and_1_days(left: float, days: int) -> None:
    """Promise 13."""
    assert warning_days(lives(365, left), NOW) == days


def test_what_is_meant_to_be_short_is_no_reason_to_warn() -> None:
    """A serving certificate of an hour, renewed at its half, is always within a day of its end."""
    assert warning_days(lives(1 / 24, 1 / 48), NOW) == 0
    assert warning_days(lives(20, 6), NOW) == 7


def test_only_what_is_in_use_counts() -> None:
    """The chain that signs, and the key of tokens; the ledger's key is of no matter to a peer."""
    used = in_use(authorities(Plan(DOMAIN, root_days=9, signer_days=5))[0])
    assert sorted(each.kind for each in used) == ["intermediate", "jwt", "root"]
    assert not expired(used, NOW + 5 * DAY - SECOND)
    assert sorted(each.kind for each in expired(used, NOW + 5 * DAY)) == ["intermediate", "jwt"]
    assert len(expired(used, NOW + 9 * DAY)) == 3


def test_what_signs_here_counts_though_another_one_is_active_elsewhere() -> None:
    """Replicas with an authority of files each: the last one that started is the active one."""
    made, others = (authorities(Plan(DOMAIN, signer_days=days))[0] for days in (5, 9))
    ours = made.active(Kind.INTERMEDIATE)
    assert ours is not None
    stepped_back = replace(ours, state=State.TRUSTED)
    both = made.after([stepped_back, *others.all])
    for signer_id, days in (("", 9), (ours.authority_id, 5)):
        (found,) = [each for each in in_use(both, signer_id) if each.kind == "intermediate"]
        assert found.not_after_ns == NOW + days * DAY
