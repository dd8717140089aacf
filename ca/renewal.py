"""When identities are renewed: arithmetic on times and draws, without a clock.

Leaves that were issued together must not be renewed together: the herd would only grow tighter
with each generation. So a renewal falls somewhere in the middle quarter of what an identity had
left when it arrived, and each generation draws anew.
"""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Renewals", "renewal_ns", "resumed_ns", "retry_pause_s"]

Name = TypeVar("Name", bound=Hashable)

# Half of life, give or take an eighth. With an hour to live that spreads a herd over 900 s: a
# second then holds 0.1 % of it on average. From 300 s on no second holds more than 2 %.
_EARLIEST = 0.375
_SPREAD = 0.25

_FIRST_PAUSE_S = 1.0
# Retries of a herd are spread in the same way: with an hour to live the pause grows to 120 s.
_PAUSES_IN_A_LIFE = 30
_LEAST_PAUSE_S = 0.25


def renewal_ns(arrived_ns: int, not_after_ns: int, draw: float) -> int:
    """Give the time at which to renew.

    Args:
        arrived_ns: When the identity was received. Not its not_before, which is back-dated: an
            identity of seconds would be past its half-life on arrival.
        not_after_ns: When it expires.
        draw: From 0 to below 1, a new one for each renewal.
    """
    life_ns = max(0, not_after_ns - arrived_ns)
    return arrived_ns + int(life_ns * (_EARLIEST + _SPREAD * draw))


def resumed_ns(planned_ns: int, not_after_ns: int, now_ns: int, draw: float) -> int:
    """Give the time at which to renew what was not looked after for a while.

    Whoever was cut off together comes back together: those whose time passed meanwhile must not
    renew in one moment, and need not, for they still hold.

    Args:
        planned_ns: When it was to be renewed.
        not_after_ns: When it expires.
        now_ns: The time.
        draw: From 0 to below 1, a new one for each renewal.
    """
    return planned_ns if planned_ns > now_ns else renewal_ns(now_ns, not_after_ns, draw)


def retry_pause_s(attempt: int, life_s: float, draw: float) -> float:
    """Give the pause after a renewal that failed.

    Args:
        attempt: How many have failed before this one, from 0.
        life_s: How long such an identity lives, in seconds: short ones are tried again sooner.
        draw: From 0 to below 1, a new one for each pause.

    Returns:
        Seconds, between half and all of a pause that doubles from one second.
    """
    longest_s = max(_LEAST_PAUSE_S, life_s / _PAUSES_IN_A_LIFE)
    # 2**30 s is beyond any life; a larger exponent would only overflow in the end.
    pause_s = min(longest_s, _FIRST_PAUSE_S * 2.0 ** min(attempt, 30))
    return pause_s * (0.5 + draw / 2)


class Renewals(Generic[Name]):
    """What is to be renewed when; each name once at most.

    A name that `due` gave is out of the plan until it is put back: it can't be given twice, which
    makes renewals single-flight.
    """

    def __init__(self) -> None:
        self._at_ns: dict[Name, int] = {}
        self._heap: list[tuple[int, int, Name]] = []
        self._puts = 0

    def put(self, name: Name, at_ns: int) -> None:
        """Plan a renewal, in place of the name's earlier one. Cost: O(log names)."""
        self._at_ns[name] = at_ns
        self._puts += 1  # Names needn't be comparable; the older plan goes first.
        heapq.heappush(self._heap, (at_ns, self._puts, name))

    def drop(self, name: Name) -> None:
        """Forget a name; no error where it isn't planned."""
        self._at_ns.pop(name, None)

    def due(self, now_ns: int, limit: int) -> list[Name]:
        """Take out the names whose time has come, the earliest first, at most `limit`."""
        taken: list[Name] = []
        while self._heap and len(taken) < limit:
            at_ns, _, name = self._heap[0]
            if self._at_ns.get(name) != at_ns:  # Dropped, taken or planned anew.
                heapq.heappop(self._heap)
                continue
            if at_ns > now_ns:
                break
            heapq.heappop(self._heap)
            del self._at_ns[name]
            taken.append(name)
        return taken

    def next_ns(self) -> int | None:
        """Give the time of the next renewal; None where nothing is planned."""
        while self._heap and self._at_ns.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        """How many names are planned."""
        return len(self._at_ns)
